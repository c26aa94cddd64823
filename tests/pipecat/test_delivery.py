"""What leaves the service, and when: words and texts behind the voice that says them."""

import asyncio

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    MetricsFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_transport import TransportParams

from agenthuman_plugins.client import DailyRoom
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.pipecat._compat import is_interruptible
from agenthuman_plugins.pipecat.reply import _delivery
from tests.pipecat.bot import RATE, WAIT_S, Bot, Output, Tap, running, sentence, speech, tone, word
from tests.virtual_time import in_virtual_time


def _words(begun_ns: int, *starts_s: float, context_id: str = "c1") -> list[Frame]:
    """Words as a TTS with word times sends them: timed from the moment of its first speech."""
    return [word(f"w{i}", begun_ns + round(start * 1e9), context_id) for i, start in enumerate(starts_s)]


async def _begin(bot: Bot, pcm: bytes, context_id: str = "c1") -> int:
    """Begin a reply; return when it began, in pipeline time."""
    await bot.send(TTSStartedFrame(context_id=context_id), *speech(pcm, context_id))
    delivery = bot.service._delivery
    async with asyncio.timeout(WAIT_S):
        while not (  # noqa: ASYNC110 - nobody is told
            (reply := delivery._utterance) and reply.context_id == context_id and reply.begun_ns is not None
        ):
            await asyncio.sleep(0.001)
    return reply.begun_ns


async def _end(bot: Bot, *frames: Frame, context_id: str = "c1") -> None:
    """Send the rest of a reply, and wait until it was said."""
    await bot.send(*frames, TTSStoppedFrame(context_id=context_id))
    await bot.until_stopped(context_id)


def _voice_before(bot: Bot, frame: Frame) -> float:
    """Seconds of voice that left before a frame."""
    frames = bot.down.frames[: bot.down.frames.index(frame)]
    return sum(f.num_frames for f in frames if isinstance(f, TTSAudioRawFrame)) / RATE


@in_virtual_time
async def test_words_leave_when_they_are_said() -> None:
    """Each word follows the voice up to its own time, though the TTS sent all of them at once."""
    starts_s = (0.4, 0.6, 0.8)
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        begun_ns = await _begin(bot, tone(0.1))
        await _end(bot, *_words(begun_ns, *starts_s), *speech(tone(0.9), "c1"))
        said_at = [_voice_before(bot, f) for f in bot.down.of(TTSTextFrame)]
        assert len(said_at) == 3
        for said, start in zip(said_at, starts_s, strict=True):
            assert start <= said <= start + 0.08


@in_virtual_time
async def test_transport_releases_words_behind_their_sound() -> None:
    """A released word has no time of its own: a transport that is late with the sound keeps the word behind it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        begun_ns = await _begin(bot, tone(0.1))
        await _end(bot, *_words(begun_ns, 0.0, 0.4), *speech(tone(0.6), "c1"))
        assert [frame.pts for frame in bot.down.of(TTSTextFrame)] == [None, None]


@in_virtual_time
async def test_words_count_from_when_the_speech_left_the_tts() -> None:
    """Speech that took its time to get here does not make the words early by as much."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        begun_ns = await _begin(bot, tone(0.1))
        late_ns = 200_000_000
        await _end(bot, *_words(begun_ns - late_ns, 0.0, 0.4), *speech(tone(0.9), "c1"))
        second = bot.down.of(TTSTextFrame)[1]
        assert 0.4 <= _voice_before(bot, second) <= 0.48


