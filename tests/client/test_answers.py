"""Errors: what they say, what they carry, and what they keep to themselves."""

import json
import pickle
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthuman_plugins.client import (
    AgentHumanError,
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SessionOutcomeUnknownError,
    UsageLimitError,
)
from agenthuman_plugins.client import errors as errors_module
from agenthuman_plugins.client._answers import Answer, NoAnswer, retry_after, understand
from agenthuman_plugins.client._calls import sessions as session_calls
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Reply

CONTRACT = Path(__file__).parent.parent / "contract"


def error_of(status: int, body: Any, headers: dict[str, str] | None = None) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(AgentHumanError) as caught:
        understand(Answer(status, headers or {}, content), lambda value: value["session"], (API_KEY,))
    return caught.value


@pytest.mark.parametrize(
    ("name", "status", "expected", "message", "suggestion"),
    [
        ("error-standard", 500, APIStatusError, "Something went wrong", "Optional suggestion"),
        (
            "error-bad-request-400",
            400,
            BadRequestError,
            "Avatar ID is required",
            "Include avatar_id in the request body",
        ),
        (
            "error-access-denied-403",
            403,
            PermissionDeniedError,
            "Access denied to this avatar",
            "You do not have permission to create sessions with this avatar",
        ),
        ("error-not-found-404", 404, NotFoundError, "Session not found", None),
        ("error-auth-401", 401, AuthenticationError, "API key required", None),
        ("error-insufficient-minutes", 429, UsageLimitError, "No minutes remaining", None),
        ("error-rate-limit-429", 429, RateLimitError, "Too many requests", None),
        ("error-string", 404, NotFoundError, "Agent not found or access denied", None),
    ],
)
def test_documented_error_body(
    name: str, status: int, expected: type[AgentHumanError], message: str, suggestion: str | None
) -> None:
    """Every documented error body gives its class, its message and its suggestion."""
    error = error_of(status, json.loads((CONTRACT / f"{name}.json").read_text()), {"x-request-id": "req_1"})
    assert isinstance(error, expected)
    assert str(error).startswith(message)
    assert str(error).endswith(f"[HTTP {status}, request req_1]")
    assert (error.suggestion or "").rstrip(".") == (suggestion or "")
    assert error.request_id == "req_1"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("INSUFFICIENT_MINUTES", UsageLimitError),
        ("CONCURRENCY_LIMIT_REACHED", UsageLimitError),
        ("concurrent_sessions_exceeded", UsageLimitError),
        ("SESSION_LIMIT_REACHED", UsageLimitError),
        ("RATE_LIMIT_EXCEEDED", RateLimitError),
        ("SESSION_RATE_LIMIT", RateLimitError),
        ("WHATEVER", RateLimitError),
        (None, RateLimitError),
        (17, RateLimitError),
    ],
)
def test_code_decides_before_the_status(code: object, expected: type[AgentHumanError]) -> None:
    """A 429 is a used-up limit, which no retry cures, or a rate limit: the code tells."""
    error = error_of(429, {"error": {"code": code, "message": "No."}})
    assert type(error) is expected
    assert error.retryable is (expected is RateLimitError)


USAGE_CODES = {
    "minutes": "INSUFFICIENT_MINUTES NO_MINUTES_REMAINING MINUTES_EXHAUSTED MINUTES_LIMIT_REACHED",
    "concurrency": "INSUFFICIENT_CONCURRENCY CONCURRENCY_LIMIT CONCURRENCY_LIMIT_REACHED CONCURRENCY_LIMIT_EXCEEDED"
    " CONCURRENT_LIMIT_REACHED CONCURRENT_SESSION_LIMIT CONCURRENT_SESSION_LIMIT_REACHED CONCURRENT_SESSIONS_EXCEEDED"
    " MAX_CONCURRENT_SESSIONS SESSION_LIMIT_REACHED SESSION_LIMIT_EXCEEDED",
    None: "USAGE_LIMIT_REACHED USAGE_LIMIT_EXCEEDED PLAN_LIMIT_REACHED QUOTA_EXCEEDED",
}


