"""What one bad answer must not spoil: lists, look-ups, ends, and the reading of a refusal."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    APIConnectionError,
    AsyncAgentHuman,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SessionOutcomeUnknownError,
    UsageLimitError,
)
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Lost, Reply, Time
from tests.client.test_lease import ProblemError, fail, opened

CREATE, LIST = "POST /v1/sessions", "GET /v1/sessions"
GONE_SHAPES = [
    pytest.param({"success": False, "error": {"message": "Session not found"}}, id="documented"),
    pytest.param({"success": False, "error": "Session not found"}, id="documented-text"),
    pytest.param({"detail": "Not Found"}, id="fastapi"),
    pytest.param(b"<html>nginx</html>", id="html"),
    pytest.param(b"", id="empty"),
]

# --- entries that cannot be read

BAD_ENTRIES = [
    pytest.param({"session_id": 17}, id="number-as-id"),
    pytest.param({}, id="nothing"),
    pytest.param(None, id="null"),
    pytest.param("sess_x", id="text"),
    pytest.param([], id="list"),
]


class WithBadEntry:
    """A service whose lists of sessions begin with an entry that nobody can read."""

    def __init__(self, service: FakeService, entry: object) -> None:
        self._handle = service.handle
        self._entry = entry
        service.handle = self.handle  # type: ignore[method-assign]

    def handle(self, request: httpx.Request) -> httpx.Response:
        response = self._handle(request)
        if request.method == "GET" and request.url.path == "/v1/sessions":
            body = response.json()
            body["sessions"].insert(0, self._entry)
            return httpx.Response(200, json=body)
        return response


@pytest.mark.parametrize("entry", BAD_ENTRIES)
@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda c: c.sessions.list(), id="list"),
        pytest.param(lambda c: c.sessions.find("mine"), id="find"),
        pytest.param(lambda c: c.sessions.reap(owner="host:machine:1:2"), id="reap"),
    ],
)
def test_unreadable_session_hides_no_other(
    entry: object,
    look: Callable[[Any], Any],
    client: Handle,
    service: FakeService,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An entry that cannot be read is left out with one warning; the others are found, and ended."""
    metadata = {"client_ref": "mine", "client_owner": "host:machine:1:2"}
    service.sessions["sess_1"] = {"session_id": "sess_1", "status": "started", "metadata": metadata}
    WithBadEntry(service, entry)
    found = client(look)
    (session,) = found if isinstance(found, list) else [found]
    assert session.session_id == "sess_1"
    assert caplog.text.count("1 of 2 entries of a list could not be read") == 1


@pytest.mark.parametrize("entry", BAD_ENTRIES)
def test_unreadable_session_hides_no_lost_one(entry: object, client: Handle, service: FakeService) -> None:
    """A create whose answer was lost is found beside an entry that cannot be read."""
    WithBadEntry(service, entry)
    service.faults.append(Lost(httpx.ReadTimeout))
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_1"


OTHER_LISTS: dict[str, tuple[Callable[[Any], Any], dict[str, Any], Callable[[Any], Any]]] = {
    "avatars": (
        lambda c: c.avatars.list(),
        {"my_avatars": [{"avatar_id": 17}, {"avatar_id": "good"}]},
        lambda found: [item.avatar_id for item in found.all],
    ),
    "agents": (
        lambda c: c.agents.list(),
        {"agents": [None, {"agent_id": "good"}]},
        lambda found: [item.agent_id for item in found],
    ),
    "links": (
        lambda c: c.links.list(),
        {"links": [{"link_id": []}, {"link_id": "good"}]},
        lambda found: [item.link_id for item in found],
    ),
    "active-sessions": (
        lambda c: c.usage.get(),
        {"usage": {"active_sessions": [{"session_id": 17}, {"session_id": "good"}]}},
        lambda found: [item.session_id for item in found.active_sessions],
    ),
}


