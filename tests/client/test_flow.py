"""Retries, and what becomes of a create whose answer is lost: the same for both clients."""

import logging
import re
from dataclasses import dataclass

import httpx
import pytest

from agenthuman_plugins.client import (
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
    Session,
    SessionOutcomeUnknownError,
    UsageLimitError,
)
from agenthuman_plugins.client._flow import retry_delay
from tests.client.conftest import ROOM, FakeService, Fault, Handle, Lost, Reply, Time

CREATE, LIST = "POST /v1/sessions", "GET /v1/sessions"
MINUTES = {"success": False, "error": {"code": "INSUFFICIENT_MINUTES", "message": "No minutes remaining."}}
CONCURRENCY = {"success": False, "error": {"message": "Concurrent session limit reached"}}
TOO_MANY = {"success": False, "error": "Too many requests. Please retry after 1 minute."}
REFUSED = {"success": False, "error": {"message": "No", "suggestion": "Ask otherwise"}}


@dataclass(frozen=True)
class Case:
    """Faults in the order of the requests, and what the caller gets."""

    name: str
    faults: tuple[Fault, ...]
    expected: type[AgentHumanError] | None = None
    requests: int = 1
    waits: tuple[float, ...] = ()


def ids(case: Case) -> str:
    return case.name


READS = [
    Case("answered", ()),
    Case("unavailable-then-answered", (Reply(503),), requests=2, waits=(0.5,)),
    Case("request-timeout-then-answered", (Reply(408),), requests=2, waits=(0.5,)),
    Case("bad-gateway-twice", (Reply(502), Reply(504)), requests=3, waits=(0.5, 1.0)),
    Case("broken-for-good", (Reply(500),) * 3, ServerError, 3, (0.5, 1.0)),
    Case("not-implemented", (Reply(501),), ServerError),
    Case("refused-connection-then-answered", (httpx.ConnectError,), requests=2, waits=(0.5,)),
    Case("read-timeout-then-answered", (httpx.ReadTimeout,), requests=2, waits=(0.5,)),
    Case("cut-reply-then-answered", (httpx.RemoteProtocolError,), requests=2, waits=(0.5,)),
    Case("undecodable-then-answered", (httpx.DecodingError,), requests=2, waits=(0.5,)),
    Case("never-connected", (httpx.ConnectError,) * 3, APIConnectionError, 3, (0.5, 1.0)),
    Case("always-late", (httpx.ReadTimeout,) * 3, APITimeoutError, 3, (0.5, 1.0)),
    Case("told-to-wait", (Reply(429, TOO_MANY, {"Retry-After": "7"}),), requests=2, waits=(7.0,)),
    Case("told-to-wait-by-unavailable", (Reply(503, None, {"Retry-After": "7"}),), requests=2, waits=(7.0,)),
    Case(
        "told-a-date",
        (Reply(429, TOO_MANY, {"Retry-After": "Mon, 12 Jan 1970 13:47:10 GMT"}),),
        requests=2,
        waits=(30.0,),
    ),
    Case(
        "told-a-reset", (Reply(429, TOO_MANY, {"X-RateLimit-Reset": "1000012"}),), requests=2, waits=(12.0,)
    ),
    Case(
        "told-a-past-reset",
        (Reply(429, TOO_MANY, {"X-RateLimit-Reset": "999000"}),),
        requests=2,
        waits=(0.5,),
    ),
    Case("told-nonsense", (Reply(429, TOO_MANY, {"Retry-After": "soon"}),), requests=2, waits=(0.5,)),
    Case("told-too-long", (Reply(429, TOO_MANY, {"Retry-After": "61"}),), RateLimitError),
    Case("rate-limited-for-good", (Reply(429, TOO_MANY),) * 3, RateLimitError, 3, (0.5, 1.0)),
    Case("minutes-used-up-as-429", (Reply(429, MINUTES, {"Retry-After": "1"}),), UsageLimitError),
    Case("minutes-used-up-as-503", (Reply(503, MINUTES),), UsageLimitError),
    Case("concurrency-used-up-as-429", (Reply(429, CONCURRENCY),), UsageLimitError),
    Case("payment-required", (Reply(402, REFUSED),), UsageLimitError),
    Case("bad-request", (Reply(400, REFUSED),), BadRequestError),
    Case("wrong-key", (Reply(401, {"error": "API key required"}),), AuthenticationError),
    Case("forbidden", (Reply(403, REFUSED),), PermissionDeniedError),
    Case("unknown", (Reply(404, REFUSED),), NotFoundError),
    Case("conflict", (Reply(409, REFUSED),), ConflictError),
    Case("teapot", (Reply(418, REFUSED),), APIStatusError),
    Case("redirect", (Reply(307, None, {"Location": "https://elsewhere.example"}),), APIStatusError),
    Case("no-with-200", (Reply(200, REFUSED),), APIStatusError),
    Case("html-with-200", (Reply(200, b"<html>"),), APIResponseError),
    Case("cut-json", (Reply(200, b'{"success": tr'),), APIResponseError),
    Case("no-session-in-it", (Reply(200, {"success": True}),), APIResponseError),
    Case("session-without-id", (Reply(200, {"success": True, "session": {}}),), APIResponseError),
    Case("html-error-page", (Reply(500, b"<html>" * 1_000),) * 3, ServerError, 3, (0.5, 1.0)),
]


