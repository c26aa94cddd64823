"""Direct mode: the avatar publishes in the user's own room, and the bot pushes neither voice nor picture."""

import math

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotSpeakingFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)

from agenthuman_plugins.client import DailyRoom
from agenthuman_plugins.speech.progress import PlaybackClock, Utterance
from tests.pipecat.bot import FakeClient, running, sentence, speech, tone

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


async def test_session_of_the_users_room_is_ended() -> None:
    """Direct mode opens and ends one session like the other mode."""
    client = FakeClient()
    async with running(client, room=ROOM, link_options={"voice": False}) as bot:
        await bot.until_event("on_avatar_connected")
    assert client.opened == client.ended == ["sess_1"]
