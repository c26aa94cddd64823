"""The four calls as they go over the wire, replayed from cassettes with the network blocked."""

import asyncio
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    AsyncAgentHuman,
    AuthenticationError,
    LiveKitRoom,
    NotFoundError,
    RateLimitError,
    Session,
    UsageLimitError,
)
from tests.client import record_live
from tests.client.conftest import Time
from tests.vcr_support import CASSETTES, RecordedService, interactions

ROOM = LiveKitRoom("wss://rooms.example.com", "scrubbed-room-token")
SECRETS = re.compile(r"ah_(live|test)_|eyJ|Bearer |127\.0\.0\.1|localhost")

KINDS = ["sync", "async"]
both = pytest.mark.parametrize("kind", KINDS)
Start = Callable[..., RecordedService]


def run(kind: str, service: RecordedService, use: Callable[[Any], Any], **options: Any) -> list[Any]:
    """Run a scenario, a generator of calls, on either client; return every result or error."""
    options = {"api_key": service.api_key, "base_url": service.base_url, "_clock": Time().clock(), **options}
    results: list[Any] = []
    if kind == "sync":
        with AgentHuman(**options) as client:
            steps = use(client)
            _drive(steps, results)
        return results

    async def go() -> None:
        async with AsyncAgentHuman(**options) as client:
            await _adrive(use(client), results)

    asyncio.run(go())
    return results


def _drive(steps: Any, results: list[Any]) -> None:
    call = next(steps, None)
    while call is not None:
        try:
            results.append(call())
        except AgentHumanError as error:
            results.append(error)
        call = _next(steps, results)


async def _adrive(steps: Any, results: list[Any]) -> None:
    call = next(steps, None)
    while call is not None:
        try:
            pending = call()
            results.append(await pending if inspect.isawaitable(pending) else pending)
        except AgentHumanError as error:
            results.append(error)
        call = _next(steps, results)


def _next(steps: Any, results: list[Any]) -> Any:
    try:
        return steps.send(results[-1])
    except StopIteration:
        return None


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_life_of_a_session(kind: str, recorded_service: Start) -> None:
    """A session in the caller's room is created, read, listed, ended, ended again, and billed."""

    def scenario(client: Any) -> Any:
        session = yield lambda: client.sessions.create(room=ROOM, metadata={"user": "Ada"})
        yield lambda: client.sessions.get(session.session_id)
        yield lambda: client.sessions.list("started")
        yield lambda: client.sessions.end(session.session_id)
        yield lambda: client.sessions.end(session.session_id)
        yield lambda: client.sessions.get(session.session_id)
        yield lambda: client.sessions.list("started")

    created, read, running, ended, again, bill, left = run(kind, recorded_service(), scenario)
    assert created.status == "started"
    assert created.session_token is not None
    assert created.metadata == {"user": "Ada", "client_ref": "ref-1"}
    assert created.usage.concurrency.available == 0
    assert created.expiration > created.started_at
    assert read.session_id == created.session_id
    assert read.session_token is None
    assert [session.session_id for session in running] == [created.session_id]
    assert ended.has_ended
    assert again.has_ended
    assert bill.billing is not None
    assert bill.duration is not None
    assert left == []


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_room_made_by_the_service(kind: str, recorded_service: Start) -> None:
    """Without a room the service makes one and tells how to join it."""

    def scenario(client: Any) -> Any:
        session = yield lambda: client.sessions.create(aspect_ratio="1:1")
        yield lambda: client.sessions.end(session.session_id)

    session, _ = run(kind, recorded_service(), scenario)
    assert session.room.url == "wss://rooms.example.com" or session.room.url.startswith("ws://")
    assert session.room.token.get_secret_value()


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_no_free_session(kind: str, recorded_service: Start) -> None:
    """The second session on the free plan is a used-up limit, not something to wait for."""

    def scenario(client: Any) -> Any:
        session = yield lambda: client.sessions.create(room=ROOM)
        yield lambda: client.sessions.create(room=ROOM)
        yield lambda: client.sessions.end(session.session_id)

    _, refused, _ = run(kind, recorded_service(limit_status=429), scenario)
    assert isinstance(refused, UsageLimitError)
    assert refused.code is not None


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_wrong_key(kind: str, recorded_service: Start) -> None:
    """A wrong key is one error, and is not tried again."""

    def scenario(client: Any) -> Any:
        yield client.sessions.list

    (error,) = run(kind, recorded_service(), scenario, api_key="ah_test_wrong")
    assert isinstance(error, AuthenticationError)


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_unknown_session(kind: str, recorded_service: Start) -> None:
    """Reading or ending a session that is not there says so."""

    def scenario(client: Any) -> Any:
        yield lambda: client.sessions.get("sess_01H3Z8G9YR3K2N5M6P7Q8W4T")
        yield lambda: client.sessions.end("sess_01H3Z8G9YR3K2N5M6P7Q8W4T")

    results = run(kind, recorded_service(), scenario)
    assert all(
        isinstance(error, NotFoundError) and str(error).startswith("Session not found") for error in results
    )


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_too_many_requests(kind: str, recorded_service: Start) -> None:
    """A rate limit is told with the time of its end."""

    def scenario(client: Any) -> Any:
        yield client.sessions.list
        yield client.sessions.list

    listed, refused = run(kind, recorded_service(requests_per_minute=1), scenario, max_retries=0)
    assert listed == []
    assert isinstance(refused, RateLimitError)
    assert refused.retryable


def test_no_cassette_is_orphaned() -> None:
    """Every recording belongs to a test of this module, and every test has its recording."""
    module = inspect.getmodule(test_no_cassette_is_orphaned)
    names = [
        name
        for name, item in vars(module).items()
        if any(m.name == "vcr" for m in getattr(item, "pytestmark", []))
    ]
    owned = {f"{name}[{kind}].yaml" for name in names for kind in KINDS}
    folder = CASSETTES / "client" / "test_cassettes"
    assert {path.name for path in folder.iterdir()} == owned
    folders = {path.parent for path in CASSETTES.rglob("*.yaml")}
    assert folders <= {folder, record_live.CASSETTE.parent}, "a folder without this guard"


def test_cassettes_hold_no_secret() -> None:
    """No key, token or local address was recorded."""
    paths = list(CASSETTES.rglob("*.yaml"))
    assert paths
    for path in paths:
        assert SECRETS.search(path.read_text()) is None, path.name


def test_recorded_sessions_fit_the_models() -> None:
    """Each recorded session parses with nothing left over: the model knows every field that came."""
    sessions = []
    for path in CASSETTES.rglob("*.yaml"):
        for _, response in interactions(path):
            body = json.loads(response["body"]["string"])
            sessions += [body["session"]] if "session" in body else body.get("sessions", [])
    assert sessions
    for session in sessions:
        assert Session.model_validate(session).model_extra == {}
