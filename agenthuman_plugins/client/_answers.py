"""What an answer means: a value, or one of our errors. No I/O."""

import email.utils
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import ValidationError

from agenthuman_plugins.client.errors import (
    AgentHumanError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UsageLimitError,
)
from agenthuman_plugins.client.redaction import redact

_T = TypeVar("_T")

_BY_STATUS: Mapping[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitError,
}
_PASSING = frozenset({408, 429, 500, 502, 503, 504})  # statuses that the same request may not meet again

# One such code is documented (INSUFFICIENT_MINUTES); the concurrency limit has another that no page tells.
_USAGE_CODE = re.compile(r"MINUTES|CONCURREN|INSUFFICIENT|QUOTA|(?:USAGE|PLAN|SESSION)\w*LIMIT")
# For a code that we do not know. It must not match the rate limit's "Please retry after 1 minute."
_USAGE_TEXT = re.compile(r"concurren|no minutes|insufficient minutes|minutes remaining", re.IGNORECASE)
_USAGE_TEXT_STATUSES = frozenset(
    {400, 403, 409, 429}
)  # those that may tell of a limit; a 5xx tells of itself
_TEXT_LIMIT = 500  # characters of a message: what is longer is a page, not a sentence


# What a programmer can do, where the service does not say it itself.
HINTS: Mapping[type[APIStatusError], str] = {
    AuthenticationError: "Check the key: the api_key argument, else AGENTHUMAN_API_KEY.",
    UsageLimitError: "End a session that is still open, or get a larger plan; trying again does not help.",
    NotFoundError: "Check the address: the base_url argument, else AGENTHUMAN_BASE_URL.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer.

    Attributes:
        status: HTTP status.
        headers: Header values; asked for by lower-case name.
        content: The body as it came, decompressed.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is any 2xx; which one an endpoint uses is not documented."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the HTTP class itself

    @property
    def request_id(self) -> str | None:
        """The service's id of the request."""
        return self.headers.get("x-request-id")

    def body(self) -> Any:
        """The parsed JSON, else the text."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return self.content.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A request that got no complete answer.

    Attributes:
        reason: Who did not answer, and what happened; without path, query or headers.
        may_have_arrived: Whether the service may have received and processed the request.
        timed_out: Whether it was given up for time.
    """

    reason: str
    may_have_arrived: bool
    timed_out: bool


Outcome = Answer | NoAnswer


def understand(outcome: Outcome, parse: Callable[[Any], _T], secrets: Collection[str]) -> _T:
    """Read the value out of an outcome.

    Args:
        outcome: What became of the request.
        parse: Makes the value of the parsed body.
        secrets: Values that must not show in an error.

    Raises:
        APIConnectionError: No answer.
        APIStatusError: An answer that says no, also with a 2xx status and `"success": false`.
        APIResponseError: An answer that does not fit.
    """
    if isinstance(outcome, NoAnswer):
        raise _connection_error(outcome)
    body = outcome.body()
    if not outcome.ok or (isinstance(body, dict) and body.get("success") is False):
        raise _status_error(outcome, body, secrets)
    try:
        return parse(body)
    # Without `from`: the cause would carry the reply, tokens included.
    except ValidationError as error:
        wrong = ", ".join(
            ".".join(map(str, item["loc"])) or "body" for item in error.errors(include_url=False)
        )
        reason = f"missing or wrong: {wrong}"
    except (AttributeError, LookupError, TypeError, ValueError):
        reason = "it does not have the documented form"
    raise APIResponseError(
        f"The answer of the service could not be read ({reason}). {_trace(outcome)}",
        body=redact(body, secrets),
        request_id=outcome.request_id,
    )


def is_refusal(error: AgentHumanError) -> bool:
    """Whether the service surely did nothing: it said no, in a way that leaves no doubt."""
    return isinstance(error, APIStatusError) and not (
        isinstance(error, ServerError) or error.status_code == HTTPStatus.REQUEST_TIMEOUT
    )


def is_unknown_route(error: AgentHumanError) -> bool:
    """Whether a router refused, not the API: 404 or 405 without an error object of the API."""
    return (
        isinstance(error, APIStatusError)
        and error.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
        and not (isinstance(error.body, dict) and "error" in error.body)
    )


def retry_after(outcome: Outcome, now: float) -> float | None:
    """Seconds that the service asks us to wait; `None` if it does not say.

    Reads `Retry-After` (seconds or HTTP date) and, for a rate limit, `X-RateLimit-Reset` (epoch seconds).

    Args:
        outcome: What became of the request.
        now: Epoch seconds.
    """
    if isinstance(outcome, NoAnswer):
        return None
    if asked := outcome.headers.get("retry-after", "").strip():
        seconds = _number(asked)
        if seconds is None:
            try:
                seconds = email.utils.parsedate_to_datetime(asked).timestamp() - now
            except (ValueError, OverflowError):
                seconds = None
        if seconds is not None:
            return max(0.0, seconds)
    if outcome.status == HTTPStatus.TOO_MANY_REQUESTS:
        reset = _number(outcome.headers.get("x-ratelimit-reset", ""))
        if reset is not None:
            return max(0.0, reset - now)
    return None


def _number(text: str) -> float | None:
    # Digits only: float() would also take "nan", "inf" and "1_0".
    return float(text) if re.fullmatch(r"[0-9]{1,15}(?:\.[0-9]{1,6})?", text.strip()) else None


def _connection_error(outcome: NoAnswer) -> APIConnectionError:
    error = APITimeoutError if outcome.timed_out else APIConnectionError
    return error(f"No answer from {outcome.reason}.", retryable=True)


def _status_error(answer: Answer, body: Any, secrets: Collection[str]) -> APIStatusError:
    described = body.get("error") if isinstance(body, dict) else None
    if isinstance(described, str):
        described = {"message": described}
    elif not isinstance(described, dict):
        described = {}
    message = _sentence(described.get("message"), secrets)
    suggestion = _sentence(described.get("suggestion"), secrets)
    code = described.get("code") if isinstance(described.get("code"), str) else None

    # The code decides before the status: a used-up limit may come as a 429, which no retry cures.
    if _is_usage_limit(answer.status, code, message):
        cls: type[APIStatusError] = UsageLimitError
    elif answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        cls = ServerError
    else:
        cls = _BY_STATUS.get(answer.status, APIStatusError)
    return cls(
        " ".join(
            filter(
                None,
                (
                    message or "The service refused the request.",
                    suggestion or _hint(cls, message),
                    _trace(answer),
                ),
            )
        ),
        status_code=answer.status,
        code=code,
        suggestion=suggestion or None,
        details=redact(described.get("details"), secrets),
        body=redact(body, secrets),
        request_id=answer.request_id,
        retryable=answer.status in _PASSING and cls is not UsageLimitError,
    )


def _hint(cls: type[APIStatusError], message: str) -> str:
    if cls is NotFoundError and message:  # then the API itself was reached
        return ""
    return HINTS.get(cls, "")


def _is_usage_limit(status: int, code: str | None, message: str) -> bool:
    code = (code or "").upper()
    if "RATE" in code:
        return False
    return (
        bool(_USAGE_CODE.search(code))
        or status == HTTPStatus.PAYMENT_REQUIRED
        or (status in _USAGE_TEXT_STATUSES and bool(_USAGE_TEXT.search(message)))
    )


def _sentence(value: Any, secrets: Collection[str]) -> str:
    if not isinstance(value, str) or not value.strip():
        return ""
    text = str(redact(" ".join(value.split()), secrets))
    text = text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…"
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _trace(answer: Answer) -> str:
    request = f", request {answer.request_id}" if answer.request_id else ""
    return f"[HTTP {answer.status}{request}]"