@pytest.mark.parametrize("name", OTHER_LISTS)
def test_unreadable_entry_of_any_list_is_left_out(
    name: str, client: Handle, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """Every list that we read leaves out what it cannot read, with one warning."""
    call, body, ids = OTHER_LISTS[name]
    service.faults.append(Reply(200, {"success": True, **body}))
    assert ids(client(call)) == ["good"]
    assert caplog.text.count("1 of 2 entries of a list could not be read") == 1


@pytest.mark.parametrize("sessions", [None, {}, "none", 7])
def test_list_that_is_none_is_an_error(sessions: object, client: Handle, service: FakeService) -> None:
    """Something else than a list does not pass for an empty one."""
    service.faults.append(Reply(200, {"success": True, "sessions": sessions}))
    with pytest.raises(AgentHumanError, match="could not be read"):
        client(lambda c: c.sessions.list())


# --- used-up limits

NONE_FREE = {"concurrency": {"current": 3, "max": 3, "available": 0}}
SOME_FREE = {"concurrency": {"current": 1, "max": 3, "available": 2}, "minutes": {"total_remaining": 9}}
NO_MINUTES = {"minutes": {"total_remaining": 0}}
REFUSALS = [
    (403, "INSUFFICIENT_PERMISSIONS", None, PermissionDeniedError, None),
    (409, "CONCURRENT_MODIFICATION", None, ConflictError, None),
    (400, "INVALID_SESSION_LIMIT_VALUE", None, BadRequestError, None),
    (503, "INSUFFICIENT_CAPACITY", None, ServerError, None),
    (503, "INSUFFICIENT_CAPACITY", NONE_FREE, ServerError, None),
    (429, "RATE_LIMIT_EXCEEDED", NONE_FREE, RateLimitError, None),
    (429, "RATE_LIMIT_EXCEEDED", None, RateLimitError, None),
    (429, "TOO_MANY_REQUESTS", SOME_FREE, RateLimitError, None),
    (403, "GENERATE_FAILED", NONE_FREE, UsageLimitError, "concurrency"),
    (429, "LIMIT", NONE_FREE, UsageLimitError, "concurrency"),
    (403, None, NO_MINUTES, UsageLimitError, "minutes"),
    (403, "INSUFFICIENT_MINUTES", None, UsageLimitError, "minutes"),
    (503, "INSUFFICIENT_MINUTES", None, UsageLimitError, "minutes"),
    (429, "CONCURRENCY_LIMIT_REACHED", None, UsageLimitError, "concurrency"),
    (403, "USAGE_LIMIT_REACHED", NONE_FREE, UsageLimitError, "concurrency"),
    (403, "USAGE_LIMIT_REACHED", NO_MINUTES, UsageLimitError, "minutes"),
    (403, "QUOTA_EXCEEDED", None, UsageLimitError, None),
    (402, None, NO_MINUTES, UsageLimitError, "minutes"),
    (402, "PAYMENT_REQUIRED", None, UsageLimitError, None),
    (403, None, {"minutes": True, "concurrency": {"available": False}}, PermissionDeniedError, None),
    (403, None, {"minutes": "0", "concurrency": 0}, PermissionDeniedError, None),
]


@pytest.mark.parametrize(
    ("status", "code", "details", "expected", "limit"),
    REFUSALS,
    ids=[f"{status}-{code}-{number}" for number, (status, code, *_) in enumerate(REFUSALS)],
)
def test_used_up_limit_is_told_by_code_and_details(
    status: int,
    code: str | None,
    details: object,
    expected: type[AgentHumanError],
    limit: str | None,
    client: Handle,
    service: FakeService,
) -> None:
    """Exact codes and the breakdown in `details` tell a used-up limit; words inside of other codes do not."""
    refusal = {"success": False, "error": {"code": code, "message": "No.", "details": details}}
    service.faults.extend([Reply(status, refusal)] * 3)
    with pytest.raises(expected) as caught:
        client(lambda c: c.sessions.get("sess_1"))
    assert type(caught.value) is expected
    assert getattr(caught.value, "limit", None) == limit


# --- a refusal that is about the metadata, or quotes it

ABOUT = [
    pytest.param({"message": "metadata is not supported"}, id="message"),
    pytest.param({"message": "Unknown field", "details": {"field": "metadata.client_ref"}}, id="details"),
    pytest.param({"message": "No", "suggestion": "Leave client_owner out"}, id="suggestion"),
    pytest.param(
        {"message": "metadata is not supported", "details": {"metadata": {"client_ref": "ref-1"}}},
        id="message-with-echo-beside",
    ),
]
ECHO = json.dumps({"metadata": {"note": "x" * 600, "client_ref": "ref-1"}})
QUOTES = [
    pytest.param({"message": f"Invalid avatar in {ECHO}"}, id="long-echo-in-message"),
    pytest.param({"message": "Bad", "details": {"request": json.loads(ECHO)}}, id="echo-in-details"),
    pytest.param({"message": "Bad", "received": json.loads(ECHO)}, id="echo-beside"),
    pytest.param({"message": "metadatabase is down"}, id="word-within-a-word"),
]


@pytest.mark.parametrize("error", ABOUT)
def test_refused_metadata_is_left_out_once(
    error: dict[str, Any], client: Handle, service: FakeService
) -> None:
    """A refusal that is about our reference gets the create once more without it."""
    service.faults.append(Reply(400, {"success": False, "error": error}))
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_1"
    sent = service.bodies("POST", "/v1/sessions")
    assert [body.get("metadata") for body in sent] == [{"client_ref": "ref-1"}, None]


@pytest.mark.parametrize("error", QUOTES)
def test_refusal_that_quotes_the_request_is_none_of_the_metadata(
    error: dict[str, Any], client: Handle, service: FakeService
) -> None:
    """A refusal that echoes what was sent speaks of metadata without being about it, and is raised."""
    service.faults.append(Reply(400, {"success": False, "error": error}))
    with pytest.raises(BadRequestError):
        client(lambda c: c.sessions.create(room=ROOM))
    assert service.log == [CREATE]


def test_answer_with_the_reference_of_another_call_is_a_lost_one(
    client: Handle, service: FakeService
) -> None:
    """A create that is answered with somebody else's session looks for its own."""
    other = {"session_id": "sess_other", "status": "started", "metadata": {"client_ref": "ref-other"}}
    service.faults.append(Lost(Reply(200, {"success": True, "session": other})))
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_1"
    service.faults.append(Reply(200, {"success": True, "session": other}))
    with pytest.raises(SessionOutcomeUnknownError, match="the session of another one"):
        client(lambda c: c.sessions.create(room=ROOM, metadata={"client_ref": "mine"}))
    assert service.log.count(CREATE) == 2


# --- ends


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_any_success_is_an_end(status: int, client: Handle, service: FakeService) -> None:
    """Which 2xx an end answers with is not documented, so that each is one."""
    service.faults.append(Reply(status, b""))
    assert client(lambda c: c.sessions.end("sess_1")).has_ended


@pytest.mark.parametrize("body", GONE_SHAPES)
def test_session_that_is_gone_ends_a_block_in_peace(
    body: object, client: Handle, service: FakeService
) -> None:
    """A 404 in any shape, at the end of a block, means that nothing is left to end."""

    def then_gone(_: object) -> str:
        service.faults.extend([Reply(404, body)] * 2)  # the older form of the end is asked for, too
        return "done"

    assert opened(client, then_gone) == "done"


@pytest.mark.parametrize("body", GONE_SHAPES)
def test_session_that_is_gone_does_not_stop_reap(body: object, client: Handle, service: FakeService) -> None:
    """A session that vanished since it was listed does not keep the next one from being ended."""
    for key in ("sess_1", "sess_2"):
        metadata = {"client_owner": "host:machine:1:2"}
        service.sessions[key] = {"session_id": key, "status": "started", "metadata": metadata}
    process = service.handle

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/sessions/sess_1/end":
            return Reply(404, body).response()
        return process(request)

    service.handle = handle  # type: ignore[method-assign]
    assert len(client(lambda c: c.sessions.reap(owner="host:machine:1:2"))) == 2
    assert service.ended == ["sess_2"]


def test_open_serves_one_block(client: Handle, service: FakeService) -> None:
    """What `open` returned can be entered once: a second block would end the first one's session."""

    def use(c: Any) -> Any:
        block = c.sessions.open(room=ROOM)
        if client.kind == "sync":
            with block:
                pass
            with block:
                raise AssertionError

        async def run() -> None:
            async with block:
                pass
            async with block:
                raise AssertionError

        return run()

    with pytest.raises(ConfigurationError, match="serves one block"):
        client(use)
    assert service.ended == ["sess_1"]
    assert service.log.count(CREATE) == 1


@pytest.fixture
def closing(client: Handle, service: FakeService, time: Time) -> Callable[[Callable[[Any], Any]], Any]:
    """Runs a body in an `open` block in which the HTTP client below ours is closed."""
    options: dict[str, Any] = {"api_key": API_KEY, "_clock": time.clock()}
    transport = httpx.MockTransport(service.handle)

    def run(body: Callable[[Any], Any]) -> Any:
        if client.kind == "sync":
            http = httpx.Client(transport=transport)
            with AgentHuman(http_client=http, **options).sessions.open(room=ROOM) as session:
                http.close()
                return body(session)

        async def inside() -> Any:
            http = httpx.AsyncClient(transport=transport)
            async with AsyncAgentHuman(http_client=http, **options).sessions.open(room=ROOM) as session:
                await http.aclose()
                return body(session)

        return asyncio.run(inside())

    return run


def test_error_of_the_block_survives_a_closed_http_client(
    closing: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What the block raised is raised; the session that could not be ended is named in the log."""
    with pytest.raises(ProblemError):
        closing(fail(ProblemError()))
    assert "Session sess_1 could not be ended" in caplog.text


def test_closed_http_client_names_the_session_that_is_left(closing: Callable[..., Any]) -> None:
    """Without an error of the block, that of the end is raised, and names the session."""
    with pytest.raises(ConfigurationError, match="http_client that was passed in is closed") as caught:
        closing(lambda _: None)
    assert any("sess_1 could not be ended" in note for note in caught.value.__notes__)


def test_session_that_could_not_be_ended_is_named(client: Handle, service: FakeService) -> None:
    """An end that finds no connection is raised with the name of what is left running."""
    with pytest.raises(APIConnectionError) as caught:
        opened(client, lambda _: service.faults.extend([httpx.ConnectError] * 3))
    assert any("sess_1 could not be ended" in note for note in caught.value.__notes__)
