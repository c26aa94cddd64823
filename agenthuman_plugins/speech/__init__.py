"""Audio to the avatar, its picture and voice back.

`LiveKitSpeechLink` and `GatewaySpeechLink` are loaded at first use: they need `livekit` and `websockets`, which only
extras install.
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
from agenthuman_plugins.speech.of_session import speech_link

if TYPE_CHECKING:
    from agenthuman_plugins.speech.gateway import GatewaySpeechLink
    from agenthuman_plugins.speech.livekit import LiveKitSpeechLink

__all__ = [
    "AVATAR_IDENTITY",
    "SPEECH_SAMPLE_RATE",
    "AvatarAudio",
    "AvatarConnected",
    "AvatarDisconnected",
    "AvatarVideo",
    "GatewaySpeechLink",
    "InProcessSpeechLink",
    "LinkEvent",
    "LinkLost",
    "LiveKitSpeechLink",
    "PlaybackFinished",
    "PlaybackStarted",
    "Reconnected",
    "Reconnecting",
    "SpeechLink",
    "speech_link",
]


def __getattr__(name: str) -> Any:
    if name == "LiveKitSpeechLink":
        from agenthuman_plugins.speech.livekit import LiveKitSpeechLink  # noqa: PLC0415 - see the docstring

        return LiveKitSpeechLink
    if name == "GatewaySpeechLink":
        from agenthuman_plugins.speech.gateway import GatewaySpeechLink  # noqa: PLC0415 - see the docstring

        return GatewaySpeechLink
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
