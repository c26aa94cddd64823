"""The avatar worker as a process in a real room."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio
from aiohttp import web
from livekit import rtc

from agenthuman_plugins.emulator.process import Child, ChildError
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.speech import AVATAR_IDENTITY
from tests.emulator.room_server.clients import TIMEOUT_S, Client, frames
from tests.emulator.room_server.conftest import Join
from tests.emulator.worker.fakes import tone

pytestmark = [pytest.mark.media, pytest.mark.asyncio(loop_scope="package")]

WORKER = "agenthuman_plugins.emulator.worker"
AUDIO, VIDEO = rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO


class Avatar:
    """A worker process and what it said."""

    def __init__(self) -> None:
        self.child: Child
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def note(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._news.set()

    def seen(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    async def event(self, name: str, **fields: Any) -> None:
        """Wait for an event with these fields, past or future."""
        await self._until(lambda: any(fields.items() <= event.items() for event in self.seen(name)))

    async def latest(self, name: str, **fields: Any) -> None:
        """Wait until the latest event of a name has these fields."""
        await self._until(lambda: any(fields.items() <= event.items() for event in self.seen(name)[-1:]))

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


StartAvatar = Callable[..., Awaitable[Avatar]]


@pytest_asyncio.fixture(loop_scope="package")
async def start_avatar(room_server: RoomServer, room_name: str) -> AsyncIterator[StartAvatar]:
    """Starts avatar workers in the room of the test."""
    avatars: list[Avatar] = []

    async def start(*, attributes: dict[str, str] | None = None, **settings: Any) -> Avatar:
        avatar = Avatar()
        token = room_server.mint(
            room=room_name, identity=AVATAR_IDENTITY, kind="agent", attributes=attributes
        )
        # A small picture: what is tested here does not depend on it, and painting a large one takes a while.
        room = {"url": room_server.url, "token": token, "avatar": "avat_1", "width": 160, "height": 120}
        avatar.child = await Child.start(WORKER, room | settings, on_event=avatar.note, timeout_s=TIMEOUT_S)
        avatars.append(avatar)
        return avatar

    yield start
    for avatar in avatars:
        await avatar.child.stop()


class Bot:
    """Our side of the room: speaks through the avatar and hears its reports."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.reports: asyncio.Queue[tuple[str, dict[str, Any] | None]] = asyncio.Queue()
        for name in ("playback_started", "playback_finished"):
            client.me.register_rpc_method(f"lk.{name}", self._reporter(name))

    def _reporter(self, name: str) -> Callable[[rtc.RpcInvocationData], str]:
        def report(call: rtc.RpcInvocationData) -> str:
            assert call.caller_identity == AVATAR_IDENTITY
            self.reports.put_nowait((name, json.loads(call.payload) if call.payload else None))
            return "ok"

        return report

    async def report(self, name: str) -> dict[str, Any] | None:
        async with asyncio.timeout(TIMEOUT_S):
            reported, payload = await self.reports.get()
        assert reported == name
        return payload

    async def open_stream(self, *, sample_rate: int = 16_000, num_channels: int = 1) -> rtc.ByteStreamWriter:
        return await self.client.me.stream_bytes(
            "AUDIO_1",
            topic="lk.audio_stream",
            destination_identities=[AVATAR_IDENTITY],
            attributes={"sample_rate": str(sample_rate), "num_channels": str(num_channels)},
        )

    async def say(self, pcm: bytes, **form: int) -> None:
        stream = await self.open_stream(**form)
        for start in range(0, len(pcm), 640):
            await stream.write(pcm[start : start + 640])
        await stream.aclose()

    async def clear(self) -> str:
        return await self.client.me.perform_rpc(
            destination_identity=AVATAR_IDENTITY, method="lk.clear_buffer", payload=""
        )


@pytest_asyncio.fixture(loop_scope="package")
async def bot(join: Join) -> Bot:
    return Bot(await join("bot"))


async def test_avatar_publishes_voice_and_picture_at_once(start_avatar: StartAvatar, bot: Bot) -> None:
    """Ready means both tracks are there; the picture has the size asked for, and its full size at once."""
    avatar = await start_avatar(width=512, height=512)
    assert avatar.child.ready == {"event": "ready"}
    await bot.client.subscribed(AUDIO)
    track = await bot.client.subscribed(VIDEO)
    async with asyncio.timeout(TIMEOUT_S), aclosing(frames(track)) as pictures:
        seen = [await anext(pictures) for _ in range(10)]
    assert {(picture.width, picture.height) for picture in seen} == {(512, 512)}


