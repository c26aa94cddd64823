"""Agent Human sessions as LangChain tools, and an avatar as the last stage of a voice agent.

Needs `langchain-core` alone. `SessionCleanupMiddleware` is loaded at first use: it needs `langchain`, for whose agents
it is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agenthuman_plugins.langchain._origin import SessionRequest
from agenthuman_plugins.langchain.toolkit import AgentHumanToolkit

if TYPE_CHECKING:
    from agenthuman_plugins.langchain.middleware import SessionCleanupMiddleware
    from agenthuman_plugins.langchain.stage import AvatarStage, heard_only
    from agenthuman_plugins.langchain.tts import TextToSpeech

__all__ = [
    "AgentHumanToolkit",
    "AvatarStage",
    "SessionCleanupMiddleware",
    "SessionRequest",
    "TextToSpeech",
    "heard_only",
]

_LAZY = {
    "AvatarStage": "stage",
    "SessionCleanupMiddleware": "middleware",
    "TextToSpeech": "tts",
    "heard_only": "stage",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