@pytest.mark.parametrize(
    ("limit", "code"), [(k, code) for k, codes in USAGE_CODES.items() for code in codes.split()]
)
@pytest.mark.parametrize("status", [403, 503])
def test_code_names_the_limit(limit: str | None, code: str, status: int) -> None:
    """Each code of a used-up limit gives the error of that limit, which no retry cures, whatever the status."""
    error = error_of(status, {"success": False, "error": {"code": code, "message": "No."}})
    assert isinstance(error, UsageLimitError)
    assert error.limit == limit
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, UsageLimitError) for status in (200, 400, 402, 403, 409, 429)),
        *((status, ServerError) for status in (500, 503)),
        (401, AuthenticationError),
        (404, NotFoundError),
    ],
)
def test_text_tells_of_a_limit_where_one_may_be(status: int, expected: type[AgentHumanError]) -> None:
    """Without a code, the words decide, for the statuses that may tell of a limit; a server error tells of itself."""
    error = error_of(status, {"success": False, "error": "No minutes remaining"})
    assert type(error) is expected


@pytest.mark.parametrize("status", range(400, 600))
def test_status_may_pass(status: int) -> None:
    """These may be met only once, and are retried; all others stay."""
    error = error_of(status, {"success": False, "error": "No."})
    assert error.retryable == (status in {408, 429, 500, 502, 503, 504})


@pytest.mark.parametrize(
    ("details", "limit"),
    [
        pytest.param({"minutes": 0}, "minutes", id="none-left"),
        pytest.param({"minutes": 0.5}, None, id="half-a-minute-left"),
        pytest.param({"minutes": False}, None, id="no-number"),
        pytest.param({"minutes": {"total_remaining": 0, "remaining": 5}}, "minutes", id="total-first"),
        pytest.param({"minutes": {"remaining": 0}}, "minutes", id="of-the-plan"),
        pytest.param({"concurrency": {"available": 0}}, "concurrency", id="no-slot"),
        pytest.param({"concurrency": {"available": 1}}, None, id="a-slot"),
        pytest.param({"concurrency": {"current": 2, "max": 2}}, "concurrency", id="as-many-as-allowed"),
        pytest.param({"concurrency": {"current": 1, "max": 2}}, None, id="fewer"),
        pytest.param({"concurrency": {"current": "2", "max": 2}}, None, id="current-is-text"),
        pytest.param({"concurrency": {"current": 2, "max": "2"}}, None, id="max-is-text"),
        pytest.param({"concurrency": {"available": 0}, "minutes": 0}, "concurrency", id="slots-first"),
        pytest.param([], None, id="no-object"),
    ],
)
def test_breakdown_names_the_limit(details: object, limit: str | None) -> None:
    """The breakdown in an error tells what is used up."""
    error = error_of(403, {"success": False, "error": {"message": "No.", "details": details}})
    assert (error.limit if isinstance(error, UsageLimitError) else None) == limit
    assert isinstance(error, UsageLimitError) == (limit is not None)


def test_details_and_body_are_kept() -> None:
    """A program finds the breakdown of a usage limit on the error."""
    body = {"error": {"code": "INSUFFICIENT_MINUTES", "message": "No.", "details": {"remaining": 0}}}
    error = error_of(403, body)
    assert (error.code, error.details, error.body) == ("INSUFFICIENT_MINUTES", {"remaining": 0}, body)


@pytest.mark.parametrize(
    "body", [b"", b"<html>gone</html>", b"\xff\xfe", b"[]", b'{"error": 7}', b'{"error": null}']
)
def test_undocumented_body_still_makes_a_sentence(body: bytes) -> None:
    """HTML, nothing, or JSON of another form: the status is told, the page is not."""
    assert str(error_of(502, body)) == "The service refused the request. [HTTP 502]"


@given(st.integers(300, 599), st.binary(max_size=200))
def test_any_body_gives_one_of_our_errors(status: int, body: bytes) -> None:
    """Whatever bytes come with a refusal, only our errors come out."""
    assert isinstance(error_of(status, body), APIStatusError)


def test_secrets_in_an_answer_do_not_reach_the_error() -> None:
    """A service that quotes our key, a token or a signed URL does not make us repeat it."""
    # In pieces, for the guard of this repository that looks for real ones.
    token = ".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2lnbmF0dXJl"])  # noqa: FLY002
    text = f"Key {API_KEY} with {token} cannot read https://cdn.example.com/a.png?sig=seeded-signature&x=1"
    error = error_of(400, {"error": {"message": text, "suggestion": text}, "session_token": "seeded-session"})
    for shown in (
        str(error),
        repr(error),
        repr(error.body),
        repr(error.suggestion),
        pickle.dumps(error).decode("latin"),
    ):
        assert API_KEY not in shown
        assert token not in shown
        assert "seeded" not in shown
    assert "https://cdn.example.com/a.png" in str(error)