@in_virtual_time
async def test_words_that_come_before_the_speech_wait_for_it() -> None:
    """Pipecat hands on words that it knew early just before the first speech; they are not said before it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        now = bot.service.get_clock().get_time()
        await bot.send(TTSStartedFrame(context_id="c1"), *_words(now, 0.0, 0.3))
        await bot.send(*speech(tone(0.5), "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        first, second = bot.down.of(TTSTextFrame)
        assert 0 < _voice_before(bot, first) <= 0.08
        assert 0.2 <= _voice_before(bot, second) <= 0.38


@in_virtual_time
async def test_words_of_the_next_context_count_from_its_own_speech() -> None:
    """Pipecat times a context's words behind the last word of the one before; they follow their own speech."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        begun_ns = await _begin(bot, tone(0.1), "c1")
        first = _words(begun_ns, 0.0, 2.0)
        await bot.send(*first, *speech(tone(0.4), "c1"), TTSStoppedFrame(context_id="c1"))
        last_pts = first[-1].pts
        assert last_pts is not None
        assert await _begin(bot, tone(0.1, hz=330), "c2") == last_pts
        second = _words(last_pts, 0.0, 0.2, context_id="c2")
        await _end(bot, *second, *speech(tone(0.4, hz=330), "c2"), context_id="c2")
        before_y = [
            f for f in bot.down.frames[: bot.down.frames.index(second[1])] if isinstance(f, TTSAudioRawFrame)
        ]
        of_its_own = sum(f.num_frames / RATE for f in before_y if f.context_id == "c2")
        assert 0.2 <= of_its_own <= 0.28


@in_virtual_time
async def test_text_ahead_of_its_speech_waits_until_that_was_played() -> None:
    """A TTS without word times may send a sentence first: nobody has heard it then."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), sentence("all of it"))
        await bot.send(*speech(tone(0.4), "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        (text,) = bot.down.of(TTSTextFrame)
        assert _voice_before(bot, text) >= 0.4


@in_virtual_time
async def test_each_text_ahead_of_its_speech_leaves_when_that_was_played() -> None:
    """Of several sentences that come before their speech, each waits for its own and not for the whole reply."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"))
        for number in range(3):
            await bot.send(sentence(f"s{number}"), *speech(tone(0.4, hz=220 + 40 * number), "c1"))
        await bot.send(TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        heard_s = [_voice_before(bot, text) for text in bot.down.of(TTSTextFrame)]
        assert 0.4 <= heard_s[0] <= 0.48
        assert 0.8 <= heard_s[1] <= 0.88
        assert heard_s[2] >= 1.2


@in_virtual_time
async def test_text_without_speech_holds_nothing_up() -> None:
    """A reply that turned out to hold no speech leaves whole, with its text and its stop."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *_words(1, 0.0), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        assert bot.down.of(TTSTextFrame)
        await bot.say(tone(0.2), sentence("later"), context_id="c2")
        await bot.until_stopped("c2")


@in_virtual_time
@pytest.mark.parametrize(
    "reports",
    [
        pytest.param({"report_delay_s": 1.0}, id="late"),
        pytest.param({"reports_per_utterance": 2}, id="twice"),
        pytest.param({"reports_per_utterance": 0}, id="never"),
    ],
)
async def test_order_and_end_do_not_depend_on_the_reports(reports: dict[str, float]) -> None:
    """Whenever the avatar reports the end, or not at all, the reply ends once, soon after its last sound."""
    async with running(link_options=reports) as bot:
        await bot.until_event("on_avatar_connected")
        for context_id in ("c1", "c2"):
            await bot.say(tone(0.3), sentence("one"), tone(0.3), sentence("two"), context_id=context_id)
            await bot.until_stopped(context_id)
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["one", "two"] * 2
        assert len(bot.down.of(TTSStoppedFrame)) == 2
        await bot.until_event("on_playback_finished", 2)


@in_virtual_time
@pytest.mark.parametrize("pause_s", [0.0, 0.5])
async def test_reply_ends_with_its_last_sound(pause_s: float) -> None:
    """At most 40 ms leave between the last voiced sample and the stop frame, whatever silence the TTS appends."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        silence = bytes(round(pause_s * RATE) * 2)
        await bot.say(tone(0.3) + silence + tone(0.31) + silence)
        await bot.until_stopped("c1")
        voice = bot.voice()
        assert np.count_nonzero(np.abs(voice.astype(int)) > 4000) == round(
            0.61 * RATE
        )  # a pause ends nothing
        behind = len(voice) - np.flatnonzero(np.abs(voice.astype(int)) > 40)[-1] - 1
        assert behind / RATE <= 0.040


@in_virtual_time
async def test_starts_and_stops_are_balanced() -> None:
    """Each start that leaves has its stop, with its context: after an interruption, a crash, an empty reply."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(2.0), context_id="interrupted")
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.send(InterruptionFrame())
        await bot.until_stopped("interrupted")
        await bot.say(context_id="empty")
        await bot.until_stopped("empty")
        heard = len(bot.down.of(TTSAudioRawFrame))
        await bot.say(tone(0.5), context_id="crashed")
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) > heard)
        bot.links[0].crash("test")
        await bot.until_stopped("crashed")
        await bot.until_event("on_avatar_connected", 2)
        await bot.say(tone(0.1), context_id="recovered")
        await bot.until_stopped("recovered")
        spoken = [f for f in bot.down.frames if isinstance(f, TTSStartedFrame | TTSStoppedFrame)]
        assert [(type(f), f.context_id) for f in spoken] == [
            (kind, context_id)
            for context_id in ("interrupted", "empty", "crashed", "recovered")
            for kind in (TTSStartedFrame, TTSStoppedFrame)
        ]


@in_virtual_time
async def test_uninterruptible_speech_is_finished_by_the_avatar() -> None:
    """An interruption while only such speech is in flight neither stops the avatar nor loses what follows it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        frames: list[Frame] = [*speech(tone(0.6), "c1"), sentence("notice"), TTSStoppedFrame(context_id="c1")]
        for frame in frames:
            frame.interruptible = False
        await bot.send(TTSStartedFrame(context_id="c1"), *frames, sentence("dropped"))
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 3)
        await bot.send(InterruptionFrame())
        await bot.until_stopped("c1")
        await bot.until_event("on_playback_finished")
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["notice"]
        assert not any(is_interruptible(f) for f in bot.down.of(TTSAudioRawFrame))
        loud = np.flatnonzero(np.abs(bot.voice().astype(int)) > 4000)
        assert len(loud) == round(0.6 * RATE)


