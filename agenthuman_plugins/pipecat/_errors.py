"""What a failure is called in Pipecat's terms."""

from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import (
    AgentHumanError,
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SessionOutcomeUnknownError,
    SpeechLinkError,
    UsageLimitError,
)
from agenthuman_plugins.client.redaction import redact

_MOST_SHOWN = 100  # characters of an avatar


class SessionCapError(AgentHumanError):
    """Raised when the sessions of a run have reached `max_session_secs`."""


_CATEGORIES: dict[type[AgentHumanError], ErrorCategory] = {
    AuthenticationError: ErrorCategory.AUTHENTICATION,
    PermissionDeniedError: ErrorCategory.AUTHORIZATION,
    BadRequestError: ErrorCategory.INVALID_REQUEST,
    NotFoundError: ErrorCategory.INVALID_REQUEST,
    ConfigurationError: ErrorCategory.INVALID_REQUEST,
    UsageLimitError: ErrorCategory.QUOTA,
    SessionCapError: ErrorCategory.QUOTA,
    RateLimitError: ErrorCategory.RATE_LIMIT,
    ServerError: ErrorCategory.SERVER,
    APIConnectionError: ErrorCategory.CONNECTIVITY,
    SpeechLinkError: ErrorCategory.CONNECTIVITY,
}


def shown_avatar(avatar: str | None) -> str | None:
    """An avatar as an error may show it: it can be a signed address, or a whole picture as a data URI."""
    if avatar is None or len(shown := redact(avatar)) <= _MOST_SHOWN:
        return avatar and redact(avatar)
    return f"{shown[:_MOST_SHOWN]}…"


def category_of(reason: BaseException | str) -> ErrorCategory:
    """Category of a reason for which there is no avatar."""
    if isinstance(reason, SessionOutcomeUnknownError) and reason.__cause__ is not None:
        reason = reason.__cause__  # what became of the create's answer
    return next((c for kind, c in _CATEGORIES.items() if isinstance(reason, kind)), ErrorCategory.UNKNOWN)
