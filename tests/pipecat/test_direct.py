"""Direct mode: the avatar publishes in the user's own room, and the bot pushes neither voice nor picture."""

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from loguru import logger
from pipecat.frames.frames import (
    BotSpeakingFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.audio.audio_buffer_processor import AudioBufferProcessor
from pipecat.processors.filters.frame_filter import FrameFilter
from pipecat.processors.frame_processor import FrameDirection

from agenthuman_plugins.client import DailyRoom
from agenthuman_plugins.speech.progress import PlaybackClock, Utterance
from tests.pipecat.bot import RATE, WAIT_S, FakeClient, Tap, running, sentence, speech, tone
from tests.pipecat.transport import Playing
from tests.virtual_time import in_virtual_time

ROOM = DailyRoom("https://example.daily.co/room", "token")


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _playing(duration_s: float = 1.0, *, complete: bool = True) -> tuple[_Clock, PlaybackClock, Utterance]:
    clock = _Clock()
    playback = PlaybackClock(clock)
    utterance = Utterance(number=1, duration_s=duration_s, voiced_end_s=duration_s, complete=complete)
    playback.expect(utterance)
    return clock, playback, utterance


def test_a_sender_that_is_held_up_stops_the_clock() -> None:
    """No avatar says what it has not got; it goes on, and comes to its end, when the rest has left."""
    clock, playback, utterance = _playing()
    utterance.sent_s = 0.2
    playback.started(1)
    clock.now += 3.0
    (heard,) = playback.tick()
    assert (heard.position_s, heard.finished) == (0.2, False)
    utterance.sent_s = math.inf
    clock.now += 0.5
    (heard,) = playback.tick()
    assert heard.position_s == pytest.approx(0.7)
    assert not heard.finished


def test_position_counts_from_the_report_of_the_start() -> None:
    """Before the avatar says that it speaks, nothing was played."""
    clock, playback, _ = _playing()
    playback.started(0)  # this avatar reports starts
    clock.now = 2.0
    assert playback.tick() == []
    playback.started(1)
    clock.now = 2.25
    (heard,) = playback.tick()
    assert (heard.first, heard.position_s, heard.finished) == (True, 0.25, False)


def test_avatar_that_reports_no_start_is_taken_to_begin_soon() -> None:
    """Without any report the clock begins a usual moment after the first sample was sent."""
    clock, playback, _ = _playing()
    clock.now = 0.29
    assert playback.tick() == []
    clock.now = 0.31
    assert [heard.first for heard in playback.tick()] == [True]


@pytest.mark.parametrize(("reported_at", "over_at"), [(0.8, 1.0), (1.0, 1.0), (5.0, 1.26)])
def test_end_is_that_of_the_voice_whenever_it_is_reported(reported_at: float, over_at: float) -> None:
    """An early report cuts nothing off, and a late one keeps nobody waiting."""
    clock, playback, _ = _playing()
    playback.started(1)
    ended = None
    for step in range(600):
        clock.now = step / 100
        if clock.now == reported_at:
            playback.ended(1)
        if any(heard.finished for heard in playback.tick()):
            ended = clock.now
            break
    assert ended is not None
    assert abs(ended - over_at) <= 0.03
    assert not playback.busy.is_set()


def test_clock_stands_while_the_avatar_waits_for_speech() -> None:
    """A TTS that is slower than real time does not let the position run ahead."""
    clock, playback, utterance = _playing(0.2, complete=False)
    playback.started(1)
    clock.now = 1.0
    (heard,) = playback.tick()
    assert (heard.position_s, round(heard.starved_s, 6)) == (0.2, 0.8)
    utterance.duration_s = 1.0
    clock.now = 1.1
    (heard,) = playback.tick()
    assert (round(heard.position_s, 6), heard.starved_s) == (0.3, 0.0)


def test_next_reply_follows_without_a_pause() -> None:
    """An end that is not reported does not make the clock of the next reply late."""
    clock, playback, _ = _playing()
    playback.expect(Utterance(number=2, duration_s=1.0, voiced_end_s=1.0, complete=True))
    clock.now = 0.4
    playback.tick()
    clock.now = 1.41
    assert [(heard.utterance.number, heard.finished) for heard in playback.tick()] == [(1, True), (2, False)]


def test_speech_that_the_resampler_holds_back_is_no_speech_to_come() -> None:
    """The end of an unfinished reply counts as heard although its last samples have not been sent."""
    clock, playback, utterance = _playing(1.0, complete=False)
    utterance.sent_s = 0.97
    playback.started(1)
    clock.now = 2.0
    (heard,) = playback.tick()
    assert heard.position_s == 0.97
    assert heard.starved_s == pytest.approx(1.03)


@in_virtual_time
async def test_bot_pushes_no_media_and_tells_when_it_speaks() -> None:
    """Texts follow what was played, and the speaking frames go both ways, once for the reply."""
    async with running(room=ROOM, link_options={"voice": False}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.5), sentence("one"), tone(0.3), sentence("two"))
        await bot.until_stopped("c1")
        assert bot.client.options[0]["room"] is ROOM
        assert not bot.down.of(TTSAudioRawFrame)
        assert not bot.down.of(OutputImageRawFrame)
        await bot.up.until(lambda: bot.up.of(BotStoppedSpeakingFrame))
        for tap in (bot.up, bot.down):
            assert len(tap.of(BotStartedSpeakingFrame)) == len(tap.of(BotStoppedSpeakingFrame)) == 1
            assert tap.of(BotSpeakingFrame)
        order = [
            f.text if isinstance(f, TTSTextFrame) else type(f)
            for f in bot.down.frames
            if isinstance(f, BotStartedSpeakingFrame | TTSTextFrame | TTSStoppedFrame)
        ]
        assert order == [BotStartedSpeakingFrame, "one", "two", TTSStoppedFrame]
        assert bot.events["on_playback_started"] == [("c1",)]
        await bot.until_event("on_playback_finished")


