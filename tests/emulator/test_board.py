"""The emulator's state as one document: its changes, export, reset and health."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator._board import Board
from agenthuman_plugins.emulator._watch import Watch
from tests.emulator.conftest import FakeClock
from tests.emulator.fakes import KEY, OWN_ROOM, World
from tests.emulator.pictures import portrait

LIMIT_S = 30.0  # hang limit
AGENT = {"name": "Ada", "voice_agent": {"provider": "x", "agent_id": "1", "auth_method": "public"}}
SECRET = jwt.encode({"sub": "1"}, "k" * 32)


@pytest.fixture
def rules() -> dict[str, Any]:
    return {"plan": "explorer"}


@pytest.fixture
def board(world: World) -> Board:
    return Board(world.service, Watch(world.service, None), lambda: "embedded")


@pytest.fixture
async def changes(board: Board) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """What a page is sent."""
    stream = board.changes()
    yield stream
    await stream.aclose()  # type: ignore[attr-defined]


async def next_of(changes: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT_S):
        return await anext(changes)


async def test_the_first_message_is_the_whole_state(
    changes: AsyncIterator[dict[str, Any]], world: World
) -> None:
    """It has the account, the clock, the avatars, the faults, and each session with its timeline."""
    session_id = (await world.create(metadata={"client_owner": "laptop:abc:42:7"}))["session_id"]
    state = await next_of(changes)
    assert state["fresh"] is True
    assert state.keys() == {"fresh", "about", "account", "avatars", "clock", "faults", "sessions"}
    [session] = state["sessions"]
    assert (session["session_id"], session["status"]) == (session_id, "started")
    assert session["owner"] == {"host": "laptop", "pid": 42}
    assert [event["event"] for event in session["timeline"]] == ["created", "avatar_starting"]
    assert state["account"]["slots"] == {"current": 1, "max": 5, "available": 4}


async def test_only_what_has_changed_is_sent(
    changes: AsyncIterator[dict[str, Any]], clock: FakeClock, world: World
) -> None:
    """Of the sessions those that have changed, and of their events the new ones; the time, which a page counts, is not."""
    await world.create()
    await world.create()
    clock.advance(seconds=10)
    await next_of(changes)
    clock.advance(seconds=10)
    world.avatars[0].tell({"event": "ready", "pid": 1})
    change = await next_of(changes)
    assert change.keys() == {"fresh", "sessions"}
    [session] = change["sessions"]
    assert (change["fresh"], session["avatar_state"]) == (False, "ready")
    assert [event["event"] for event in session["timeline"]] == ["ready"]


async def test_events_in_quick_succession_come_together(
    changes: AsyncIterator[dict[str, Any]], world: World
) -> None:
    """Hundreds of one session and one of another are one message, also if they do not come at once."""
    await world.create()
    await world.create()
    await next_of(changes)
    waiting = asyncio.create_task(next_of(changes))
    for number in range(300):
        world.avatars[0].tell({"event": "participants", "count": number % 2})
        await asyncio.sleep(0)  # whoever waits for events may go on
    world.avatars[1].tell({"event": "ready"})
    change = await waiting
    assert [len(session["timeline"]) for session in change["sessions"]] == [1, 300]


async def test_events_that_the_timeline_dropped_are_not_sent_twice(
    changes: AsyncIterator[dict[str, Any]], world: World
) -> None:
    """A session with more events than are kept goes on with the new ones alone."""
    await world.create()
    for number in range(1_500):
        world.avatars[0].tell({"event": "participants", "count": number % 2})
    assert len((await next_of(changes))["sessions"][0]["timeline"]) == 1_000
    world.avatars[0].tell({"event": "ready"})
    change = await next_of(changes)
    assert [event["event"] for event in change["sessions"][0]["timeline"]] == ["ready"]


async def test_what_is_no_event_of_a_session_is_sent_too(
    changes: AsyncIterator[dict[str, Any]], clock: FakeClock, world: World
) -> None:
    """Faults, a paused clock, and minutes that pass."""
    await world.create()
    await next_of(changes)
    await world.http.post("/emulator/faults", json={"fault": "delay"})
    assert [fault["fault"] for fault in (await next_of(changes))["faults"]] == ["delay"]
    await world.http.post("/emulator/clock", json={"paused": True})
    assert (await next_of(changes))["clock"]["paused"] is True
    await world.http.post("/emulator/clock", json={"paused": False})
    assert (await next_of(changes))["clock"]["paused"] is False
    clock.advance(minutes=2)
    assert (await next_of(changes))["account"]["minutes_running"] == 2


async def test_the_running_bill(
    changes: AsyncIterator[dict[str, Any]], clock: FakeClock, world: World
) -> None:
    """Ended and running sessions are told apart, and what the plan does not include is named."""
    ended = await world.create()
    clock.advance(minutes=10)
    await world.http.post(f"/v1/sessions/{ended['session_id']}/end")
    await world.create()
    clock.advance(seconds=61)
    account = (await next_of(changes))["account"]
    assert (account["minutes_ended"], account["minutes_running"], account["minutes_billed"]) == (10, 2, 0)


async def test_after_a_reset_everything_is_sent_anew(
    board: Board, changes: AsyncIterator[dict[str, Any]], world: World
) -> None:
    """Sessions that are gone cannot be told one by one."""
    await world.create()
    await next_of(changes)
    world.service.reset()
    state = await next_of(changes)
    assert (state["fresh"], state["sessions"]) == (True, [])
    assert board.export("")["sessions"] == []


async def test_a_page_is_let_go(board: Board, changes: AsyncIterator[dict[str, Any]]) -> None:
    """A closed board ends the stream, also one that waits for a change."""
    await next_of(changes)
    waiting = asyncio.create_task(next_of(changes))
    await asyncio.sleep(0)
    board.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_reset_leaves_nothing(clock: FakeClock, world: World) -> None:
    """Sessions, minutes, avatars, agents, links and faults are gone, avatars leave, and the clock is right again."""
    session = await world.create()
    await world.create(room=OWN_ROOM)
    await world.http.post(f"/v1/sessions/{session['session_id']}/end")
    await world.http.post("/v1/avatars/upload-face", files={"file": portrait()})
    agent = (await world.http.post("/v1/agents", json=AGENT)).json()
    await world.http.post("/v1/links", json={"agent_id": agent["agent"]["agent_id"]})
    await world.http.post("/emulator/faults", json={"fault": "avatar_silent"})
    await world.http.post("/emulator/clock", json={"advance_s": 600})
    await world.http.post("/emulator/clock", json={"paused": True})
    before = (await world.http.get("/emulator/export")).json()
    assert all(before[name] for name in ("sessions", "avatars", "agents", "links", "faults")), before

    assert (await world.http.post("/emulator/reset")).json() == {"success": True}
    after = (await world.http.get("/emulator/export")).json()
    assert [name for name in ("sessions", "agents", "links", "faults") if after[name]] == []
    assert [avatar for avatar in after["avatars"] if avatar["own"]] == []
    assert after["account"]["minutes_ended"] == 0
    assert after["account"]["avatars"]["used"] == 0
    usage = (await world.http.get("/v1/usage")).json()["usage"]
    assert (usage["total_remaining"], usage["concurrency"]["current"]) == (600, 0)
    assert (after["clock"]["paused"], after["clock"]["offset_s"]) == (False, 0.0)
    assert await world.avatars[1].stopped == "service_reset"
    assert (await world.http.get(f"/v1/sessions/{session['session_id']}")).status_code == 404
    await world.create()


async def test_a_reset_forgets_sessions_that_were_only_created(world_of: Any) -> None:
    """In the older generation they hold no slot and cannot be ended, but they go as well."""
    world = world_of(generation="managed")
    await world.http.post("/v1/sessions", json={"avatar_id": "avat_1"})
    world.service.reset()
    assert await world.observed() == []


async def test_export_has_the_timelines_and_no_secret(board: Board, changes: Any, world: World) -> None:
    """Tokens and keys are masked wherever a caller put them; what pages are sent is no different."""
    session = await world.create(room=OWN_ROOM, metadata={"note": f"it is {SECRET}", "api_key": "hunter2"})
    await world.http.post(
        "/emulator/faults", json={"fault": "status", "headers": {"x": SECRET}, "body": {"token": "hunter2"}}
    )
    document = (await world.http.get("/emulator/export")).json()
    assert document["sessions"][0]["timeline"][0]["event"] == "created"
    for told in (json.dumps(document), json.dumps(await next_of(changes)), json.dumps(board.export(""))):
        for secret in (SECRET, "hunter2", OWN_ROOM["token"], session["session_token"], KEY):
            assert secret not in told


async def test_health(world: World, board: Board) -> None:
    """It says whether rooms can be made, and counts the sessions."""
    await world.create()
    health = board.health()
    assert (health["status"], health["room_server"], health["generation"]) == ("ok", "embedded", "own-room")
    assert health["sessions"] == {"running": 1, "total": 1}
    for status in ("starting", "failed"):
        assert Board(world.service, board.watch, lambda status=status: status).health()["status"] == status


async def test_the_emulator_does_the_same() -> None:
    """`reset`, `export` and `health` of a running emulator."""
    async with Emulator(media=False) as emulator:
        emulator.fail("delay")
        emulator.clock.advance(hours=1)
        assert emulator.export()["clock"]["offset_s"] == 3600
        emulator.reset()
        assert (emulator.export()["faults"], emulator.export()["clock"]["offset_s"]) == ([], 0)
        assert emulator.health()["room_server"] == "none"


async def test_a_minute_that_has_begun_counts_as_running(
    changes: AsyncIterator[dict[str, Any]], clock: FakeClock, world: World
) -> None:
    """The running bill rounds each session up, as the usage call and the final bill do."""
    await world.create()
    clock.advance(seconds=60.5)
    account = (await next_of(changes))["account"]
    used = account["minutes"]["included_minutes"]["used"]
    assert (account["minutes_running"], used) == (2, 2)


async def test_a_room_server_that_starts_changes_what_can_be_watched(world: World) -> None:
    """Each session is sent again, without its events: the page must not say for ever that the server is starting."""
    kinds = ["starting"]
    board = Board(world.service, Watch(world.service, None), lambda: kinds[0])
    changes = board.changes()
    await world.create()
    await next_of(changes)
    kinds[0] = "embedded"
    change = await next_of(changes)
    assert change["about"]["room_server"] == "embedded"
    assert [session["timeline"] for session in change["sessions"]] == [[]]
    await changes.aclose()  # type: ignore[attr-defined]
