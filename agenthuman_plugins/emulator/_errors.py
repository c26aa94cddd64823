"""The service's error answers, word for word where they are documented."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class EmulatorError(Exception):
    """Raised when the emulator cannot run; its text is one sentence that says what to do."""


class ServiceError(Exception):
    """An answer that says no.

    Attributes:
        status: HTTP status.
        body: JSON body.
        headers: Headers that go with it.
    """

    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        suggestion: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        fields = {"code": code, "message": message, "suggestion": suggestion, "details": details}
        error = {name: value for name, value in fields.items() if value is not None}
        self.body: dict[str, Any] = {"success": False, "error": error}


class UnauthorizedError(ServiceError):
    """An answer about the API key: its `error` is a string and it has no `success`."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message)
        self.body = {"error": message}


class TooManyRequestsError(ServiceError):
    """The answer of the rate limit: its `error` is a string."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(429, "Too many requests. Please retry after 1 minute.")
        self.body = {"success": False, "error": str(self)}
        self.headers = headers


class LimitError(NamedTuple):
    """How the service refuses what is used up, which the pages leave open in part.

    Example:
        ```python
        full = LimitError(429, "TOO_MANY_SESSIONS")
        emulator = Emulator(limit_errors={"sessions": full})
        ```

    Attributes:
        status: HTTP status.
        code: `error.code`; `None` for none.
        details: Whether `error.details` holds the numbers.
    """

    status: int = 403
    code: str | None = None
    details: bool = True


# The first code and the body without details are documented; the rest is ours.
LIMIT_ERRORS = {
    "minutes": LimitError(code="INSUFFICIENT_MINUTES", details=False),
    "sessions": LimitError(code="CONCURRENCY_LIMIT_REACHED"),
    "avatars": LimitError(code="AVATAR_LIMIT_REACHED"),
}


def bad_request(message: str, suggestion: str | None = None) -> ServiceError:
    """HTTP 400: an argument is wrong."""
    return ServiceError(400, message, suggestion=suggestion)


def access_denied() -> ServiceError:
    """HTTP 403: the avatar belongs to another account."""
    suggestion = "You do not have permission to create sessions with this avatar"
    return ServiceError(403, "Access denied to this avatar", suggestion=suggestion)


def image_avatar_denied() -> ServiceError:
    """HTTP 403: the free plan takes avatars by id only. The text is ours; the pages tell the status."""
    return ServiceError(
        403,
        "Image avatars require a paid plan",
        suggestion="Use an avatar id, such as one of GET /v1/avatars, or upgrade your plan",
    )


def avatar_not_found() -> ServiceError:
    """HTTP 404: no such avatar. The pages have no text for it; this one follows `Session not found`."""
    return ServiceError(
        404, "Avatar not found", suggestion="List the avatars that you can use with GET /v1/avatars"
    )


def avatar_is_no_look() -> ServiceError:
    """HTTP 400: an avatar without `parent_id`, in the older generation. The text is ours; the pages tell the rule."""
    return ServiceError(
        400,
        "Avatar is not a look",
        suggestion="Use an avatar with a parent_id: list them with GET /v1/avatars?characters_only=false",
    )


class AgentNotFoundError(ServiceError):
    """The answer about an agent that is not the caller's: its `error` is a string."""

    def __init__(self) -> None:
        super().__init__(404, "Agent not found or access denied")
        self.body = {"success": False, "error": str(self)}


def link_not_found() -> ServiceError:
    """HTTP 404: no such link, or one that cannot be used. The text is ours."""
    return ServiceError(404, "Link not found")


def avatar_limit_reached(error: LimitError, made: int, limit: int) -> ServiceError:
    """The plan's avatars of this period are used up."""
    return _used_up(
        error,
        f"Avatar limit reached: the plan includes {limit} avatars in each period",
        {"avatars": {"limit": limit, "used": made}},
        "Use a public avatar or upgrade your plan",
    )


def session_not_found() -> ServiceError:
    """HTTP 404: no such session."""
    return ServiceError(404, "Session not found")


def session_not_started() -> ServiceError:
    """HTTP 400: a created session cannot be ended. The text is ours; the pages tell the rule."""
    return ServiceError(
        400,
        "Session has not started",
        suggestion="Only started sessions can be ended; it costs nothing so far",
    )


def no_minutes(error: LimitError, minutes: dict[str, Any]) -> ServiceError:
    """The minutes are used up."""
    message = "No minutes remaining. Please purchase additional minutes or upgrade your plan."
    return _used_up(error, message, {"minutes": minutes})


def no_free_session(error: LimitError, concurrency: dict[str, int]) -> ServiceError:
    """Every concurrent session of the plan is in use."""
    return _used_up(
        error,
        f"Concurrent session limit reached ({concurrency['current']} of {concurrency['max']} in use).",
        {"concurrency": concurrency},
        "End a running session or upgrade your plan",
    )


def _used_up(
    error: LimitError, message: str, details: dict[str, Any], suggestion: str | None = None
) -> ServiceError:
    return ServiceError(
        error.status,
        message,
        code=error.code,
        suggestion=suggestion,
        details=details if error.details else None,
    )
