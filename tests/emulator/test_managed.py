"""The older generation: Daily rooms of the service's own, and sessions that are created, started and ended."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
import websockets

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.emulator import Emulator
from tests.emulator.conftest import FakeClock, until
from tests.emulator.fakes import OWN_ROOM, World
from tests.emulator.test_contract import documented
from tests.emulator.test_gateway import speech

LIMIT_S = 30.0  # hang limit
LOOK = {"avatar_id": DEFAULT_AVATAR, "metadata": {"order": "7"}}


@pytest.fixture
def rules() -> dict[str, Any]:
    return {"generation": "managed"}


async def answer(world: World, method: str, path: str, body: Any = None) -> Any:
    reply = await world.http.request(method, path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def refusal(world: World, method: str, path: str, body: Any = None) -> tuple[int, str]:
    reply = await world.http.request(method, path, json=body)
    return reply.status_code, reply.json()["error"]["message"]


async def created(world: World) -> tuple[str, dict[str, Any]]:
    session = (await answer(world, "POST", "/v1/sessions", LOOK))["session"]
    return f"/v1/sessions/{session['session_id']}", session


async def test_body_of_today_is_refused(world: World):
    """A create without `avatar_id` gets the documented answer, and leaves no session behind."""
    reply = await world.http.post("/v1/sessions", json={"avatar": "avat_1", "room": OWN_ROOM})
    assert (reply.status_code, reply.json()) == (400, documented("error-bad-request-400"))
    assert await world.observed() == []


@pytest.mark.parametrize(
    ("avatar_id", "status", "message"),
    [
        (7, 400, "avatar must be a string"),
        ("avat_some-character", 400, "Avatar is not a look"),
        ("avat_unknown", 404, "Avatar not found"),
        ("avat_exclusive", 403, "Access denied to this avatar"),
        ("https://pictures.example/me.jpg", 404, "Avatar not found"),
    ],
)
async def test_avatar_must_be_a_look(avatar_id: Any, status: int, message: str, world: World):
    """Only an avatar with a parent, of the caller's own or public, makes a session."""
    assert await refusal(world, "POST", "/v1/sessions", {"avatar_id": avatar_id}) == (status, message)
    assert await world.observed() == []


async def test_every_listed_look_makes_a_session_and_no_character_does(world: World):
    """What the list calls a look can be used; what it calls a character cannot."""
    listed = (await answer(world, "GET", "/v1/avatars?characters_only=false"))["avatars"]
    replies = {
        each["avatar_id"]: await world.http.post("/v1/sessions", json={"avatar_id": each["avatar_id"]})
        for each in listed
    }
    assert {name: reply.status_code for name, reply in replies.items()} == {
        each["avatar_id"]: 200 if each["parent_id"] else 400 for each in listed
    }
    assert DEFAULT_AVATAR in replies


async def test_created_session_waits_at_no_cost(world: World, clock: FakeClock):
    """Before the start nothing runs: no times, no avatar, no slot, no minutes; the room is there."""
    path, session = await created(world)
    clock.advance(hours=1)
    told = (await answer(world, "GET", path))["session"]
    assert (told["status"], told["started_at"], told["expiration"], told["duration"]) == (
        "created",
        None,
        None,
        None,
    )
    assert told["daily_room"]["url"].endswith(told["daily_room"]["name"])
    assert told["metadata"] == LOOK["metadata"]
    assert session["access_token"] not in json.dumps([told, await answer(world, "GET", "/v1/sessions")])
    assert world.avatars == []
    usage = (await answer(world, "GET", "/v1/usage"))["usage"]
    assert (usage["concurrency"]["current"], usage["active_sessions"]) == (0, [])


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_created_session_cannot_be_ended(method: str, world: World):
    """Only started sessions can be ended; the one that was not can still be started."""
    path, _ = await created(world)
    assert await refusal(world, method, f"{path}/end") == (400, "Session has not started")
    assert (await answer(world, "GET", path))["session"]["status"] == "created"
    assert (await answer(world, "PUT", f"{path}/start"))["success"] is True


@pytest.mark.parametrize("rules", [{"generation": "managed", "plan": "pro"}])
async def test_look_of_a_deleted_character(world: World):
    """With a character its look is gone, too."""
    avatar = world.service.catalogue.add(b"", b"")
    (look,) = world.service.catalogue.looks(avatar)
    await answer(world, "POST", "/v1/sessions", {"avatar_id": look})
    await answer(world, "DELETE", f"/v1/avatars/{avatar.avatar_id}")
    assert await refusal(world, "POST", "/v1/sessions", {"avatar_id": look}) == (404, "Avatar not found")


