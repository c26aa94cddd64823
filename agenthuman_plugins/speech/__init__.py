"""Audio to the avatar, its picture and voice back.

`LiveKitSpeechLink` and `GatewaySpeechLink` are loaded at first use: they need `livekit` and `websockets`, which only
extras install. So is `speech_link`, which needs the client's models: an avatar of the emulator does without them.
"""

from importlib import import_module
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
    from agenthuman_plugins.speech.gateway import GatewaySpeechLink
    from agenthuman_plugins.speech.livekit import LiveKitSpeechLink
    from agenthuman_plugins.speech.of_session import speech_link

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


_LAZY = {"GatewaySpeechLink": "gateway", "LiveKitSpeechLink": "livekit", "speech_link": "of_session"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
