"""Sessions that a create does not start: by a link, and those of the older, Daily-managed generation."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import (
    APITimeoutError,
    AsyncAgentHuman,
    BadRequestError,
    NotFoundError,
    ServerError,
    Session,
    SessionOutcomeUnknownError,
)
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Lost, Reply, Time

CONTRACT = Path(__file__).parent.parent / "contract"
LIMIT_S = 30.0  # hang limit only
LINK = "lnk_01J8ZK4R2N5M6P7Q8W4T"
SESSION = "sess_01H3Z8G9YR3K2N5M6P7Q8W4T"
NO_ROUTE = Reply(404, b"<html>no such page</html>")


def contract(name: str) -> Any:
    return json.loads((CONTRACT / f"{name}.json").read_text())


BOOTING = Reply(200, contract("session-start-managed"))
READY = Reply(200, contract("session-start-managed") | {"ws_uri": "wss://gateway.example.com/1"})
RUNNING = Reply(200, contract("session-get-managed"))
STARTED_BY_LINK = Reply(200, contract("link-session-started"))


def test_start_waits_until_the_server_has_booted(client: Handle, service: FakeService, time: Time) -> None:
    """`try_again` is asked again every two seconds; then the session has its gateway and its room."""
    service.faults.extend([BOOTING, BOOTING, READY, RUNNING])
    session = client(lambda c: c.sessions.start(SESSION))
    assert service.log == [f"PUT /v1/sessions/{SESSION}/start"] * 3 + [f"GET /v1/sessions/{SESSION}"]
    assert time.waits == [2.0, 2.0]
    assert session.ws_uri == "wss://gateway.example.com/1"
    assert session.daily_room.url == "https://agenthuman.daily.co/example-room-name"
    assert session.daily_room.token.get_secret_value().startswith("eyJ")


def test_managed_create_and_start(client: Handle, service: FakeService) -> None:
    """A create that answers `created` with an `access_token` gives a session that `start` takes on."""
    service.faults.extend([Reply(200, contract("session-created-managed")), READY, RUNNING])
    created = client(lambda c: c.sessions.create())
    assert (created.status, created.session_token.get_secret_value()) == (
        "created",
        "access_token_xxxxxxxxxxxxx",
    )
    assert client(lambda c: c.sessions.start(created.session_id)).session_id == created.session_id


WANTS_AVATAR_ID = Reply(400, contract("error-bad-request-400"))
CREATED = Reply(200, contract("session-created-managed"))


def test_managed_generation_gets_the_create_in_its_own_form(
    client: Handle, service: FakeService, time: Time
) -> None:
    """The documented refusal that asks for `avatar_id` makes the create go once more, at once, as that page says."""
    service.faults.extend([WANTS_AVATAR_ID, CREATED])
    created = client(lambda c: c.sessions.create(avatar="avat_1", metadata={"user": "Ada"}))
    assert created.status == "created"
    assert service.bodies("POST", "/v1/sessions") == [
        {
            "avatar": "avat_1",
            "aspect_ratio": "4:3",
            "metadata": {"user": "Ada", "client_ref": "ref-1"},
            "room": {"platform": "proxy"},
        },
        {"avatar_id": "avat_1", "metadata": {"user": "Ada", "client_ref": "ref-1"}},
    ]
    assert time.waits == []


def test_managed_generation_cannot_join_a_room_of_ones_own(client: Handle, service: FakeService) -> None:
    """That generation makes the room itself: a create with a room is refused, and not sent in another form."""
    service.faults.append(WANTS_AVATAR_ID)
    with pytest.raises(BadRequestError, match="avatar_id"):
        client(lambda c: c.sessions.create(room=ROOM))
    assert len(service.requests) == 1


def test_refused_older_form_is_the_error(client: Handle, service: FakeService) -> None:
    """What refuses both forms is not asked a third time."""
    service.faults.extend([WANTS_AVATAR_ID, WANTS_AVATAR_ID])
    with pytest.raises(BadRequestError):
        client(lambda c: c.sessions.create())
    assert len(service.requests) == 2


def test_lost_answer_of_the_older_form_is_looked_up(client: Handle, service: FakeService) -> None:
    """The older form carries the same reference, by which its session is found."""
    metadata = {"client_ref": "ref-1"}
    found = {"session_id": SESSION, "status": "started", "metadata": metadata}
    service.faults.extend([WANTS_AVATAR_ID, httpx.ReadTimeout, Reply(200, {"sessions": [found]})])
    assert client(lambda c: c.sessions.create()).session_id == SESSION
    assert service.log == ["POST /v1/sessions"] * 2 + ["GET /v1/sessions"]


def test_metadata_may_be_refused_in_either_form(client: Handle, service: FakeService) -> None:
    """A service of the older generation that knows no metadata gets the create without."""
    no_metadata = Reply(400, {"success": False, "error": {"message": "metadata is not supported"}})
    service.faults.extend([WANTS_AVATAR_ID, no_metadata, CREATED])
    client(lambda c: c.sessions.create(avatar="avat_1"))
    assert service.bodies("POST", "/v1/sessions")[-1] == {"avatar_id": "avat_1"}


def test_start_of_a_session_keeps_its_token(client: Handle, service: FakeService) -> None:
    """Only the create's reply told the token; starting what it returned keeps it, starting its id cannot."""
    service.faults.append(CREATED)
    created = client(lambda c: c.sessions.create(avatar="avat_1"))
    service.faults.extend([READY, RUNNING, READY, RUNNING])
    started = client(lambda c: c.sessions.start(created))
    assert started.ws_uri == "wss://gateway.example.com/1"
    assert started.session_token == created.session_token
    assert client(lambda c: c.sessions.start(created.session_id)).session_token is None