async def test_server_takes_its_time_to_boot(world_of: Any, clock: FakeClock):
    """The start call answers `try_again` until the server is up; the session runs, and is billed, meanwhile."""
    world = world_of(generation="managed", boot=timedelta(seconds=20))
    path, _ = await created(world)
    told = []
    for _ in range(4):
        told.append((await answer(world, "PUT", f"{path}/start"))["ws_uri"])
        clock.advance(seconds=10)
    assert told == ["try_again", "try_again", "ws://emulator", "ws://emulator"]
    assert len(world.avatars) == 1
    running = (await answer(world, "GET", path))["session"]
    assert (running["status"], running["started_at"]) == ("started", "2024-01-15T10:30:00Z")


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_bill_counts_from_the_start(method: str, world: World, clock: FakeClock):
    """The time between create and start is free; an ended session never starts again."""
    path, _ = await created(world)
    clock.advance(minutes=30)
    await answer(world, "PUT", f"{path}/start")
    clock.advance(seconds=61)
    for _ in range(2):  # harmless when repeated
        ended = (await answer(world, method, f"{path}/end"))["session"]
        clock.advance(minutes=5)
    assert (ended["status"], ended["started_at"]) == ("ended", "2024-01-15T11:00:00Z")
    assert (await answer(world, "GET", path))["session"]["duration"] == 61
    usage = (await answer(world, "GET", "/v1/usage"))["usage"]
    assert usage["included_minutes"]["used"] == 2
    assert await refusal(world, "PUT", f"{path}/start") == (400, "Session has already ended")


async def test_slot_is_taken_by_the_start(world: World):
    """Creating is free of the plan's limit on sessions at the same time; starting is not."""
    (first, _), (second, _) = await created(world), await created(world)
    await answer(world, "PUT", f"{first}/start")
    reply = await world.http.put(f"{second}/start")
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "CONCURRENCY_LIMIT_REACHED")
    assert (await answer(world, "GET", second))["session"]["status"] == "created"


@pytest.mark.parametrize("media", [False, pytest.param(True, marks=pytest.mark.chain)])
async def test_from_create_to_the_bill(media: bool):
    """A caller creates, starts, speaks at the address that the start told, and closes, which ends the session."""
    async with (
        Emulator(media=media, room_server="embedded", generation="managed", boot_s=0.2) as emulator,
        httpx.AsyncClient(base_url=emulator.url, trust_env=False, timeout=LIMIT_S) as http,
    ):
        http.headers["x-api-key"] = emulator.api_key
        create = (await http.post("/v1/sessions", json=LOOK)).json()["session"]
        path = f"/v1/sessions/{create['session_id']}"

        async with asyncio.timeout(LIMIT_S):
            while (ws_uri := (await http.put(f"{path}/start")).json()["ws_uri"]) == "try_again":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert ws_uri.startswith("ws://127.0.0.1:")

        room = (await http.get(path)).json()["session"]["daily_room"]
        init = documented("ws-session-init-managed")
        init["config"] |= {
            "session_id": create["session_id"],
            "access_token": create["access_token"],
            "room": {"platform": "daily", "url": room["url"], "token": room["token"]},
        }
        async with asyncio.timeout(LIMIT_S), websockets.connect(ws_uri, proxy=None) as socket:
            await socket.send(json.dumps(init))
            assert json.loads(await socket.recv()) == {
                "type": "connection.established",
                "session_id": create["session_id"],
            }
            await socket.send(json.dumps(speech(8_000)))
            assert json.loads(await socket.recv()) == {
                "type": "agent.speak.confirmed",
                "audio_samples": 8_000,
            }

            def heard() -> bool:
                return any(
                    each["event"] == "utterance_finished" for each in emulator.sessions()[0]["timeline"]
                )

            if media:
                await until(heard)

        assert await until(lambda: emulator.sessions()[0]["ended_by"]) == "gateway_closed"
        assert (await http.get(path)).json()["session"]["status"] == "ended"
        assert (await http.get("/v1/usage")).json()["usage"]["included_minutes"]["used"] == 1