@in_virtual_time
async def test_clients_get_the_texts_of_a_reply_with_that_reply() -> None:
    """RTVI tells what a reply says between its start and its end, also the last text, and that of a goodbye."""
    transport = Playing(video_out_enabled=False)
    async with running(
        room=ROOM, link_options={"voice": False}, behind=[transport], worker_options={"enable_rtvi": True}
    ) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2), sentence("one"), tone(0.2), sentence("two"))
        await bot.until_event("on_playback_finished")
        await bot.say(tone(0.2), sentence("three"), tone(0.2), sentence("bye"), context_id="c2")
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
        spoken = {"bot-started-speaking", "bot-output", "bot-stopped-speaking"}
        told = [m.get("data", {}).get("text", m["type"]) for m in transport.messages if m["type"] in spoken]
    start, stop = "bot-started-speaking", "bot-stopped-speaking"
    assert told == [start, "one", "two", stop, start, "three", "bye", stop]


@in_virtual_time
async def test_the_end_of_a_reply_comes_behind_its_words() -> None:
    """What the transport passes on in order is through it before the bot has stopped to speak, for whoever listens."""
    after = Tap(FrameDirection.DOWNSTREAM)
    async with running(room=ROOM, link_options={"voice": False}, behind=[Playing(), after]) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2), sentence("one"))
        await after.until(lambda: after.of(BotStoppedSpeakingFrame) and after.of(TTSStoppedFrame))
        order = [
            f for f in after.frames if isinstance(f, BotStoppedSpeakingFrame | TTSTextFrame | TTSStoppedFrame)
        ]
        assert [type(f) for f in order] == [TTSTextFrame, TTSStoppedFrame, BotStoppedSpeakingFrame]


@in_virtual_time
async def test_words_that_somebody_keeps_do_not_keep_the_end_of_a_reply() -> None:
    """A processor that drops what was pushed delays the end of the reply by a moment, and no more."""
    keeper = FrameFilter(types=(BotStoppedSpeakingFrame,))
    async with running(room=ROOM, link_options={"voice": False}, behind=[keeper, Playing()]) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2), sentence("one"))
        await bot.up.until(lambda: bot.up.of(BotStoppedSpeakingFrame))
        await bot.until_event("on_playback_finished")


@in_virtual_time
@pytest.mark.parametrize(
    ("worker_options", "warned"),
    [
        pytest.param({"enable_rtvi": True}, True, id="derived"),
        pytest.param({"enable_rtvi": True, "capabilities": {"video_out": True}}, False, id="said"),
        pytest.param({"enable_rtvi": False}, False, id="nobody is told"),
    ],
)
async def test_clients_that_are_told_of_no_video_are_worth_a_warning(
    worker_options: dict[str, Any], warned: bool
) -> None:
    """Pipecat derives it from the transport, which sends none in direct mode; the log says what to write."""
    capabilities = pytest.importorskip("pipecat.pipeline.capabilities", reason="since Pipecat 1.13")
    if said := worker_options.get("capabilities"):
        worker_options = {**worker_options, "capabilities": capabilities.BotCapabilities(**said)}
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    try:
        async with running(
            room=ROOM,
            link_options={"voice": False},
            behind=[Playing(video_out_enabled=False)],
            worker_options=worker_options,
        ) as bot:
            await bot.until_event("on_avatar_connected")
            assert bot.worker.capabilities.video_out is ("capabilities" in worker_options)
    finally:
        logger.remove(sink)
    fix = "capabilities=BotCapabilities(video_out=True)."
    assert [line.endswith(fix) for line in lines if "Clients" in line] == ([True] if warned else [])