@in_virtual_time
async def test_handed_back_speech_goes_on_where_the_avatar_stopped() -> None:
    """After a failure nothing is said twice and nothing is left out, even of one long frame."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        ramp = (np.arange(RATE) // 4 + 4096).astype(np.int16)  # every moment of it can be told by its level
        await bot.send(
            TTSStartedFrame(context_id="c1"), TTSAudioRawFrame(ramp.tobytes(), RATE, 1, context_id="c1")
        )
        await bot.send(TTSStoppedFrame(context_id="c1"))
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 6)
        bot.links[0].crash("test")
        await bot.until_stopped("c1")
        assert np.array_equal(bot.voice("c1"), ramp)


@in_virtual_time
async def test_handed_back_words_keep_their_place_in_the_voice() -> None:
    """A word that waits for the avatar when it fails is timed to the plain audio that says it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        begun_ns = await _begin(bot, tone(1.0))
        await bot.send(*_words(begun_ns, 0.0, 0.9))
        await bot.send(TTSStoppedFrame(context_id="c1"))
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 5)
        bot.links[0].crash("test")
        handed_back = bot.service.get_clock().get_time()
        await bot.until_stopped("c1")
        last = bot.down.of(TTSTextFrame)[-1]
        assert last.pts is not None
        played = 1.0 - sum(f.num_frames / RATE for f in bot.down.of(TTSAudioRawFrame) if f.num_frames == 320)
        assert 0.9 - played - 0.1 < (last.pts - handed_back) / 1e9 < 0.9