@pytest.mark.parametrize("case", READS, ids=ids)
def test_reads_are_sent_again_while_the_failure_can_pass(
    case: Case, client: Handle, service: FakeService, time: Time
) -> None:
    """A read is repeated after transport errors, 408, 429 and passing 5xx; after nothing else."""
    service.sessions["sess_1"] = {"session_id": "sess_1", "status": "started"}
    service.faults.extend(case.faults)
    if case.expected is None:
        assert client(lambda c: c.sessions.get("sess_1")).session_id == "sess_1"
    else:
        with pytest.raises(case.expected) as caught:
            client(lambda c: c.sessions.get("sess_1"))
        assert type(caught.value) is case.expected
    assert len(service.requests) == case.requests
    assert time.waits == list(case.waits)


CREATES = [
    Case("answered", ()),
    Case("refused-connection-then-answered", (httpx.ConnectError,), requests=2, waits=(0.5,)),
    Case("connect-timeout-then-answered", (httpx.ConnectTimeout,), requests=2, waits=(0.5,)),
    Case("no-free-connection-then-answered", (httpx.PoolTimeout,), requests=2, waits=(0.5,)),
    Case(
        "rate-limited-then-answered", (Reply(429, TOO_MANY, {"Retry-After": "3"}),), requests=2, waits=(3.0,)
    ),
    Case("rate-limited-for-good", (Reply(429, TOO_MANY),) * 3, RateLimitError, 3, (0.5, 1.0)),
    Case("never-connected", (httpx.ConnectError,) * 3, APIConnectionError, 3, (0.5, 1.0)),
    Case("minutes-used-up-as-429", (Reply(429, MINUTES),), UsageLimitError),
    Case("minutes-used-up-as-503", (Reply(503, MINUTES),), UsageLimitError),
    Case("bad-request", (Reply(400, REFUSED),), BadRequestError),
    Case("wrong-key", (Reply(401, REFUSED),), AuthenticationError),
    Case("no-with-200", (Reply(200, REFUSED),), APIStatusError),
]


@pytest.mark.parametrize("case", CREATES, ids=ids)
def test_create_is_sent_again_only_if_surely_not_processed(
    case: Case, client: Handle, service: FakeService, time: Time
) -> None:
    """A create is repeated after a failed connection or a rate limit, and never looked up then."""
    service.faults.extend(case.faults)
    if case.expected is None:
        assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_1"
    else:
        with pytest.raises(case.expected) as caught:
            client(lambda c: c.sessions.create(room=ROOM))
        assert type(caught.value) is case.expected
    assert service.log == [CREATE] * case.requests
    assert time.waits == list(case.waits)
    assert len(service.running) == (1 if case.expected is None else 0)


AMBIGUOUS = [
    pytest.param(httpx.ReadTimeout, id="read-timeout"),
    pytest.param(httpx.WriteTimeout, id="write-timeout"),
    pytest.param(httpx.ReadError, id="read-error"),
    pytest.param(httpx.RemoteProtocolError, id="cut"),
    pytest.param(Reply(500), id="500"),
    pytest.param(Reply(502, b"<html>"), id="502"),
    pytest.param(Reply(503, None, {"Retry-After": "1"}), id="503"),
    pytest.param(Reply(408), id="408"),
    pytest.param(Reply(200, b"{"), id="cut-json"),
    pytest.param(Reply(200, {"success": True}), id="no-session"),
    pytest.param(Reply(204, b""), id="empty"),
]


@pytest.mark.parametrize("failure", AMBIGUOUS)
def test_lost_answer_to_create_is_looked_up_never_repeated(
    failure: type[Exception] | Reply, client: Handle, service: FakeService
) -> None:
    """A create whose answer is lost after processing is found by its reference; one session is open."""
    service.faults.append(Lost(failure))
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_1"
    assert service.log == [CREATE, LIST]
    assert service.running == ["sess_1"]


@pytest.mark.parametrize("failure", AMBIGUOUS)
def test_create_that_left_no_trace_is_an_unknown_outcome(
    failure: type[Exception] | Reply, client: Handle, service: FakeService, time: Time
) -> None:
    """A create that may have arrived but cannot be found is reported with its reference, never repeated."""
    service.faults.append(failure)
    with pytest.raises(SessionOutcomeUnknownError, match=r"client_ref 'ref-1'") as caught:
        client(lambda c: c.sessions.create(room=ROOM))
    assert caught.value.client_ref == "ref-1"
    assert isinstance(caught.value.__cause__, AgentHumanError)
    assert service.log.count(CREATE) == 1
    assert service.log.count(LIST) == len(time.waits) + 1 == 3