async def test_utterance_is_played_and_reported(start_avatar: StartAvatar, bot: Bot) -> None:
    """Speech sent at once is played in real time: start, sound, open mouth, end with the whole length."""
    avatar = await start_avatar(attributes={"lk.publish_on_behalf": "bot"})
    voice = await bot.client.subscribed(AUDIO)
    listening = asyncio.create_task(_heard(voice, 0.6))
    await bot.say(tone(25))
    await bot.report("playback_started")
    finished = await bot.report("playback_finished")
    assert finished == played(1.0)
    heard_s = await listening
    assert heard_s >= 0.6
    await avatar.event("utterance_started")
    await avatar.event("utterance_finished", position_s=1.0, interrupted=False)


def played(position_s: float, **tolerance: float) -> dict[str, Any]:
    """The report of an utterance that was played to its end."""
    position = pytest.approx(position_s, **tolerance)
    return {"playback_position": position, "interrupted": False, "synchronized_transcript": None}


async def _heard(track: rtc.RemoteTrack, enough_s: float) -> float:
    """Seconds of sound, counted until there were enough."""
    stream = rtc.AudioStream(track, sample_rate=16_000, num_channels=1)
    loud_s = 0.0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async for event in stream:
                samples = np.frombuffer(event.frame.data, np.int16).astype(int)
                if np.abs(samples).max() > 1_000:
                    loud_s += len(samples) / 16_000
                if loud_s >= enough_s:
                    break
    finally:
        await stream.aclose()
    return loud_s


async def test_clear_stops_speech_and_the_next_utterance_plays(start_avatar: StartAvatar, bot: Bot) -> None:
    """Ten interruptions in a row: each is answered and reported, and the reply after them plays in full."""
    avatar = await start_avatar(attributes={"lk.publish_on_behalf": "bot"})
    for _ in range(10):
        stream = await bot.open_stream()
        await stream.write(tone(100))
        await bot.report("playback_started")
        await stream.aclose()
        assert await bot.clear() == "ok"
        finished = await bot.report("playback_finished")
        assert finished is not None
        assert finished["interrupted"]
        assert finished["playback_position"] < 4.0
    assert len(avatar.seen("clear")) == 10
    await bot.say(tone(10))
    await bot.report("playback_started")
    assert await bot.report("playback_finished") == played(0.4)


async def test_rest_of_a_cleared_stream_is_dropped(start_avatar: StartAvatar, bot: Bot) -> None:
    """As with a stock avatar: writing on into a stream that was cleared is not heard."""
    await start_avatar(attributes={"lk.publish_on_behalf": "bot"})
    stream = await bot.open_stream()
    await stream.write(tone(100))
    await bot.report("playback_started")
    await bot.clear()
    await bot.report("playback_finished")
    await stream.write(tone(10))
    await stream.aclose()
    await bot.say(tone(5))
    await bot.report("playback_started")
    assert await bot.report("playback_finished") == played(0.2)


async def test_other_formats_are_played(start_avatar: StartAvatar, bot: Bot) -> None:
    """A stereo stream of 48 kHz is played at its true length."""
    await start_avatar(attributes={"lk.publish_on_behalf": "bot"})
    stereo = np.zeros((24_000, 2), "<i2")
    stereo[:] = 500
    await bot.say(stereo.tobytes(), sample_rate=48_000, num_channels=2)
    await bot.report("playback_started")
    finished = await bot.report("playback_finished")
    assert finished == played(0.5, abs=0.001)


async def test_only_the_sender_is_obeyed(start_avatar: StartAvatar, bot: Bot, join: Join) -> None:
    """Streams of others are not played, and their clear is rejected."""
    avatar = await start_avatar(sender="bot")
    other = Bot(await join("other"))
    await other.say(tone(5))
    assert await other.clear() == "reject"
    await bot.say(tone(5))
    await bot.report("playback_started")
    assert await other.clear() == "reject"
    await bot.report("playback_finished")
    assert other.reports.empty()
    assert not avatar.seen("clear")


async def test_sender_that_leaves_is_cut_off(start_avatar: StartAvatar, bot: Bot, join: Join) -> None:
    """The avatar does not speak on for somebody who has gone; whoever speaks next is heard."""
    avatar = await start_avatar()
    await bot.client.publish_audio()  # a real server tells at once of those who publish; else every 3 s
    stream = await bot.open_stream()
    await stream.write(tone(1_000))
    await bot.report("playback_started")
    await bot.client.aclose()
    await avatar.event("utterance_finished", interrupted=True)
    following = Bot(await join("following"))
    await following.say(tone(5))
    await following.report("playback_started")
    await following.report("playback_finished")