@in_virtual_time
async def test_word_does_not_leave_a_late_transport_before_its_sound() -> None:
    """However late the transport is with the sound, no word leaves it before the sound that it begins with."""
    output, beyond = Output(TransportParams(audio_out_enabled=True)), Tap(FrameDirection.DOWNSTREAM)
    async with running(behind=[output, beyond]) as bot:
        await bot.until_event("on_avatar_connected")
        output.plays.clear()
        starts_s = 0.0, 0.2, 0.44
        begun_ns = await _begin(bot, tone(0.1))
        await _end(bot, *_words(begun_ns, *starts_s), *speech(tone(0.5), "c1"))
        assert not beyond.of(TTSTextFrame)
        output.plays.set()
        await beyond.until(lambda: beyond.of(TTSStoppedFrame))
        words = beyond.of(TTSTextFrame)
        before = [beyond.frames[: beyond.frames.index(spoken)] for spoken in words]
        heard_s = [
            sum(f.num_frames for f in frames if isinstance(f, TTSAudioRawFrame)) / RATE for frames in before
        ]
        assert len(heard_s) == 3
        assert all(start <= heard <= start + 0.08 for start, heard in zip(starts_s, heard_s, strict=True)), (
            heard_s
        )


@in_virtual_time
@pytest.mark.parametrize("timed", [True, False], ids=["word times", "sentences"])
async def test_context_holds_what_was_heard(timed: bool) -> None:
    """After an interruption the LLM's context holds the words, or the whole sentences, that the user heard."""
    context = LLMContext()
    output = Output(TransportParams(audio_out_enabled=True))
    behind = [output, LLMContextAggregatorPair(context).assistant()]
    async with running(behind=behind) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(LLMFullResponseStartFrame())
        begun_ns = await _begin(bot, tone(0.5))
        starts_s = 0.0, 0.3, 0.6, 0.9, 1.2
        await bot.send(*(_words(begun_ns, *starts_s) if timed else [sentence("s0")]))
        await bot.send(*speech(tone(1.0), "c1"), *([] if timed else [sentence("s1")]))
        await bot.send(TTSStoppedFrame(context_id="c1"), LLMFullResponseEndFrame())
        await bot.down.until(lambda: output.played_s >= 0.7)
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(InterruptionFrame))
        await bot.until_context(context)
        (said,) = context.messages
        begun = [f"w{i}" for i, start in enumerate(starts_s) if start < output.played_s]
        whole = [f"w{i}" for i, start in enumerate(starts_s) if start + 0.08 < output.played_s]
        assert said["content"] in ({" ".join(begun), " ".join(whole)} if timed else {"s0"})


@in_virtual_time
async def test_transport_speaks_once_for_a_reply_with_pauses() -> None:
    """The transport tells one start and one stop of the bot, however long the reply is silent inside."""
    output = Output(TransportParams(audio_out_enabled=True))
    async with running(behind=[output]) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3) + bytes(RATE) + tone(0.3))
        await bot.up.until(lambda: bot.up.of(BotStoppedSpeakingFrame))
        assert len(bot.up.of(BotStartedSpeakingFrame)) == len(bot.up.of(BotStoppedSpeakingFrame)) == 1


def _brackets(bot: Bot) -> list[tuple[type[Frame], str | None]]:
    return [
        (type(f), f.context_id) for f in bot.down.frames if isinstance(f, TTSStartedFrame | TTSStoppedFrame)
    ]


