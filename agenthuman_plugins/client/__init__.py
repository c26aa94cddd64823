"""The Agent Human API: sessions, opened and ended safely, sync and async."""

from agenthuman_plugins.client._async import AsyncAgentHuman
from agenthuman_plugins.client._sync import AgentHuman
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
from agenthuman_plugins.client.models import (
    Billing,
    Concurrency,
    Minutes,
    Session,
    SessionRoom,
    UsageSnapshot,
)
from agenthuman_plugins.client.rooms import DailyRoom, LiveKitRoom

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AgentHuman",
    "AgentHumanError",
    "AsyncAgentHuman",
    "AuthenticationError",
    "BadRequestError",
    "Billing",
    "Concurrency",
    "ConfigurationError",
    "ConflictError",
    "DailyRoom",
    "LiveKitRoom",
    "Minutes",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "Session",
    "SessionOutcomeUnknownError",
    "SessionRoom",
    "SpeechLinkError",
    "UsageLimitError",
    "UsageSnapshot",
]