@in_virtual_time
async def test_a_recorder_behind_the_transport_hears_the_avatar() -> None:
    """What the avatar says in its own room is in Pipecat's recording of the bot, whole, once and in step."""
    recorder, tracks = AudioBufferProcessor(auto_start_recording=True), []

    @recorder.event_handler("on_track_audio_data")
    async def on_track(_: object, __: bytes, bot_track: bytes, *___: object) -> None:
        tracks.append(np.frombuffer(bot_track, np.int16))

    transport = Playing()
    async with running(room=ROOM, link_options={"voice": False}, behind=[transport, recorder]) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(pcm := tone(0.5), sentence("one"))
        await bot.send(EndFrame())
        await bot.until_event("on_session_ended")
        async with asyncio.timeout(WAIT_S):
            while not tracks:  # noqa: ASYNC110 - its handler runs in a task that nobody tells the end of
                await asyncio.sleep(0.01)
        assert np.array_equal(np.trim_zeros(tracks[0]), np.frombuffer(pcm, np.int16))
        assert not transport.voice


@in_virtual_time
async def test_a_recorder_hears_no_more_than_was_said() -> None:
    """Of a reply that is interrupted, what came before that is recorded."""
    after = Tap(FrameDirection.DOWNSTREAM)
    async with running(room=ROOM, link_options={"voice": False}, behind=[Playing(), after]) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2), sentence("heard"), tone(12.0), context_id="c1")
        await after.until(lambda: after.of(TTSTextFrame))
        await bot.send(InterruptionFrame())
        await bot.say(tone(0.2), context_id="c2")
        await after.until(lambda: "c2" in [f.context_id for f in after.of(TTSStoppedFrame)])
        seconds = {
            name: sum(f.num_frames for f in after.of(TTSAudioRawFrame) if f.context_id == name) / RATE
            for name in ("c1", "c2")
        }
        assert 0.2 <= seconds["c1"] < 10.0
        assert seconds["c2"] == pytest.approx(0.2)


@in_virtual_time
async def test_interruption_stops_the_avatar_and_the_speaking() -> None:
    """What was not played never leaves; the next reply plays whole."""
    async with running(room=ROOM, link_options={"voice": False}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3), sentence("heard"), tone(3.0), sentence("unheard"))
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))
        await bot.send(InterruptionFrame())
        await bot.up.until(lambda: bot.up.of(BotStoppedSpeakingFrame))
        await bot.say(tone(0.2), sentence("next"), context_id="c2")
        await bot.until_stopped("c2")
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["heard", "next"]


@in_virtual_time
async def test_voice_goes_on_as_plain_audio_where_the_avatar_stopped() -> None:
    """When the avatar is lost in mid-reply, the transport plays the rest, and only the rest."""
    async with running(room=ROOM, link_options={"voice": False}) as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(1.0)
        await bot.send(*speech(pcm, "c1"))
        await bot.say(context_id="c2")
        await bot.until_event("on_playback_started")
        await bot.down.until(lambda: len(bot.down.of(BotSpeakingFrame)) >= 2)  # 0.2 s later
        bot.links[0].crash("test")
        await bot.until_event("on_fallback_started")
        await bot.until_stopped("c2")
        rest = np.frombuffer(pcm, np.int16)[-len(bot.voice()) :]
        assert np.array_equal(bot.voice(), rest)
        assert 0.4 < len(rest) / 16_000 < 0.9
        assert len(bot.up.of(ErrorFrame)) == 1
        await bot.until_event("on_fallback_ended")


@in_virtual_time
async def test_avatar_that_stays_mute_is_given_up() -> None:
    """A start that is not reported in time is a failure: the reply is heard from its first sample."""
    async with running(room=ROOM, settings={"no_audio_timeout_s": 0.3}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2), context_id="c1")
        await bot.until_event("on_playback_finished")
        link = bot.links[0]
        link._playout.push = lambda _: None  # type: ignore[method-assign]
        pcm = tone(0.3)
        await bot.say(pcm, context_id="c2")
        await bot.until_stopped("c2")
        assert bot.voice("c2").tobytes() == pcm
        assert len(bot.up.of(ErrorFrame)) == 1


@in_virtual_time
async def test_avatar_that_stops_to_report_ends_is_given_up() -> None:
    """One that used to report them and goes mute or stalls in mid-reply fails at its second unreported end."""
    async with running(room=ROOM) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2), context_id="c1")
        await bot.until_event("on_playback_finished")
        bot.links[0]._reports_per_utterance = 0
        for number in (2, 3):
            assert not bot.up.of(ErrorFrame)
            await bot.say(tone(0.2), context_id=f"c{number}")
            await bot.until_event("on_playback_finished", number)
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        await bot.until_event("on_fallback_ended")
        assert len(bot.up.of(ErrorFrame)) == 1


@in_virtual_time
async def test_session_of_the_users_room_is_ended() -> None:
    """Direct mode opens and ends one session like the other mode."""
    client = FakeClient()
    async with running(client, room=ROOM, link_options={"voice": False}) as bot:
        await bot.until_event("on_avatar_connected")
    assert client.opened == client.ended == ["sess_1"]
