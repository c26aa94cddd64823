"""What an answer means: a value, or one of our errors. No I/O."""

import email.utils
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from agenthuman_plugins.client._model import note_headers, request_id_in
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

# Exact codes, since words in others mean other things (INSUFFICIENT_PERMISSIONS, CONCURRENT_MODIFICATION, a server's
# INSUFFICIENT_CAPACITY). The first is documented; that of the concurrency limit is told by no page.
_USAGE_CODES: Mapping[str, Literal["minutes", "concurrency"] | None] = {
    "INSUFFICIENT_MINUTES": "minutes",
    "NO_MINUTES_REMAINING": "minutes",
    "MINUTES_EXHAUSTED": "minutes",
    "MINUTES_LIMIT_REACHED": "minutes",
    "INSUFFICIENT_CONCURRENCY": "concurrency",
    "CONCURRENCY_LIMIT": "concurrency",
    "CONCURRENCY_LIMIT_REACHED": "concurrency",
    "CONCURRENCY_LIMIT_EXCEEDED": "concurrency",
    "CONCURRENT_LIMIT_REACHED": "concurrency",
    "CONCURRENT_SESSION_LIMIT": "concurrency",
    "CONCURRENT_SESSION_LIMIT_REACHED": "concurrency",
    "CONCURRENT_SESSIONS_EXCEEDED": "concurrency",
    "MAX_CONCURRENT_SESSIONS": "concurrency",
    "SESSION_LIMIT_REACHED": "concurrency",
    "SESSION_LIMIT_EXCEEDED": "concurrency",
    "USAGE_LIMIT_REACHED": None,
    "USAGE_LIMIT_EXCEEDED": None,
    "PLAN_LIMIT_REACHED": None,
    "QUOTA_EXCEEDED": None,
}
# For an answer without a code. It must not match the rate limit's "Please retry after 1 minute."
_USAGE_TEXT = re.compile(
    r"(?P<concurrency>concurren(?:cy|t sessions?))|(?P<minutes>no minutes|insufficient minutes|minutes remaining)",
    re.IGNORECASE,
)
# Those that may tell of a limit; a 5xx tells of itself, unless its code is one of ours.
_LIMIT_STATUSES = frozenset({200, 400, 402, 403, 409, 429})
_TEXT_LIMIT = 500  # characters of a message: what is longer is a page, not a sentence


# What a programmer can do, where the service does not say it itself.
HINTS: Mapping[type[APIStatusError] | str, str] = {
    AuthenticationError: "Check the api_key argument, else AGENTHUMAN_API_KEY.",
    "concurrency": "End a session that is still open, or get a larger plan; trying again does not help.",
    "minutes": "Buy minutes, or wait for the next period; trying again does not help.",
    UsageLimitError: "See usage.get() for what is used up; trying again does not help.",
    NotFoundError: "Check the address: the base_url argument, else AGENTHUMAN_BASE_URL.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer.

    Attributes:
        status: HTTP status.
        headers: Header values; asked for by lower-case name.
        content: The body as it came, decompressed.
        unread: Why the body was not read to its end, if so.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    unread: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is any 2xx; which one an endpoint uses is not documented."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the HTTP class itself

    @property
    def request_id(self) -> str | None:
        """The service's id of the request."""
        return request_id_in(self.headers)

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

    @property
    def request_id(self) -> None:
        """There was no answer to tell one."""


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
    # The error is raised here, where no variable holds what the service said: tracebacks get printed with variables.
    value = _value_or_error(outcome, parse, secrets)
    if isinstance(value, AgentHumanError):
        raise value
    return value


def _value_or_error(
    outcome: Outcome, parse: Callable[[Any], _T], secrets: Collection[str]
) -> _T | AgentHumanError:
    if isinstance(outcome, NoAnswer):
        cls = APITimeoutError if outcome.timed_out else APIConnectionError
        return cls(f"No answer from {redact(outcome.reason, secrets)}.", retryable=True)
    body = outcome.body()
    if not outcome.ok or (isinstance(body, dict) and body.get("success") is False):
        return _status_error(outcome, body, secrets)
    if outcome.unread is not None:
        reason = outcome.unread
    else:
        try:
            value = parse(body)
        except ValidationError as error:
            wrong = ", ".join(
                ".".join(map(str, item["loc"])) or "body" for item in error.errors(include_url=False)
            )
            reason = f"missing or wrong: {wrong}"
        except (AttributeError, LookupError, TypeError, ValueError):
            reason = "it does not have the documented form"
        else:
            note_headers(value, outcome.headers)
            return value
    return APIResponseError(
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
    """Whether a router refused, not the API: 404 or 405 without an error of the API."""
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
                date = email.utils.parsedate_to_datetime(asked)
                # HTTP dates are in GMT; one without a zone must not be read in that of this machine.
                seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
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
    details = described.get("details")
    used_up = _used_up(answer.status, code, message, details)
    if used_up is not None:
        cls: type[APIStatusError] = UsageLimitError
    elif answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        cls = ServerError
    else:
        cls = _BY_STATUS.get(answer.status, APIStatusError)
    error = cls(
        " ".join(
            filter(
                None,
                (
                    message or "The service refused the request.",
                    suggestion or _hint(cls, message, used_up),
                    _trace(answer),
                ),
            )
        ),
        status_code=answer.status,
        code=code,
        suggestion=suggestion or None,
        details=redact(details, secrets),
        body=redact(body, secrets),
        request_id=answer.request_id,
        retryable=answer.status in _PASSING and used_up is None,
    )
    if isinstance(error, UsageLimitError):
        error.limit = used_up or None
    return error


def _hint(cls: type[APIStatusError], message: str, used_up: str | None) -> str:
    if used_up:
        return HINTS[used_up]
    if cls is NotFoundError and message:  # then the API itself was reached
        return ""
    return HINTS.get(cls, "")


def _used_up(
    status: int, code: str | None, message: str, details: Any
) -> Literal["minutes", "concurrency", ""] | None:
    """Which limit is used up; an empty text if it is not told which, `None` if none is."""
    known = (code or "").upper()
    told = _used_up_by(details)
    if known in _USAGE_CODES:
        return _USAGE_CODES[known] or told or ""
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return told or ""
    if status not in _LIMIT_STATUSES or "RATE" in known.split("_"):
        return None
    if told is None and not code and (said := _USAGE_TEXT.search(message)):
        return "concurrency" if said["concurrency"] else "minutes"
    return told


def _used_up_by(details: Any) -> Literal["minutes", "concurrency"] | None:
    """What the breakdown in an error says, in the form in which a create's reply shows the usage."""
    if not isinstance(details, dict):
        return None
    concurrency, minutes = details.get("concurrency"), details.get("minutes")
    if isinstance(concurrency, dict):
        available, current, most = (concurrency.get(key) for key in ("available", "current", "max"))
        if _is_none_left(available) or (
            isinstance(current, int) and isinstance(most, int) and current >= most
        ):
            return "concurrency"
    left = minutes.get("total_remaining", minutes.get("remaining")) if isinstance(minutes, dict) else minutes
    return "minutes" if _is_none_left(left) else None


def _is_none_left(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value <= 0


def _sentence(value: Any, secrets: Collection[str]) -> str:
    if not isinstance(value, str) or not value.strip():
        return ""
    text = str(redact(" ".join(value.split()), secrets))
    text = text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…"
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _trace(answer: Answer) -> str:
    request = f", request {answer.request_id}" if answer.request_id else ""
    return f"[HTTP {answer.status}{request}]"
