"""Audio to the avatar, its picture and voice back.

`LiveKitSpeechLink` is loaded at first use: it needs `livekit`, which only an extra installs.
"""

from typing import TYPE_CHECKING, Any

from agenthuman_plugins.client.rooms import AVATAR_IDENTITY
from agenthuman_plugins.speech.inprocess import InProcessSpeechLink
from agenthuman_plugins.speech.link import (
    SPEECH_SAMPLE_RATE,
    AvatarAudio,
    AvatarConnected,
    AvatarDisconnected,
    AvatarVideo,
    LinkEvent,
    LinkLost,
    PlaybackFinished,
    PlaybackStarted,
    Reconnected,
    Reconnecting,
    SpeechLink,
)

if TYPE_CHECKING:
    from agenthuman_plugins.speech.livekit import LiveKitSpeechLink

__all__ = [
    "AVATAR_IDENTITY",
    "SPEECH_SAMPLE_RATE",
    "AvatarAudio",
    "AvatarConnected",
    "AvatarDisconnected",
    "AvatarVideo",
    "InProcessSpeechLink",
    "LinkEvent",
    "LinkLost",
    "LiveKitSpeechLink",
    "PlaybackFinished",
    "PlaybackStarted",
    "Reconnected",
    "Reconnecting",
    "SpeechLink",
]


def __getattr__(name: str) -> Any:
    if name == "LiveKitSpeechLink":
        from agenthuman_plugins.speech.livekit import LiveKitSpeechLink  # noqa: PLC0415 - see the docstring

        return LiveKitSpeechLink
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
