"""Every call as it goes over the wire, replayed from cassettes with the network blocked."""

import asyncio
import inspect
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agenthuman_plugins.client import (
    Agent,
    AgentHuman,
    AgentHumanError,
    APIStatusError,
    AsyncAgentHuman,
    AuthenticationError,
    Avatar,
    BadRequestError,
    Link,
    LiveKitRoom,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    Session,
    Usage,
    UsageLimitError,
    VoiceAgentFields,
)
from agenthuman_plugins.emulator import LimitError
from tests.client import record_live
from tests.client.conftest import Time
from tests.vcr_support import CASSETTES, RecordedService, interactions

FACE = (Path(__file__).parent / "face.jpg").read_bytes()  # drawn by the emulator
# One grey pixel.
NO_FACE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
VOICE: VoiceAgentFields = {"provider": "ElevenLabs", "agent_id": "el_agent_1", "auth_method": "public"}
EXPIRES = datetime(2099, 1, 1, tzinfo=UTC)
MODELS = {
    "session": Session,
    "sessions": Session,
    "public_avatars": Avatar,
    "my_avatars": Avatar,
    "usage": Usage,
    "agent": Agent,
    "agents": Agent,
    "link": Link,
    "links": Link,
}
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
def test_life_of_a_managed_session(kind: str, recorded_service: Start) -> None:
    """The older generation: a refused create in today's form, one in its own, a start that boots, an end, the bill."""

    def scenario(client: Any) -> Any:
        session = yield lambda: client.sessions.create(metadata={"user": "Ada"})
        yield lambda: client.sessions.start(session)
        yield lambda: client.sessions.end(session.session_id)
        yield lambda: client.sessions.get(session.session_id)
        yield client.usage.get

    created, started, ended, read, usage = run(kind, recorded_service(generation="managed"), scenario)
    assert (created.status, created.started_at) == ("created", None)
    assert created.metadata == {"user": "Ada", "client_ref": "ref-1"}
    assert started.status == "started"
    assert started.session_token == created.session_token
    assert started.ws_uri.startswith("ws")
    assert started.daily_room.token is not None
    assert ended.has_ended
    assert read.duration is not None
    assert usage.included_minutes.used == 1


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

    _, refused, _ = run(
        kind,
        recorded_service(limit_errors={"sessions": LimitError(429, "CONCURRENCY_LIMIT_REACHED")}),
        scenario,
    )
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


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_avatars(kind: str, recorded_service: Start) -> None:
    """A picture with a face becomes an avatar of the account, until it is deleted; one without is refused."""

    def scenario(client: Any) -> Any:
        avatar = yield lambda: client.avatars.upload_face(FACE)
        yield client.avatars.list
        yield lambda: client.avatars.preview(avatar.avatar_id)
        yield lambda: client.avatars.delete(avatar.avatar_id)
        yield client.avatars.list
        yield lambda: client.avatars.upload_face(image_base64=NO_FACE)

    made, listed, preview, _, left, refused = run(kind, recorded_service(plan="pro"), scenario)
    assert [avatar.avatar_id for avatar in listed.my_avatars] == [made.avatar_id]
    assert listed.public_avatars
    assert "/s/" in preview.url
    assert left.my_avatars == []
    assert isinstance(refused, BadRequestError)
    assert "face" in str(refused)


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_avatars_beyond_the_plan(kind: str, recorded_service: Start) -> None:
    """A plan without avatars of one's own refuses the picture, and that is not tried again."""

    def scenario(client: Any) -> Any:
        yield lambda: client.avatars.upload_face(FACE)

    (refused,) = run(kind, recorded_service(plan="free"), scenario)
    assert isinstance(refused, PermissionDeniedError | UsageLimitError)


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_usage(kind: str, recorded_service: Start) -> None:
    """Usage counts the session that runs."""

    def scenario(client: Any) -> Any:
        session = yield lambda: client.sessions.create(room=ROOM)
        yield client.usage.get
        yield lambda: client.sessions.end(session.session_id)

    session, usage, _ = run(kind, recorded_service(), scenario)
    assert usage.plan.key == "free"
    assert (usage.concurrency.current, usage.concurrency.available) == (1, 0)
    assert [each.session_id for each in usage.active_sessions] == [session.session_id]
    assert usage.period.start < session.started_at < usage.period.end


@pytest.mark.vcr
@pytest.mark.block_network
@both
def test_agents_and_links(kind: str, recorded_service: Start) -> None:
    """A link to an agent is made, paused and used; then all of it is deleted."""

    def scenario(client: Any) -> Any:
        face = yield lambda: client.avatars.upload_face(FACE)
        agent = yield lambda: client.agents.create(
            name="Ada", voice_agent=VOICE, avatar_image_url=face.image_url
        )
        yield lambda: client.agents.update(agent.agent_id, name="Ada L.")
        yield lambda: client.agents.get(agent.agent_id)
        yield client.agents.list
        link = yield lambda: client.links.create(agent_id=agent.agent_id, expires_at=EXPIRES, use_limit=2)
        session = yield lambda: client.links.start_session(link.link_id, aspect_ratio="3:4")
        yield lambda: client.sessions.end(session.session_id)
        yield lambda: client.links.update(link.link_id, status="paused")
        yield lambda: client.links.start_session(link.link_id)
        yield lambda: client.links.get(link.link_id)
        yield lambda: client.links.list("paused")
        yield lambda: client.links.delete(link.link_id)
        yield lambda: client.agents.delete(agent.agent_id)
        yield lambda: client.links.get(link.link_id)

    results = run(kind, recorded_service(plan="pro"), scenario)
    _, agent, renamed, read, agents, link, session, ended, paused, refused, seen, links, *_, gone = results
    assert (agent.name, renamed.name, read.name) == ("Ada", "Ada L.", "Ada L.")
    assert agent.voice_agent.provider == VOICE["provider"]
    assert [each.agent_id for each in agents] == [agent.agent_id]
    assert link.expires_at == EXPIRES
    assert session.participant_token.get_secret_value()
    assert ended.has_ended
    assert (paused.status, seen.uses) == ("paused", 1)
    assert isinstance(refused, APIStatusError)
    assert [each.link_id for each in links] == [link.link_id]
    assert isinstance(gone, NotFoundError)


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
    elsewhere = {CASSETTES / package / "test_cassettes" for package in ("langchain", "pipecat")}
    guarded = {folder, *elsewhere, record_live.CASSETTE.parent}
    assert folders <= guarded, "a folder without this guard"


def test_cassettes_hold_no_secret() -> None:
    """No key, token or local address was recorded."""
    paths = list(CASSETTES.rglob("*.yaml"))
    assert paths
    for path in paths:
        assert SECRETS.search(path.read_text()) is None, path.name


def test_recorded_bodies_fit_the_models() -> None:
    """What was recorded parses with nothing left over: the models know every field that came."""
    seen = set()
    for path in CASSETTES.rglob("*.yaml"):
        for _, response in interactions(path):
            for name, body in json.loads(response["body"]["string"]).items():
                if (model := MODELS.get(name)) is None:
                    continue
                seen.add(name)
                for item in body if isinstance(body, list) else [body]:
                    extra = model.model_validate(item).model_extra
                    # The reply to create tells less usage than the usage call, and each has a model.
                    assert extra == {} or name == "usage", f"{path.name}: {name} has {extra}"
    assert seen == set(MODELS)


def test_every_cassette_loads_in_older_versions() -> None:
    """The recordings are in the one format that both supported major versions of vcrpy read."""
    for path in CASSETTES.rglob("*.yaml"):
        assert path.read_text().rstrip().endswith("version: 1"), path.name