def test_start_is_repeated_after_a_failure(client: Handle, service: FakeService) -> None:
    """A start answers with what the first one started, so that it is repeated like a read."""
    service.faults.extend([httpx.ReadTimeout, Reply(503), READY, RUNNING])
    assert client(lambda c: c.sessions.start(SESSION)).ws_uri == "wss://gateway.example.com/1"


def test_start_tries_the_other_documented_form(client: Handle, service: FakeService) -> None:
    """Where PUT is no route, POST may be: the pages differ."""
    service.faults.extend([Reply(405, b""), READY, RUNNING])
    client(lambda c: c.sessions.start(SESSION))
    assert service.log[:2] == [f"PUT /v1/sessions/{SESSION}/start", f"POST /v1/sessions/{SESSION}/start"]


def test_start_without_a_start_call_waits_for_the_session(
    client: Handle, service: FakeService, time: Time
) -> None:
    """A service whose create starts the session has no such call; the session is asked for until it runs."""
    created = Reply(200, {"success": True, "session": {"session_id": SESSION, "status": "created"}})
    started = Reply(200, {"success": True, "session": {"session_id": SESSION, "status": "started"}})
    service.faults.extend([NO_ROUTE, NO_ROUTE, created, NO_ROUTE, NO_ROUTE, started])
    session = client(lambda c: c.sessions.start(SESSION))
    assert (session.status, session.ws_uri) == ("started", None)
    assert time.waits == [2.0]


def test_start_gives_up_in_time(client: Handle, service: FakeService, time: Time) -> None:
    """A server that never boots costs the time allowed, and the error says what to do about the bill."""
    service.faults.extend([BOOTING] * 10)
    with pytest.raises(
        APITimeoutError, match=r"not ready after 5 s\. It may be billed .* or end it"
    ) as caught:
        client(lambda c: c.sessions.start(SESSION, timeout=5))
    assert caught.value.retryable
    assert sum(time.waits) <= 5


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(404, contract("error-not-found-404")), NotFoundError),
        (Reply(400, {"success": False, "error": {"message": "Session has ended"}}), BadRequestError),
    ],
)
def test_refused_start_is_its_error(
    reply: Reply, expected: type[Exception], client: Handle, service: FakeService
) -> None:
    """What the service refuses is not asked for again; at most the session is, which may run already."""
    service.faults.append(reply)
    with pytest.raises(expected):
        client(lambda c: c.sessions.start(SESSION))
    assert service.log == [f"PUT /v1/sessions/{SESSION}/start", f"GET /v1/sessions/{SESSION}"]


@pytest.mark.parametrize("status", [400, 404, 409])
def test_start_of_a_running_session_returns_it(status: int, client: Handle, service: FakeService) -> None:
    """Today's generation may refuse the call in its own words; a session that runs is returned as it is."""
    service.sessions[SESSION] = {"session_id": SESSION, "status": "started"}
    service.faults.append(Reply(status, {"success": False, "error": {"message": "No"}}))
    assert client(lambda c: c.sessions.start(SESSION)).status == "started"


