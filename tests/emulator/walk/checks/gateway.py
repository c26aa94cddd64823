"""The WebSocket gateway."""

import asyncio
import base64
import json
from typing import Any

import pytest
import websockets

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.speech import GatewaySpeechLink, _gateway_wire
from tests.contract.bodies import load as documented
from tests.emulator.conftest import until
from tests.emulator.walk import walk as walks
from tests.emulator.walk.walk import DAILY_ROOM, LIMIT_S, Walk, check, connected, shape
from tests.speech.scripted_gateway import ScriptedGateway

_MEGABYTE = 1024 * 1024


def _speech(samples: int, rate: float | None = 16_000) -> dict[str, Any]:
    message = {"type": "agent.speak", "audio": base64.b64encode(bytes(2 * samples)).decode()}
    return message if rate is None else message | {"sample_rate": rate}


async def _older(walk: Walk) -> tuple[str, dict[str, Any]]:
    """Return the address and the first message of a session of the older generation."""
    session = (await walk.ok("POST", "/v1/sessions", {"avatar_id": DEFAULT_AVATAR}))["session"]
    for _ in range(2):
        started = await walk.ok("PUT", f"/v1/sessions/{session['session_id']}/start")
    message = documented("ws-session-init-managed")
    message["config"] |= {name: session[name] for name in ("session_id", "access_token")}
    return started["ws_uri"], message


async def _answer_to_older(walk: Walk, **changes: Any) -> dict[str, Any]:
    _, message = await _older(walk)
    message["config"] |= changes
    async with connected(walk) as gateway:
        return await gateway.ask({**message, "config": _given(message["config"])})


def _given(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if value is not ...}


@check()
def address():
    assert _gateway_wire.checked_url(None) == "wss://wss.agenthuman.com"


@check(served=True)
async def own_address(walk: Walk):
    assert walk.emulator.gateway_url == walk.emulator.url.replace("http://", "ws://")


@check(served=True)
async def init_first(walk: Walk):
    for message in (_speech(1), {"type": "agent.interrupt"}):
        async with connected(walk) as gateway:
            assert (await gateway.ask(message))["error"] == "First message must be session.init"


@check(served=True)
async def init(walk: Walk):
    message = walks.init(await walk.create())
    assert shape(message) == shape(documented("ws-session-init-own-room"))
    async with connected(walk) as gateway:
        assert (await gateway.ask(message))["type"] == "connection.established"


@check(served=True)
async def credentials_are_checked(walk: Walk):
    session = await walk.create()
    for wrong in ({"session_token": "wrong"}, {"session_id": "sess_none"}, {"session_token": None}):
        async with connected(walk) as gateway:
            assert "error" in await gateway.ask(walks.init(session) | wrong)


@check(served=True)
async def established(walk: Walk):
    session = await walk.create()
    async with connected(walk) as gateway:
        answer = await gateway.ask(walks.init(session))
    assert answer == documented("ws-connection-established") | {"session_id": session["session_id"]}


@check(served=True)
async def established_after_joining(walk: Walk):
    session = await walk.create()
    found = walk.service.store.get(session["session_id"])
    walk.service._on_event(found, {"event": "avatar_starting"})
    async with connected(walk) as gateway:
        answer = asyncio.create_task(gateway.ask(walks.init(session)))
        await until(lambda: session["session_id"] in walk.service._listeners)
        await asyncio.wait([answer], timeout=0.2)
        assert not answer.done()
        walk.service._on_event(found, {"event": "ready", "pid": 1})
        assert (await answer)["type"] == "connection.established"


@check(chain=True, established_first=True)
async def established_at_once(walk: Walk):
    session = await walk.create(room=DAILY_ROOM)
    async with connected(walk, session) as gateway:
        assert walk.record()["avatar_state"] == "starting"
        await gateway.ask(_speech(16_000))
        finished = await _finished(walk)
    assert finished["position_s"] == pytest.approx(1.0)


async def _finished(walk: Walk) -> dict[str, Any]:
    def seen() -> Any:
        timeline = walk.record()["timeline"]
        return next((entry for entry in timeline if entry["event"] == "utterance_finished"), None)

    return await until(seen)


@check()
async def both_orders():
    async with ScriptedGateway().running() as early, ScriptedGateway().running() as late:
        late.established = False
        for scripted in (early, late):
            link = GatewaySpeechLink("sess_1", "token", url=scripted.url)
            connecting = asyncio.create_task(link.connect(timeout_s=LIMIT_S))
            await scripted.until(lambda scripted=scripted: scripted.of_type("session.init"))
            if scripted is late:
                await scripted.tell({"type": "connection.established", "session_id": "sess_1"})
            await connecting
            await link.send(bytes(32_000))
            await scripted.until(lambda scripted=scripted: len(scripted.speech()) == 32_000)
            await link.aclose()