@in_virtual_time
async def test_reply_with_a_long_gap_is_one_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TTS that makes nobody wait for it and then goes on is heard whole, between one start and one stop."""
    monkeypatch.setattr(_delivery, "_SILENT_S", 0.1)
    monkeypatch.setattr(_delivery, "_REST_S", 0.2)
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        first, second = tone(0.4), tone(0.4, hz=330)
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(first, "c1"), sentence("one", "c1"))
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))  # it is not held until the reply is over
        await bot.send(*speech(second, "c1"), sentence("two", "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        await bot.until_event("on_playback_finished")
        assert np.count_nonzero(np.abs(bot.voice()) == 8000) == round(0.8 * RATE)
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["one", "two"]
        assert _brackets(bot) == [(TTSStartedFrame, "c1"), (TTSStoppedFrame, "c1")]
        assert len(bot.events["on_playback_started"]) == len(bot.events["on_playback_finished"]) == 1


@in_virtual_time
async def test_avatar_is_not_given_up_for_a_silent_tts() -> None:
    """An avatar that keeps a part of a frame, and waits for the rest, has not failed; it says all when that comes."""
    async with running(settings={"no_audio_timeout_s": 0.3}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.5), "c1"))
        await asyncio.sleep(1.2)
        await bot.send(*speech(tone(0.5), "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        assert not bot.up.of(ErrorFrame)
        assert np.count_nonzero(np.abs(bot.voice()) == 8000) == RATE


@in_virtual_time
async def test_end_that_does_not_know_of_a_gap_cuts_nothing_off() -> None:
    """An avatar without reports that has waited long for the TTS is heard to its end all the same."""
    async with running(link_options={"reports_per_utterance": 0}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.5), "c1"))
        await asyncio.sleep(2.8)  # longer than the link waits for a report
        await bot.send(*speech(tone(0.8), "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        assert np.count_nonzero(np.abs(bot.voice()) == 8000) == round(1.3 * RATE)


@in_virtual_time
async def test_long_gap_is_no_speech_in_direct_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no transport tells it, the bot stops to speak in a long gap and starts again behind it."""
    monkeypatch.setattr(_delivery, "_REST_S", 0.2)
    async with running(
        room=DailyRoom("https://example.daily.co/room", "token"), link_options={"voice": False}
    ) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.4), "c1"))
        await bot.down.until(lambda: bot.down.of(BotStoppedSpeakingFrame))
        await bot.send(*speech(tone(0.4), "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        await bot.down.until(lambda: len(bot.down.of(BotStoppedSpeakingFrame)) == 2)
        assert len(bot.down.of(BotStartedSpeakingFrame)) == 2


@in_virtual_time
async def test_transport_counts_a_gap_as_without_an_avatar(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the TTS is silent no silence is pushed, so that a transport's own count of a pause goes on."""
    monkeypatch.setattr(_delivery, "_SILENT_S", 0.1)
    monkeypatch.setattr(_delivery, "_REST_S", 0.8)
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.4), "c1"), sentence("said", "c1"))
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))
        assert len(bot.voice()) / RATE < 0.4 + 0.3


@in_virtual_time
async def test_second_stop_and_second_start_change_nothing() -> None:
    """A TTS that starts or stops a reply twice gives one start and one stop all the same."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.2), "c1"))
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.2), "c1"))
        await bot.send(TTSStoppedFrame(context_id="c1"), TTSStoppedFrame(context_id="c1"))
        await bot.say(tone(0.2), context_id="c2")
        await bot.until_stopped("c2")
        assert _brackets(bot) == [
            (kind, context_id) for context_id in ("c1", "c2") for kind in (TTSStartedFrame, TTSStoppedFrame)
        ]
        assert np.count_nonzero(np.abs(bot.voice("c1")) == 8000) == round(0.4 * RATE)


@in_virtual_time
async def test_missing_stop_comes_before_the_next_start() -> None:
    """A reply that the TTS never ended has its stop before the next one starts."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.2), "c1"))
        await bot.say(tone(0.2), context_id="c2")
        await bot.send(TTSStoppedFrame(context_id="c1"))  # late
        await bot.until_stopped("c2")
        await bot.send(LLMFullResponseEndFrame())
        await bot.down.until(lambda: bot.down.of(LLMFullResponseEndFrame))
        assert _brackets(bot) == [
            (kind, context_id) for context_id in ("c1", "c2") for kind in (TTSStartedFrame, TTSStoppedFrame)
        ]