def test_lost_session_is_found_through_get_when_the_list_omits_metadata(
    client: Handle, service: FakeService
) -> None:
    """A list without metadata is completed by a get on each running session."""
    service.sessions["sess_other"] = {
        "session_id": "sess_other",
        "status": "started",
        "metadata": {"client_ref": "x"},
    }
    service.list_omits_metadata = True
    service.faults.append(Lost(httpx.ReadTimeout))
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_2"
    assert service.log == [CREATE, LIST, "GET /v1/sessions/sess_other", "GET /v1/sessions/sess_2"]


def test_session_that_appears_late_is_found(client: Handle, service: FakeService) -> None:
    """A create that is still being processed at the first look is found at a later one."""
    late = {"session_id": "sess_late", "status": "started", "metadata": {"client_ref": "ref-1"}}
    service.faults.extend(
        [httpx.ReadTimeout, Reply(200, {"sessions": []}), Reply(200, {"success": True, "sessions": [late]})]
    )
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_late"


def test_failing_list_does_not_hide_what_happened(client: Handle, service: FakeService) -> None:
    """When the look-up fails too, the outcome is unknown and its cause is the create's own failure."""
    service.faults.extend([Reply(502), *[Reply(401)] * 3])
    with pytest.raises(SessionOutcomeUnknownError) as caught:
        client(lambda c: c.sessions.create(room=ROOM))
    assert isinstance(caught.value.__cause__, ServerError)


def test_sessions_of_others_are_not_taken(client: Handle, service: FakeService) -> None:
    """Neither a foreign reference nor an ended session of ours answers for a lost create."""
    service.sessions |= {
        "sess_a": {"session_id": "sess_a", "status": "started", "metadata": {"client_ref": "ref-2"}},
        "sess_b": {"session_id": "sess_b", "status": "ended", "metadata": {"client_ref": "ref-1"}},
    }
    service.faults.append(httpx.ReadTimeout)
    with pytest.raises(SessionOutcomeUnknownError):
        client(lambda c: c.sessions.create(room=ROOM))