@check(served=True)
async def speak(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        assert (await gateway.ask(_speech(160)))["audio_samples"] == 160
        for audio in ("?", base64.b64encode(b"odd").decode(), 7):
            assert "error" in await gateway.ask({"type": "agent.speak", "audio": audio})


@check(served=True)
async def default_rate(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        assert (await gateway.ask(_speech(160, None)))["audio_samples"] == 160


@check(served=True)
async def any_rate(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        for rate in (1_000, 44_100.0, 768_000):
            assert (await gateway.ask(_speech(int(rate), rate)))["audio_samples"] == 16_000
        for rate in (999, 768_001, 0):
            assert "error" in await gateway.ask(_speech(16, rate))


@check(served=True)
async def rates_of_speech(walk: Walk):
    rates = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
    async with connected(walk, await walk.create()) as gateway:
        for rate in rates:
            assert (await gateway.ask(_speech(rate, rate)))["audio_samples"] == 16_000


@check(served=True)
async def confirmed(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        assert await gateway.ask(_speech(48_000)) == documented("ws-agent-speak-confirmed")


@check(chain=True)
async def confirmed_at_48_khz(walk: Walk):
    async with connected(walk, await walk.create(room=DAILY_ROOM)) as gateway:
        assert await gateway.ask(_speech(144_000, 48_000)) == documented("ws-agent-speak-confirmed")


@check(chain=True)
async def interrupt(walk: Walk):
    async with connected(walk, await walk.create(room=DAILY_ROOM)) as gateway:
        await gateway.ask(_speech(16_000 * 60))
        await until(lambda: "utterance_started" in [entry["event"] for entry in walk.record()["timeline"]])
        await gateway.ask({"type": "agent.interrupt"})
        finished = await _finished(walk)
    assert finished["interrupted"] is True
    assert finished["position_s"] < 30


@check(served=True)
async def interrupt_is_confirmed(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        assert (await gateway.ask({"type": "agent.interrupt"}))["type"] == "agent.interrupt.confirmed"


@check(served=True)
async def errors_have_text(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        answer = await gateway.ask({"type": "agent.dance"})
        assert (answer["type"], isinstance(answer["error"], str)) == ("error", True)
        assert (await gateway.ask(_speech(16)))["audio_samples"] == 16


@check(chain=True)
async def confirmed_on_receipt(walk: Walk):
    async with connected(walk, await walk.create(room=DAILY_ROOM)) as gateway:
        assert (await gateway.ask(_speech(16_000 * 60)))["audio_samples"] == 16_000 * 60
        assert "utterance_finished" not in [entry["event"] for entry in walk.record()["timeline"]]


@check(served=True)
async def in_order(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        sizes = [16, 32, 48, 64]
        for size in sizes:
            await gateway.socket.send(json.dumps(_speech(size)))
        assert [(await gateway.hear())["audio_samples"] for _ in sizes] == sizes


@check(served=True)
async def size_limit(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        assert (await gateway.ask(_speech(3 * _MEGABYTE)))["audio_samples"] == 3 * _MEGABYTE
        await gateway.socket.send("x" * (10 * _MEGABYTE + 1))
        await gateway.socket.wait_closed()
    assert gateway.socket.close_code == 1009


@check()
async def client_stays_below():
    async with ScriptedGateway().running() as scripted:
        link = GatewaySpeechLink("sess_1", "token", url=scripted.url)
        await link.connect(timeout_s=LIMIT_S)
        await link.send(bytes(32_000 * 20))
        await scripted.until(lambda: len(scripted.speech()) == 32_000 * 20)
        await link.aclose()
    assert max(len(message["audio"]) for message in scripted.of_type("agent.speak")) < 100_000


@check(served=True, generation="managed")
async def older_size_limit(walk: Walk):
    _, message = await _older(walk)
    async with connected(walk) as gateway:
        await gateway.ask(message)
        await gateway.socket.send("x" * (10 * _MEGABYTE + 1))
        await gateway.socket.wait_closed()
    assert gateway.socket.close_code == 1009


@check(served=True, generation="managed")
async def older_init(walk: Walk):
    assert (await _answer_to_older(walk))["type"] == "connection.established"


@check(served=True, generation="managed")
async def older_room(walk: Walk):
    room = documented("ws-session-init-managed")["config"]["room"] | {"platform": "livekit"}
    assert (await _answer_to_older(walk, room=room))["error"] == "Invalid room platform"


@check(served=True, generation="managed")
async def older_room_fields(walk: Walk):
    room = documented("ws-session-init-managed")["config"]["room"]
    for missing in ("url", "token"):
        part = {name: value for name, value in room.items() if name != missing}
        assert "error" in await _answer_to_older(walk, room=part)
        await walk.end({"session_id": walk.record()["session_id"]})


@check(served=True, generation="managed")
async def older_size(walk: Walk):
    for size in (0, -1, "tall", None):
        answer = await _answer_to_older(walk, video_width=size)
        assert answer["error"] == "Invalid video dimensions"
        await walk.end({"session_id": walk.record()["session_id"]})
    answer = await _answer_to_older(walk, video_width=..., video_height=...)
    assert answer["type"] == "connection.established"


@check(served=True, generation="managed")
async def older_ratios(walk: Walk):
    answer = await _answer_to_older(walk, video_width=1_000, video_height=10)
    assert answer["type"] == "connection.established"


@check(served=True, generation="managed")
async def older_address(walk: Walk):
    address, message = await _older(walk)
    async with websockets.connect(address, proxy=None) as socket:
        await socket.send(json.dumps(message))
        assert "connection.established" in await socket.recv()


@check(served=True)
async def messages_are_text(walk: Walk):
    async with connected(walk, await walk.create()) as gateway:
        await gateway.socket.send(json.dumps({"type": "agent.interrupt"}))
        assert isinstance(await gateway.socket.recv(), str)
