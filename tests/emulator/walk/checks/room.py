"""The avatar in a LiveKit room, and who speaks to it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from livekit import rtc

from agenthuman_plugins.client import LiveKitRoom
from agenthuman_plugins.emulator import _avatars
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.emulator.worker import _notifier
from agenthuman_plugins.emulator.worker._notifier import FINISHED, STARTED, PlaybackNotifier
from agenthuman_plugins.emulator.worker._sender import Sender
from agenthuman_plugins.speech import AVATAR_IDENTITY, LiveKitSpeechLink, speech_link
from agenthuman_plugins.speech._utterances import Utterances
from agenthuman_plugins.speech.proxies import direct_to
from tests.emulator.conftest import until
from tests.emulator.room_server.clients import Client
from tests.emulator.walk.walk import LIMIT_S, PROXY_ROOM, Walk, check
from tests.emulator.worker.fakes import FakeStream, Stage, loop_on, tone
from tests.emulator.worker.test_in_room import Bot
from tests.emulator.worker.test_parts import Peer, participant, settle
from tests.emulator.worker.test_streams import END, Heard
from tests.speech.conftest import BOT, TestRoom
from tests.speech.scripted_avatar import ScriptedAvatar

_AUDIO, _VIDEO = rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO
_SECOND = bytes(32_000)


@contextlib.asynccontextmanager
async def joined(walk: Walk) -> AsyncIterator[tuple[Bot, dict[str, Any]]]:
    """Yield the holder of a `participantToken` in the room of a new session, with the avatar in it."""
    session = await walk.create(room=PROXY_ROOM)
    client = Client()
    with direct_to(session["room"]["roomURL"]):
        await client.room.connect(session["room"]["roomURL"], session["room"]["participantToken"])
        bot = Bot(client)
        try:
            await until(lambda: AVATAR_IDENTITY in client.room.remote_participants)
            await client.subscribed(_VIDEO)
            yield bot, session
        finally:
            await client.aclose()


@contextlib.asynccontextmanager
async def _heard() -> AsyncIterator[Heard]:
    heard = Heard()
    running = asyncio.create_task(heard.receiver.run())
    try:
        yield heard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@check(chain=True)
async def identity(walk: Walk):
    async with joined(walk) as (bot, _):
        assert set(bot.client.room.remote_participants) == {"agenthuman-avatar-agent"}


@check(chain=True)
async def avatar_token(walk: Walk):
    async with joined(walk) as (bot, _):
        avatar = bot.client.room.remote_participants[AVATAR_IDENTITY]
        assert avatar.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        assert avatar.attributes["lk.publish_on_behalf"] == bot.client.me.identity
    room = LiveKitRoom.mint("wss://rooms.example", "key", "secret" * 8, "room")
    claims = jwt.decode(room.avatar_token, options={"verify_signature": False})
    assert (claims["kind"], claims["sub"]) == ("agent", AVATAR_IDENTITY)
    assert claims["attributes"] == {"lk.publish_on_behalf": room.agent_identity}


@contextlib.asynccontextmanager
async def _speaking() -> AsyncIterator[tuple[LiveKitSpeechLink, ScriptedAvatar]]:
    async with await RoomServer.start("embedded") as server:
        room = TestRoom(server, "walk")
        with direct_to(server.url):
            async with ScriptedAvatar(room) as avatar:
                await avatar.show()
                link = LiveKitSpeechLink(room.url, room.bot_token())
                await link.connect(timeout_s=LIMIT_S)
                try:
                    yield link, avatar
                finally:
                    await link.aclose()


@check(chain=True)
async def speech_stream():
    async with _speaking() as (link, avatar):
        await link.send(_SECOND)
        await link.end_utterance()
        await avatar.until(lambda: avatar.streams and avatar.streams[0].closed)
    (stream,) = avatar.streams
    assert (stream.topic, stream.sender) == ("lk.audio_stream", BOT)
    assert stream.attributes == {"sample_rate": "16000", "num_channels": "1"}


@check(chain=True)
async def speech_format():
    async with _speaking() as (link, avatar):
        spoken = bytes(range(256)) * 125
        await link.send(spoken)
        await link.end_utterance()
        await avatar.until(lambda: avatar.streams and avatar.streams[0].closed)
    assert bytes(avatar.streams[0].pcm) == spoken


@check(chain=True)
async def one_stream_an_utterance(walk: Walk):
    session = await walk.client.sessions.create(avatar="avat_1")
    link = speech_link(session)
    await link.connect(timeout_s=LIMIT_S)
    try:
        for _ in range(2):
            await link.send(_SECOND[:8_000])
            await link.end_utterance()
        assert await link.wait_playback(timeout_s=LIMIT_S)
    finally:
        await link.aclose()
    events = [entry for entry in walk.record()["timeline"] if entry["event"] == "utterance_finished"]
    assert [entry["position_s"] for entry in events] == [pytest.approx(0.25, abs=0.05)] * 2


@check(chain=True)
async def faster_than_real_time(walk: Walk):
    async with joined(walk) as (bot, _):
        await bot.say(tone(50))
        await bot.report("playback_started")
        started = time.monotonic()
        finished = await bot.report("playback_finished")
    assert finished is not None
    assert finished["playback_position"] == pytest.approx(2.0)
    assert time.monotonic() - started > 1.5


@check(chain=True)
async def clear_buffer(walk: Walk):
    async with joined(walk) as (bot, session):
        server = walk.emulator._rooms.started
        job = walk.service.job(walk.service.store.get(session["session_id"]))
        room, _ = server.admits(job.token)
        stranger = Client()
        await stranger.room.connect(server.url, server.mint(room=room, identity="stranger"))
        try:
            await until(lambda: AVATAR_IDENTITY in stranger.room.remote_participants)
            assert await Bot(stranger).clear() == "reject"
            assert await bot.clear() == "ok"
        finally:
            await stranger.aclose()


@check()
async def clear_drops_the_rest():
    async with _heard() as heard:
        stream = FakeStream()
        heard.receiver.open(stream, {})
        stream.write(b"ab")
        await heard.until(b"ab")
        heard.receiver.clear()
        stream.write(b"cd")
        stream.end()
        following = FakeStream()
        heard.receiver.open(following, {})
        following.write(b"ef")
        following.end()
        await heard.until(b"ab", b"ef", END)


@check()
async def finished_report():
    peer = Peer()
    notifier = PlaybackNotifier(peer.call)
    notifier.finished("bot", 1.25, interrupted=True)
    await settle(notifier)
    ((method, payload),) = peer.calls
    assert method == "lk.playback_finished" == FINISHED
    assert json.loads(payload) == {
        "playback_position": 1.25,
        "interrupted": True,
        "synchronized_transcript": None,
    }


@check()
async def finished_when_interrupted():
    stage = Stage()
    avatar = loop_on(stage)
    avatar.clear()
    assert stage.of("finished") == []
    avatar.push(tone(5))
    await avatar.step()
    avatar.clear()
    assert [interrupted for _, interrupted in stage.of("finished")] == [True]


@check()
async def finished_at_the_end():
    stage = Stage()
    avatar = loop_on(stage)
    avatar.push(tone(3))
    avatar.end()
    for _ in range(6):
        await avatar.step()
    assert stage.of("finished") == [(0.12, False)]


@check()
async def started_report():
    peer = Peer(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD)
    notifier = PlaybackNotifier(peer.call)
    notifier.started("bot")
    await settle(notifier)
    assert peer.calls == [("lk.playback_started", "")]
    assert STARTED == "lk.playback_started"


@check()
async def reports_are_repeated():
    assert _notifier._RETRY_DELAY_S == 0.1
    peer = Peer(1502, 1502, 1502, 1502)
    notifier = PlaybackNotifier(peer.call)
    notifier.finished("bot", 1.0, interrupted=False)
    await settle(notifier)
    assert len(peer.calls) == 3


@check()
def surplus_reports():
    now = [0.0]
    utterances = Utterances(lambda: now[0])
    assert utterances.finished(1.0, interrupted=False) == []
    utterances.push(utterances.open(), len(_SECOND))
    utterances.end()
    now[0] = 1.0
    assert len(utterances.finished(1.0, interrupted=False)) == 1
    assert utterances.finished(1.0, interrupted=False) == []


@check()
def first_agent_is_the_speaker():
    sender = Sender(None)
    sender.look_among([participant("user"), participant("bot", agent=True), participant("late", agent=True)])
    assert sender.identity == "bot"
    assert [sender.accepts(each) for each in ("user", "late", "bot")] == [False, False, True]


@check(chain=True)
async def proxy_speaker(walk: Walk):
    async with joined(walk) as (bot, _):
        await bot.say(tone(5))
        await bot.report("playback_started")
        await bot.report("playback_finished")


@check(chain=True)
async def both_tracks(walk: Walk):
    async with joined(walk) as (bot, _):
        await bot.client.subscribed(_AUDIO)
        await bot.client.subscribed(_VIDEO)


@check(chain=True)
async def state_packets(walk: Walk):
    async with joined(walk) as (bot, session):

        async def says(**state: str) -> None:
            await bot.client.event(
                "data_received",
                lambda packet: packet.topic == "session.state" and json.loads(packet.data) == state,
            )

        await says(state="connected")
        await walk.end(session)
        await says(state="disconnected", reason="session_ended")


@check()
def wait_for_playback():
    now = [10.0]
    utterances = Utterances(lambda: now[0])
    utterances.push(utterances.open(), 60 * len(_SECOND))
    utterances.cut()
    assert utterances.deadline == 12.0
    now[0] = 12.0
    assert len(utterances.expire()) == 1


@check()
async def rejoins(walk: Walk):
    session = await walk.create(room=PROXY_ROOM)
    walk.happens(session, "ready", pid=1)
    walk.happens(session, "exit", code=-9)
    assert walk.record()["ended_by"] == "sweep"


@check()
async def frame_rate():
    stage = Stage()
    avatar = loop_on(stage)
    for _ in range(3):
        await avatar.step()
    assert [timestamp for timestamp, *_ in stage.of("picture")] == [0, 40_000, 80_000]
    assert _avatars._FPS == 25