async def test_state_packets_tell_when_the_avatar_is_there(
    start_avatar: StartAvatar, bot: Bot, join: Join
) -> None:
    """Everybody hears `connected`, late comers too, and `disconnected` with its reason; then the worker ends."""
    avatar = await start_avatar()
    late = await join("late")
    for client in (bot.client, late):
        await client.publish_audio()  # a real server tells at once of those who publish; else every 3 s
    for client in (bot.client, late):
        (packet,) = await client.event("data_received", _says({"state": "connected"}))
        assert packet.topic == "session.state"
    await avatar.event("participants", count=1)
    avatar.child.send({"command": "leave", "reason": "session_ended"})
    for client in (bot.client, late):
        await client.event("data_received", _says({"state": "disconnected", "reason": "session_ended"}))
        await client.event("participant_disconnected", lambda who: who.identity == AVATAR_IDENTITY)
    await avatar.event("exit", code=0)


def _says(state: dict[str, str]) -> Callable[[rtc.DataPacket], bool]:
    return lambda packet: packet.topic == "session.state" and json.loads(packet.data) == state


async def test_parent_hears_who_is_there(start_avatar: StartAvatar, bot: Bot, join: Join) -> None:
    """The number of others is told at the start and on every change."""
    avatar = await start_avatar()
    other = await join("other")
    for client in (bot.client, other):
        await client.publish_audio()  # a real server tells at once of those who publish; else every 3 s
    await avatar.latest("participants", count=2)
    await other.aclose()
    await bot.client.aclose()
    await avatar.latest("participants", count=0)


async def test_lost_room_ends_the_worker(start_avatar: StartAvatar) -> None:
    """An avatar that is thrown out tells its parent why, and ends."""
    first = await start_avatar()
    await start_avatar()  # the same identity: the first one is out
    await first.event("disconnected", reason="duplicate_identity")
    await first.event("exit", code=0)


async def test_refused_token_is_one_sentence_without_the_token(
    room_server: RoomServer, room_name: str
) -> None:
    """A room that refuses the avatar is an error that says so and shows no token."""
    token = room_server.mint(room=room_name, identity=AVATAR_IDENTITY, ttl_s=-600)
    with pytest.raises(ChildError, match="could not join the room") as caught:
        await Child.start(
            WORKER, {"url": room_server.url, "token": token, "avatar": "avat_1"}, timeout_s=TIMEOUT_S
        )
    assert token not in str(caught.value)


async def test_token_that_a_server_repeats_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    """A server may quote the token that it refuses; neither the error nor the worker's log passes that on."""
    token = "seeded-token-of-an-avatar"

    async def refuse(request: web.Request) -> web.Response:
        quoted = request.query.get("access_token") or request.headers.get("Authorization")
        return web.Response(status=401, text=f"invalid token: {quoted}")

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = {"url": f"ws://127.0.0.1:{runner.addresses[0][1]}", "token": token, "avatar": "avat_1"}
    try:
        with pytest.raises(ChildError, match="invalid token") as caught:
            await Child.start(WORKER, settings, timeout_s=TIMEOUT_S)
    finally:
        await runner.cleanup()
    # Whether LiveKit's thread gets to log before the worker ends is a matter of chance; the error always quotes.
    assert token not in capfd.readouterr().err + str(caught.value)


async def test_worker_dies_with_its_parent(
    room_server: RoomServer, room_name: str, bot: Bot, tmp_path: Path
) -> None:
    """Even after `kill -9` of the parent, the worker leaves the room; its command line holds no secret."""
    token = room_server.mint(room=room_name, identity=AVATAR_IDENTITY)
    settings = {"url": room_server.url, "token": token, "avatar": "avat_1"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    script = (
        "import asyncio, json, sys\n"
        "from agenthuman_plugins.emulator.process import Child\n"
        "async def main():\n"
        "    settings = json.load(open(sys.argv[1]))\n"
        f"    child = await Child.start({WORKER!r}, settings)\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "settings.json"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        async with asyncio.timeout(TIMEOUT_S):
            worker = psutil.Process(int(await parent.stdout.readline()))
        assert token not in " ".join(worker.cmdline())
        assert token not in str(worker.environ())
        await bot.client.subscribed(VIDEO)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        await parent.wait()
    await bot.client.event("participant_disconnected", lambda who: who.identity == AVATAR_IDENTITY)
    await asyncio.to_thread(psutil.wait_procs, [worker], TIMEOUT_S)
    assert not worker.is_running()
