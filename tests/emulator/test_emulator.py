"""The whole emulator with real processes: room server, avatar worker, and a participant that speaks."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psutil
import pytest
from livekit import rtc

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.process import Child
from agenthuman_plugins.speech import AVATAR_IDENTITY, SPEECH_SAMPLE_RATE
from agenthuman_plugins.speech.proxies import direct_to
from tests.emulator.conftest import FakeClock, until
from tests.emulator.processes import children_of, still_alive

pytestmark = pytest.mark.chain

LIMIT_S = 20.0  # hang limit
PROXY = {"avatar": "avat_1", "room": {"platform": "proxy"}}
SPEECH_S = 0.4


class Caller:
    """A participant that speaks through the avatar, as the holder of `participantToken`."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.picture = asyncio.Event()
        self.finished: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.states: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def join(self, url: str, token: str) -> None:
        self.room.on("track_subscribed", self._on_track)
        self.room.on("data_received", self._on_data)
        with direct_to(url):
            await self.room.connect(url, token)
        self.room.local_participant.register_rpc_method("lk.playback_finished", self._on_finished)
        async with asyncio.timeout(LIMIT_S):
            await self.picture.wait()

    async def speak(self) -> None:
        writer = await self.room.local_participant.stream_bytes(
            name="AUDIO_1",
            topic="lk.audio_stream",
            attributes={"sample_rate": str(SPEECH_SAMPLE_RATE), "num_channels": "1"},
            destination_identities=[AVATAR_IDENTITY],
        )
        await writer.write(b"\x00\x20" * int(SPEECH_S * SPEECH_SAMPLE_RATE))
        await writer.aclose()

    def _on_track(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            self.picture.set()

    def _on_data(self, packet: rtc.DataPacket) -> None:
        if packet.topic == "session.state":
            self.states.put_nowait(json.loads(packet.data))

    async def _on_finished(self, call: rtc.RpcInvocationData) -> str:
        self.finished.put_nowait(json.loads(call.payload))
        return "ok"


async def heard(queue: "asyncio.Queue[Any]") -> Any:
    async with asyncio.timeout(LIMIT_S):
        return await queue.get()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    caller = Caller()
    yield caller
    await caller.room.disconnect()


def client(emulator: Emulator) -> httpx.AsyncClient:
    headers = {"x-api-key": emulator.api_key}
    return httpx.AsyncClient(base_url=emulator.url, headers=headers, trust_env=False, timeout=LIMIT_S)


def events(emulator: Emulator) -> list[str]:
    return [entry["event"] for entry in emulator.sessions()[0]["timeline"]]


async def create(http: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    reply = await http.post("/v1/sessions", json=PROXY | changes)
    assert reply.status_code == 200, reply.text
    return reply.json()["session"]


@pytest.mark.media
async def test_session_from_create_to_end(room_server_kind: str, caller: Caller):
    """A caller creates a session, joins, speaks, hears when it was played, ends; the avatar says goodbye and goes."""
    async with (
        Emulator(room_server=room_server_kind, sweep=False, expiry=False) as emulator,
        client(emulator) as http,
    ):
        session = await create(http)
        await caller.join(session["room"]["roomURL"], session["room"]["participantToken"])
        await caller.speak()
        report = await heard(caller.finished)
        assert (report["playback_position"], report["interrupted"]) == (pytest.approx(SPEECH_S), False)
        await until(lambda: "utterance_finished" in events(emulator))
        await http.post(f"/v1/sessions/{session['session_id']}/end")
        while (state := await heard(caller.states)) == {"state": "connected"}:
            pass
        assert state == {"state": "disconnected", "reason": "session_ended"}
        await until(lambda: events(emulator)[-1] == "exit")
        order = [
            "created",
            "avatar_starting",
            "ready",
            "utterance_started",
            "utterance_finished",
            "ended",
            "exit",
        ]
        assert [event for event in events(emulator) if event in order] == order
        assert emulator.sessions()[0]["ended_by"] == "caller"


async def test_emptied_room_ends_the_session(caller: Caller, clock: FakeClock):
    """When the caller leaves without ending, the service ends the session and names the reason."""
    async with Emulator(room_server="embedded", clock=clock) as emulator, client(emulator) as http:
        session = await create(http)
        await caller.join(session["room"]["roomURL"], session["room"]["participantToken"])
        await until(lambda: emulator.sessions()[0]["participants"] == 1)
        await caller.room.disconnect()
        await until(lambda: emulator.sessions()[0]["participants"] == 0)
        clock.advance(seconds=5)
        assert await until(lambda: emulator.sessions()[0]["ended_by"]) == "room_empty"


async def test_avatar_that_dies_is_swept():
    """A session whose avatar was killed is ended by the sweep."""
    async with Emulator(room_server="embedded") as emulator, client(emulator) as http:
        await create(http)
        psutil.Process(await until(lambda: emulator.sessions()[0]["avatar_pid"])).kill()
        assert await until(lambda: emulator.sessions()[0]["ended_by"]) == "sweep"


async def test_avatar_that_cannot_join_is_on_record():
    """A room that does not let the avatar in is told in one sentence, without the token; the session stays open."""
    async with Emulator(room_server="embedded", sweep=False) as emulator, client(emulator) as http:
        token = "not-a-token-4711"
        room = {"platform": "livekit", "url": "ws://127.0.0.1:9", "token": token}
        await create(http, room=room)
        await until(lambda: "avatar_failed" in events(emulator))
        record = emulator.sessions()[0]
        assert (record["avatar_state"], record["status"]) == ("failed", "started")
        assert "could not join" in record["timeline"][-1]["message"]
        assert token not in json.dumps(record)


async def test_end_while_the_avatar_is_on_its_way():
    """Ending a session at once, and then the emulator, leaves no process behind."""
    me = psutil.Process()
    async with Emulator(room_server="embedded") as emulator, client(emulator) as http:
        session = await create(http)
        await http.post(f"/v1/sessions/{session['session_id']}/end")
        await create(http)
    assert me.children(recursive=True) == []


async def test_killed_emulator_leaves_nothing():
    """`kill -9` of the emulator's process ends its room server and its avatars."""
    child = await Child.start("agenthuman_plugins.emulator", {"plan": "pro", "room_server": "embedded"})
    headers = {"x-api-key": child.ready["api_key"]}
    async with httpx.AsyncClient(base_url=child.ready["url"], headers=headers, trust_env=False) as http:
        for _ in range(2):
            await create(http)
        family = await asyncio.to_thread(children_of, psutil.Process(child.pid), 3)
    psutil.Process(child.pid).send_signal(signal.SIGKILL)
    assert await asyncio.to_thread(still_alive, family) == []
    await child.stop()


async def test_tokens_are_in_no_process_list():
    """API key, session token and room token are neither in a command line nor in an environment."""
    key = "ah_test_seeded_6f1c"
    async with Emulator(room_server="embedded", api_key=key) as emulator, client(emulator) as http:
        session = await create(http)
        secrets = [key, session["session_token"], session["room"]["participantToken"]]
        family = await asyncio.to_thread(children_of, psutil.Process(), 2)
        shown = json.dumps([[p.cmdline(), p.environ()] for p in family])
        assert not any(secret in shown for secret in secrets)
