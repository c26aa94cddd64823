"""The Agent Human API: sessions, opened and ended safely, sync and async.

The clients and the models are loaded at first use: what takes errors and rooms alone, as each avatar of the emulator
does in a process of its own, loads neither httpx nor pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agenthuman_plugins.client.errors import (
    AgentHumanError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SessionOutcomeUnknownError,
    SpeechLinkError,
    UsageLimitError,
)
from agenthuman_plugins.client.rooms import DailyRoom, LiveKitRoom

if TYPE_CHECKING:
    from agenthuman_plugins.client._async.client import AsyncAgentHuman
    from agenthuman_plugins.client._calls import BodyOptions, CallOptions
    from agenthuman_plugins.client._model import Answered
    from agenthuman_plugins.client._sync.client import AgentHuman
    from agenthuman_plugins.client.models import (
        Agent,
        Avatar,
        AvatarAllowance,
        AvatarList,
        AvatarPreview,
        Billing,
        Concurrency,
        Link,
        LinkSession,
        ManagedRoom,
        MinuteAccount,
        Minutes,
        Period,
        Plan,
        Session,
        SessionAvatar,
        SessionRoom,
        Usage,
        UsageSnapshot,
        VoiceAgent,
        VoiceAgentFields,
    )

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "Agent",
    "AgentHuman",
    "AgentHumanError",
    "Answered",
    "AsyncAgentHuman",
    "AuthenticationError",
    "Avatar",
    "AvatarAllowance",
    "AvatarList",
    "AvatarPreview",
    "BadRequestError",
    "Billing",
    "BodyOptions",
    "CallOptions",
    "Concurrency",
    "ConfigurationError",
    "ConflictError",
    "DailyRoom",
    "Link",
    "LinkSession",
    "LiveKitRoom",
    "ManagedRoom",
    "MinuteAccount",
    "Minutes",
    "NotFoundError",
    "Period",
    "PermissionDeniedError",
    "Plan",
    "RateLimitError",
    "ServerError",
    "Session",
    "SessionAvatar",
    "SessionOutcomeUnknownError",
    "SessionRoom",
    "SpeechLinkError",
    "Usage",
    "UsageLimitError",
    "UsageSnapshot",
    "VoiceAgent",
    "VoiceAgentFields",
]

_PLACES = {
    "AgentHuman": "_sync.client",
    "AsyncAgentHuman": "_async.client",
    "Answered": "_model",
    "BodyOptions": "_calls",
    "CallOptions": "_calls",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES.get(name, 'models')}"), name)