@in_virtual_time
@pytest.mark.parametrize("context_id", ["c1", None])
@pytest.mark.parametrize("ended", [True, False], ids=["made", "being made"])
async def test_interruption_gives_one_stop(context_id: str | None, ended: bool) -> None:
    """Our stop for what was interrupted is the only one, whether the TTS's own comes before or after."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id=context_id), *speech(tone(2.0), context_id))
        if ended:
            await bot.send(TTSStoppedFrame(context_id=context_id))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.send(InterruptionFrame(), TTSStoppedFrame(context_id=context_id))
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        await bot.say(tone(0.1), context_id="c2")
        await bot.until_stopped("c2")
        assert _brackets(bot) == [
            (kind, context) for context in (context_id, "c2") for kind in (TTSStartedFrame, TTSStoppedFrame)
        ]


@in_virtual_time
async def test_uninterruptible_speech_that_is_still_being_made_has_its_stop() -> None:
    """What the TTS makes of it behind the interruption belongs to the same reply: one start, one stop."""
    frames = [*speech(tone(0.6), "c1"), TTSStoppedFrame(context_id="c1")]
    for frame in frames:
        frame.interruptible = False
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *frames[:20])
        await bot.send(*speech(tone(0.1), "c1"))  # an interruptible piece: the avatar is stopped
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 3)
        await bot.send(InterruptionFrame(), *frames[20:])
        await bot.until_stopped("c1")
        await bot.say(tone(0.1), context_id="c2")
        await bot.until_stopped("c2")
        assert _brackets(bot) == [
            (kind, context_id) for context_id in ("c1", "c2") for kind in (TTSStartedFrame, TTSStoppedFrame)
        ]


@in_virtual_time
async def test_voice_goes_where_the_speech_was_meant_to_go() -> None:
    """The avatar's voice, and our own stops, carry the transport's destination that the TTS has set."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        frames = [TTSStartedFrame(context_id="c1"), *speech(tone(2.0), "c1")]
        for frame in frames:
            frame.transport_destination = "second"
        await bot.send(*frames)
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.send(InterruptionFrame())
        await bot.until_stopped("c1")
        spoken = [*bot.down.of(TTSAudioRawFrame), *bot.down.of(TTSStoppedFrame)]
        assert {frame.transport_destination for frame in spoken} == {"second"}


@in_virtual_time
async def test_ttfb_of_a_queued_reply_measures_the_avatar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that waits behind another one does not make the avatar slow."""
    monkeypatch.setattr(AgentHumanVideoService, "metrics_enabled", True)
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(1.0), context_id="c1")
        await bot.say(tone(0.2), context_id="c2")
        await bot.until_stopped("c2")
        metrics = [data for frame in bot.down.of(MetricsFrame) for data in frame.data]
        ttfb = [data.value for data in metrics if isinstance(data, TTFBMetricsData)]
        assert len(ttfb) == 2
        assert all(0 <= value < 0.5 for value in ttfb)


@in_virtual_time
@pytest.mark.parametrize("media_delay_s", [0.0, 0.2])
@pytest.mark.parametrize("starts", [True, False], ids=["starts reported", "nothing reported"])
@pytest.mark.parametrize("gap_s", [0.0, 0.9])
async def test_replies_in_a_row_keep_their_own_voice(
    starts: bool, media_delay_s: float, gap_s: float
) -> None:
    """Without reports of ends, and with a gap in the first one, each sound and word counts to its own reply."""
    silent = {"reports_per_utterance": 0, "reports_starts": starts, "media_delay_s": media_delay_s}
    async with running(link_options=silent) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.52), "c1"))
        await asyncio.sleep(gap_s)
        await bot.send(*speech(tone(0.4), "c1"), sentence("one", "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.say(tone(0.52, loud=20_000), sentence("two", "c2"), context_id="c2")
        await bot.until_stopped("c2")
        first, second = np.abs(bot.voice("c1")), np.abs(bot.voice("c2"))
        assert np.count_nonzero(first == 8000) == round(0.92 * RATE)
        assert np.count_nonzero(second == 20_000) == round(0.52 * RATE)
        assert not np.count_nonzero(first == 20_000)
        order = [
            getattr(f, "text", type(f))
            for f in bot.down.frames
            if isinstance(f, TTSTextFrame | TTSStoppedFrame)
        ]
        assert order == ["one", TTSStoppedFrame, "two", TTSStoppedFrame]


@in_virtual_time
async def test_reply_that_the_end_cuts_has_its_stop() -> None:
    """The end of the bot is the end of a reply that the TTS has not ended."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.3), "c1"), EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert _brackets(bot) == [(TTSStartedFrame, "c1"), (TTSStoppedFrame, "c1")]
        assert np.count_nonzero(np.abs(bot.voice()) == 8000) == round(0.3 * RATE)