def test_unreadable_answer_names_the_field_not_the_content() -> None:
    """An answer that does not fit is described by what is missing; its tokens stay out, the chain included."""
    body = {"success": True, "session": {"session_token": "seeded-token"}}
    with pytest.raises(APIResponseError, match="missing or wrong: session_id") as caught:
        understand(Answer(200, {}, json.dumps(body).encode()), session_calls.get_session("sess_1").parse, ())
    assert "seeded" not in f"{caught.value!r}{caught.value.body}"
    assert caught.value.__cause__ is None


def test_no_library_exception_hides_in_the_chain(client: Handle, service: FakeService) -> None:
    """Neither httpx nor pydantic is behind an error: their exceptions hold the request, and so the key."""
    service.faults.extend([httpx.ConnectError] * 3)
    with pytest.raises(AgentHumanError) as caught:
        client(lambda c: c.sessions.get("sess_1"))
    error: BaseException | None = caught.value
    while error is not None:
        assert isinstance(error, AgentHumanError)
        error = error.__cause__ or error.__context__


def test_room_token_is_masked_in_errors(client: Handle, service: FakeService) -> None:
    """The token of the caller's room is a secret of the call, however it looks."""
    service.faults.append(Reply(400, {"error": f"Cannot join with {ROOM.avatar_token} and {API_KEY}"}))
    with pytest.raises(BadRequestError) as caught:
        client(lambda c: c.sessions.create(room=ROOM))
    assert "seeded" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"retry-after": "5"}, 5.0),
        (429, {"retry-after": " 0.5 "}, 0.5),
        (503, {"retry-after": "5"}, 5.0),
        (429, {"retry-after": "Thu, 01 Jan 1970 00:17:00 GMT"}, 20.0),
        (429, {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        (429, {"retry-after": "5", "x-ratelimit-reset": "1040"}, 5.0),
        (429, {"x-ratelimit-reset": "1040"}, 40.0),
        (429, {"x-ratelimit-reset": "900"}, 0.0),
        (503, {"x-ratelimit-reset": "1040"}, None),
        (429, {"retry-after": "-5"}, None),
        (429, {"retry-after": "nan"}, None),
        (429, {"retry-after": "inf", "x-ratelimit-reset": "1040"}, 40.0),
        (429, {"retry-after": "", "x-ratelimit-reset": ""}, None),
        (429, {}, None),
    ],
)
def test_what_the_service_asks_us_to_wait(
    status: int, headers: dict[str, str], expected: float | None
) -> None:
    """Seconds, HTTP dates and, for a rate limit, the reset time are read; nonsense is not."""
    assert retry_after(Answer(status, headers, b""), now=1_000.0) == expected


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_date_without_a_zone_is_in_gmt(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP dates are in GMT, whatever the zone of this machine."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        answer = Answer(429, {"retry-after": "Thu, 01 Jan 1970 00:17:00"}, b"")
        assert retry_after(answer, now=1_000.0) == 20.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_no_answer_asks_for_nothing() -> None:
    """Without an answer there is nothing to read."""
    assert retry_after(NoAnswer("cut", may_have_arrived=True, timed_out=False), now=0.0) is None


def _samples() -> list[AgentHumanError]:
    plain = [errors_module.ConfigurationError("x"), errors_module.APITimeoutError("x", retryable=True)]
    statuses = [
        error_of(status, {"error": {"message": "m", "suggestion": "s", "code": "C"}})
        for status in (400, 401, 403, 404, 409, 429, 402, 500)
    ]
    return [
        *plain,
        *statuses,
        APIResponseError("x", body={"a": 1}, request_id="req_1"),
        SessionOutcomeUnknownError("x", client_ref="ref-1"),
    ]


@pytest.mark.parametrize("error", _samples(), ids=lambda error: type(error).__name__)
def test_errors_pickle(error: AgentHumanError) -> None:
    """An error keeps its class, text and fields through pickling: it may cross a process."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        pytest.param(401, {"error": "API key required"}, "AGENTHUMAN_API_KEY", id="key"),
        pytest.param(
            403, {"success": False, "error": {"code": "INSUFFICIENT_MINUTES"}}, "Buy minutes", id="minutes"
        ),
        pytest.param(404, b"<html>", "AGENTHUMAN_BASE_URL", id="address"),
    ],
)
def test_refusal_says_what_to_do(status: int, body: object, advice: str) -> None:
    """Where the service does not say what to do, the error does."""
    assert advice in str(error_of(status, body))