def test_create_goes_without_reference_when_metadata_is_refused(
    client: Handle, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """A 400 about metadata sends the create once more without our reference, and warns once."""
    refusal = Reply(400, {"success": False, "error": {"message": "metadata is not supported"}})
    service.faults.append(refusal)
    assert client(lambda c: c.sessions.create(metadata={"user": "Ada"})).session_id == "sess_1"
    sent = service.bodies("POST", "/v1/sessions")
    assert [body["metadata"] for body in sent] == [{"user": "Ada", "client_ref": "ref-1"}, {"user": "Ada"}]
    assert caplog.text.count("cannot be found again") == 1


def test_lost_create_without_reference_says_that_it_cannot_be_found(
    client: Handle, service: FakeService
) -> None:
    """When metadata was refused and the answer is lost too, nothing is looked up and the error says why."""
    refusal = Reply(400, {"success": False, "error": {"message": "metadata is not supported"}})
    service.faults.extend([refusal, Lost(httpx.ReadTimeout)])
    with pytest.raises(SessionOutcomeUnknownError, match="refuses the metadata"):
        client(lambda c: c.sessions.create())
    assert service.log == [CREATE, CREATE]


def test_session_that_vanishes_during_the_look_up_is_passed_over(
    client: Handle, service: FakeService
) -> None:
    """A 404 on one get does not keep the next session from being recognised."""
    service.sessions["sess_other"] = {"session_id": "sess_other", "status": "started"}
    service.list_omits_metadata = True
    gone = Reply(404, {"success": False, "error": {"message": "Session not found"}})
    service.faults.extend([Lost(httpx.ReadTimeout), None, gone])
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_2"
    assert service.log.count(LIST) == 1


def test_refused_metadata_of_the_caller_is_an_error(client: Handle, service: FakeService) -> None:
    """When the create without our reference is refused as well, the refusal reaches the caller."""
    refusal = Reply(400, {"success": False, "error": {"message": "metadata is not supported"}})
    service.faults.extend([refusal, refusal])
    with pytest.raises(BadRequestError, match="metadata is not supported"):
        client(lambda c: c.sessions.create())
    assert [body.get("metadata") for body in service.bodies("POST", "/v1/sessions")] == [
        {"client_ref": "ref-1"},
        None,
    ]


def test_lost_metadata_is_one_warning(
    client: Handle, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that drops metadata is named once for a client, not once for a create."""
    service.keeps_metadata = False

    def twice(c: object) -> object:
        if client.kind == "sync":
            return [c.sessions.create(), c.sessions.create()]  # type: ignore[attr-defined]

        async def run() -> list[Session]:
            return [await c.sessions.create(), await c.sessions.create()]  # type: ignore[attr-defined]

        return run()

    client(twice)
    assert caplog.text.count("cannot be found again") == 1


def test_own_client_ref_is_used(client: Handle, service: FakeService) -> None:
    """A `client_ref` of the caller replaces the generated one, also for finding a lost session."""
    service.faults.append(Lost(httpx.ReadTimeout))
    session = client(lambda c: c.sessions.create(metadata={"client_ref": "mine"}))
    assert session.client_ref == "mine"


def test_max_retries_counts_retries(client: Handle, service: FakeService) -> None:
    """`max_retries=0` sends one request."""
    service.faults.append(Reply(503))
    with pytest.raises(ServerError):
        client.with_options(max_retries=0)(lambda c: c.sessions.list())
    assert len(service.requests) == 1


def test_deadline_ends_the_retries(client: Handle, service: FakeService, time: Time) -> None:
    """A wait that would pass the limit of the call is not begun; the failure is raised at once."""
    service.faults.extend(
        [Reply(429, TOO_MANY, {"Retry-After": "20"}), Reply(429, TOO_MANY, {"Retry-After": "50"})]
    )
    with pytest.raises(RateLimitError):
        client.with_options(timeout=60)(lambda c: c.sessions.list())
    assert time.waits == [20.0]


def test_each_attempt_gets_the_time_that_is_left(client: Handle, service: FakeService) -> None:
    """The time to connect shrinks with what is left for the whole call; the answer to a create may take longer."""
    service.faults.append(Reply(429, TOO_MANY, {"Retry-After": "9"}))
    client(lambda c: c.sessions.create(timeout=12))
    limits = [request.extensions["timeout"] for request in service.requests]
    assert [(limit["connect"], limit["read"]) for limit in limits] == [(5.0, 60.0), (3.0, 60.0)]


def test_attempts_are_counted_for_the_service(client: Handle, service: FakeService) -> None:
    """A repeated request says so in `x-retry-count`."""
    service.faults.extend([Reply(503), Reply(503)])
    client(lambda c: c.sessions.list())
    assert [request.headers.get("x-retry-count") for request in service.requests] == [None, "1", "2"]


def test_end_falls_back_to_the_older_method(client: Handle, service: FakeService) -> None:
    """A router that does not know POST on the end call is asked with PUT, once."""
    service.sessions["sess_1"] = {"session_id": "sess_1", "status": "started"}
    service.faults.append(Reply(405, {"detail": "Method Not Allowed"}))
    assert client(lambda c: c.sessions.end("sess_1")).has_ended
    assert service.log == ["POST /v1/sessions/sess_1/end", "PUT /v1/sessions/sess_1/end"]


def test_end_of_an_unknown_session_is_not_asked_twice(client: Handle, service: FakeService) -> None:
    """The API's own 404 is an answer, not a missing route."""
    with pytest.raises(NotFoundError, match="Session not found"):
        client(lambda c: c.sessions.end("sess_1"))
    assert len(service.requests) == 1


def test_end_without_a_body_is_an_end(client: Handle, service: FakeService) -> None:
    """A 204 ends the session as well as a described one."""
    service.faults.append(Reply(204, b""))
    assert client(lambda c: c.sessions.end("sess_1")).has_ended


@pytest.mark.parametrize("body", [b'{"success": tru', b"<html>", b"[]"], ids=["cut", "page", "list"])
def test_any_success_ends_the_session(body: bytes, client: Handle, service: FakeService) -> None:
    """That an answer to `end` is a success decides, whatever its body says."""
    service.faults.append(Reply(200, body))
    assert client(lambda c: c.sessions.end("sess_1")).has_ended


def test_backoff_doubles_to_its_cap_with_jitter() -> None:
    """Waits double from 0.5 s to 8 s and are shortened by at most a quarter."""
    assert [retry_delay(None, attempt, 0.0) for attempt in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert retry_delay(None, 0, 1.0) == pytest.approx(0.375)
    assert retry_delay(60.0, 0, 0.0) == 60.0
    assert retry_delay(60.5, 0, 0.0) is None


def test_retries_are_logged_without_secrets(
    client: Handle, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """A retry is an INFO line with the request id."""
    caplog.set_level(logging.DEBUG)
    service.faults.append(Reply(503, None, {"x-request-id": "req_7"}))
    client(lambda c: c.sessions.list())
    lines = [record.getMessage() for record in caplog.records if "Trying" in record.getMessage()]
    assert len(lines) == 1
    assert re.match(r"Trying again in 0\.5 s: .*request req_7", lines[0])
