"""The older generation: Daily rooms of the service's own, and sessions that are created, started and ended."""

import asyncio
import json
from typing import Any

import httpx
import pytest
import websockets

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.emulator import Emulator
from tests.contract.bodies import load as documented
from tests.emulator.conftest import until
from tests.emulator.fakes import OWN_ROOM, World
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


@pytest.mark.parametrize("rules", [{"generation": "managed", "plan": "pro"}])
async def test_look_of_a_deleted_character(world: World):
    """With a character its look is gone, too."""
    avatar = world.service.catalogue.add(b"", b"")
    (look,) = world.service.catalogue.looks(avatar)
    await answer(world, "POST", "/v1/sessions", {"avatar_id": look})
    await answer(world, "DELETE", f"/v1/avatars/{avatar.avatar_id}")
    assert await refusal(world, "POST", "/v1/sessions", {"avatar_id": look}) == (404, "Avatar not found")


async def test_slot_is_taken_by_the_start(world: World):
    """Creating is free of the plan's limit on sessions at the same time; starting is not."""
    (first, _), (second, _) = await created(world), await created(world)
    await answer(world, "PUT", f"{first}/start")
    reply = await world.http.put(f"{second}/start")
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "CONCURRENCY_LIMIT_REACHED")
    assert (await answer(world, "GET", second))["session"]["status"] == "created"


@pytest.mark.parametrize("media", [False, pytest.param(True, marks=pytest.mark.media)])
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
