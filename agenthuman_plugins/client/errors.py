"""Every error of the package.

```text
AgentHumanError
├── ConfigurationError              wrong or missing setting; nothing was sent
├── APIConnectionError              no answer
│   └── APITimeoutError
├── APIStatusError                  an answer that says no
│   ├── BadRequestError             400
│   ├── AuthenticationError         401
│   ├── PermissionDeniedError       403
│   ├── NotFoundError               404
│   ├── ConflictError               409
│   ├── RateLimitError              429
│   ├── UsageLimitError             minutes or concurrent sessions used up, whatever the status
│   └── ServerError                 5xx
├── APIResponseError                an answer that does not fit the models
├── SessionOutcomeUnknownError      a create whose answer was lost and could not be reconciled
└── SpeechLinkError                 the connection to the avatar could not be made, or broke
```
"""

from typing import Any, Literal


class AgentHumanError(Exception):
    """Base of every error.

    Attributes:
        request_id: The service's id of the request, for its support; `None` if there is none.
        retryable: Whether the same call can succeed later without a change.
    """

    def __init__(self, message: str, *, request_id: str | None = None, retryable: bool = False) -> None:
        super().__init__(printable(message))
        self.request_id = request_id
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state: the keyword arguments of subclasses differ."""
        return _rebuild, (type(self), self.args, self.__dict__)


def printable(text: str) -> str:
    """The text on one line, without control characters: what a service says must not steer a terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def _rebuild(cls: type[AgentHumanError], args: tuple[Any, ...], state: dict[str, Any]) -> AgentHumanError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(AgentHumanError):
    """Raised when a setting is missing or wrong; nothing was sent."""


class APIConnectionError(AgentHumanError):
    """Raised when no answer came."""


class APITimeoutError(APIConnectionError):
    """Raised when no answer came in time."""


class APIStatusError(AgentHumanError):
    """Raised when the service answers that it refuses or failed.

    Attributes:
        status_code: HTTP status.
        code: Machine-readable code of the answer, such as `INSUFFICIENT_MINUTES`.
        suggestion: What the service suggests to do.
        details: More of the answer's error object.
        body: The whole answer: parsed JSON, else text.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        code: str | None = None,
        suggestion: str | None = None,
        details: Any = None,
        body: Any = None,
        request_id: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, request_id=request_id, retryable=retryable)
        self.status_code = status_code
        self.code = code
        self.suggestion = suggestion
        self.details = details
        self.body = body


class BadRequestError(APIStatusError):
    """Raised on HTTP 400: an argument is wrong."""


class AuthenticationError(APIStatusError):
    """Raised on HTTP 401: the API key is missing, wrong or deactivated."""


class PermissionDeniedError(APIStatusError):
    """Raised on HTTP 403: the account or plan does not allow this."""


class NotFoundError(APIStatusError):
    """Raised on HTTP 404."""


class ConflictError(APIStatusError):
    """Raised on HTTP 409."""


class RateLimitError(APIStatusError):
    """Raised on HTTP 429 after the retries: too many requests."""


class UsageLimitError(APIStatusError):
    """Raised when minutes or concurrent sessions are used up, whatever the status; no retry cures it.

    Attributes:
        limit: `minutes` or `concurrency`, if the answer says which; the latter frees itself when a session ends.
    """

    limit: Literal["minutes", "concurrency"] | None = None


class ServerError(APIStatusError):
    """Raised on HTTP 5xx after the retries."""


class APIResponseError(AgentHumanError):
    """Raised when an answer does not fit the models.

    Attributes:
        body: The answer as it came.
    """

    def __init__(self, message: str, *, body: Any = None, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.body = body


class SessionOutcomeUnknownError(AgentHumanError):
    """Raised when a create was sent and not answered in time, or its answer was lost and no session could be found for it.

    What was not answered in time is ended while the program runs; a session whose answer was lost is yours to end.

    A refused create raises `APIStatusError` instead.

    Attributes:
        client_ref: Reference that was sent in `metadata`; look for it before creating again.
    """

    def __init__(self, message: str, *, client_ref: str | None) -> None:
        super().__init__(message)
        self.client_ref = client_ref


class SpeechLinkError(AgentHumanError):
    """Raised when the connection to the avatar could not be made, or broke."""