def test_start_keeps_what_only_the_create_told(client: Handle, service: FakeService) -> None:
    """Token, room and usage are in no later answer; a session that runs anyway is returned with them."""
    service.sessions[SESSION] = {"session_id": SESSION, "status": "started"}
    created = Session.model_validate(
        {
            "session_id": SESSION,
            "status": "started",
            "session_token": "seeded-token",
            "room": {"roomURL": "wss://rooms.example.com", "participantToken": "seeded-room-token"},
            "usage": {"minutes": {"total_remaining": 7}},
        }
    )
    service.faults.extend([NO_ROUTE, NO_ROUTE])
    started = client(lambda c: c.sessions.start(created))
    assert (started.session_token, started.room, started.usage) == (
        created.session_token,
        created.room,
        created.usage,
    )


def test_link_starts_a_session_without_the_key(client: Handle, service: FakeService) -> None:
    """The link is the credential; the reply says what to join, and its token is a secret."""
    service.faults.append(STARTED_BY_LINK)
    session = client(lambda c: c.links.start_session(LINK))
    assert "x-api-key" not in service.requests[0].headers
    assert service.bodies("POST", "/v1/links/start-session") == [{"link_id": LINK, "aspect_ratio": "4:3"}]
    assert (session.session_id, session.agent_identity) == (SESSION, "agenthuman-avatar-agent")
    assert session.participant_token.get_secret_value().startswith("eyJ")
    assert "eyJ" not in f"{session!r}{session.model_dump()}"


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(Lost(httpx.ReadTimeout), id="timeout"),
        pytest.param(httpx.RemoteProtocolError, id="cut"),
        pytest.param(Reply(502, b"<html>"), id="bad-gateway"),
        pytest.param(Reply(408), id="request-timeout"),
        pytest.param(Reply(200, b"{"), id="unreadable"),
        pytest.param(Reply(200, {"success": True}), id="without-a-session"),
    ],
)
def test_lost_start_by_link_is_not_repeated(lost: Any, client: Handle, service: FakeService) -> None:
    """A session may be running that nothing can find: that is an error of its own, which keeps the link to itself."""
    service.faults.extend([lost, STARTED_BY_LINK])
    with pytest.raises(SessionOutcomeUnknownError, match="may be running, and would be billed") as caught:
        client(lambda c: c.links.start_session(LINK))
    assert caught.value.client_ref is None
    assert LINK not in str(caught.value)
    assert len(service.requests) == 1


def test_refused_start_by_link_keeps_the_link_out_of_its_error(client: Handle, service: FakeService) -> None:
    """A service that quotes the link does not make us repeat it: whoever knows it can start sessions."""
    service.faults.append(Reply(403, {"success": False, "error": f"Link {LINK} is paused"}))
    with pytest.raises(Exception, match="is paused") as caught:
        client(lambda c: c.links.start_session(LINK))
    assert LINK not in f"{caught.value!r}{caught.value.body}"


async def start_and_cancel(answer: httpx.Response | Exception, service: FakeService, time: Time) -> None:
    """Cancel a start by link that is on the wire, then let it be answered, and close the client."""
    on_the_wire, answered = asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("start-session"):
            return service.handle(request)
        on_the_wire.set()
        await answered.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http, asyncio.timeout(LIMIT_S):
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        task = asyncio.ensure_future(client.links.start_session(LINK))
        await on_the_wire.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answered.set()
        await client.aclose()


async def test_cancelled_start_by_link_ends_its_session(service: FakeService, time: Time) -> None:
    """Its answer is waited for in the background, and the session that it names is ended."""
    service.sessions[SESSION] = {"session_id": SESSION, "status": "started"}
    await start_and_cancel(STARTED_BY_LINK.response(), service, time)
    assert service.running == []


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("late"), Reply(502).response()])
async def test_cancelled_start_by_link_without_an_answer_is_logged(
    answer: Any, service: FakeService, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be found cannot be ended: one line in the log says so."""
    await start_and_cancel(answer, service, time)
    assert [record.levelname for record in caplog.records if "by a link" in record.message] == ["ERROR"]
    assert LINK not in caplog.text


async def test_session_of_a_cancelled_start_that_cannot_be_ended_is_named(
    service: FakeService, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that is known but could not be ended is in the log by its id."""
    service.faults.append(Reply(401))
    await start_and_cancel(STARTED_BY_LINK.response(), service, time)
    assert f"Session {SESSION} could not be ended" in caplog.text


def test_lost_end_of_polling_is_an_error(client: Handle, service: FakeService) -> None:
    """A server that fails for good is an error of its own, not an endless wait."""
    service.faults.extend([BOOTING, *[Reply(500)] * 3])
    with pytest.raises(ServerError):
        client(lambda c: c.sessions.start(SESSION))
