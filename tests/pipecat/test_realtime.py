"""Models that hear and speak by themselves, in front of the avatar: speech without a TTS and without context ids.

The scripts push what Pipecat's services push, in their order (read in 1.14.0), and leave out the network: how the
pieces of a reply are spread over time, and what a service does with the interruption itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.transports.base_transport import TransportParams

from agenthuman_plugins.pipecat.reply import _delivery
from tests.pipecat.bot import Bot, Output, running, sentence, speech, tone
from tests.virtual_time import in_virtual_time

RATE = 24_000  # of all these models
PIECE_S = 0.4

Piece = tuple[str, bytes]


def _text(text: str) -> list[Frame]:
    """A transcript's delta as RTVI and as the context want it; spaces are the model's own."""
    shown, said = LLMTextFrame(text), sentence(text)
    shown.append_to_context = False
    said.includes_inter_frame_spaces = True
    return [shown, said]


def _voice(pcm: bytes) -> list[Frame]:
    return list(speech(pcm, rate=RATE))


def _openai(pieces: Sequence[Piece]) -> list[Frame]:
    """OpenAI, Azure, xAI and Inworld: the transcript is ahead of the speech, sometimes by all of it."""
    texts = [frame for text, _ in pieces for frame in _text(text)]
    voice = [frame for _, pcm in pieces for frame in _voice(pcm)]
    start = [LLMFullResponseStartFrame(), TTSStartedFrame()]
    return [*start, *texts, *voice, TTSStoppedFrame(), LLMFullResponseEndFrame()]


def _gemini(pieces: Sequence[Piece]) -> list[Frame]:
    """Gemini Live: TTS frames outside, the transcript behind its speech."""
    said = [frame for text, pcm in pieces for frame in (*_voice(pcm), *_text(text))]
    start = [TTSStartedFrame(), LLMFullResponseStartFrame()]
    return [*start, *said, TTSStoppedFrame(), LLMFullResponseEndFrame()]


def _nova(pieces: Sequence[Piece]) -> list[Frame]:
    """Nova Sonic: a text to show ahead of each piece, the one to keep behind it, and the stop last of all."""
    frames: list[Frame] = [LLMFullResponseStartFrame(), TTSStartedFrame()]
    for text, pcm in pieces:
        kind = "text_type" if "text_type" in AggregatedTextFrame.__dataclass_fields__ else "aggregated_by"
        ahead = AggregatedTextFrame(text, **{kind: "sentence"})
        ahead.append_to_context = False
        shown, said = _text(text)
        frames += [shown, ahead, *_voice(pcm), said]
    return [*frames, LLMFullResponseEndFrame(), TTSStoppedFrame()]


def _ultravox(pieces: Sequence[Piece]) -> list[Frame]:
    """Ultravox: text and speech mixed, the text ahead."""
    said = [frame for text, pcm in pieces for frame in (*_text(text), *_voice(pcm))]
    start = [LLMFullResponseStartFrame(), TTSStartedFrame()]
    return [*start, *said, TTSStoppedFrame(), LLMFullResponseEndFrame()]


def _bare(pieces: Sequence[Piece]) -> list[Frame]:
    """A processor of one's own that pushes speech and text, and neither starts nor stops."""
    return [frame for text, pcm in pieces for frame in (*_voice(pcm), *_text(text))]


@dataclass(frozen=True)
class _Model:
    script: Callable[[Sequence[Piece]], list[Frame]]
    ahead: Sequence[Callable[[], Frame]] = ()  # of the interruption, which overtakes it
    late: Callable[[], list[Frame]] = list  # what it still pushes after the interruption


def _rest() -> list[Frame]:
    return [*_voice(tone(0.2, rate=RATE, loud=OLD)), *_text("unheard")]


OLD, NEW = 8_000, 20_000
MODELS = [
    pytest.param(_Model(_openai, ahead=(LLMFullResponseEndFrame, TTSStoppedFrame)), id="openai"),
    pytest.param(_Model(_gemini, ahead=(TTSStoppedFrame,)), id="gemini"),
    pytest.param(
        _Model(_nova, late=lambda: [*_rest(), LLMFullResponseEndFrame(), TTSStoppedFrame()]), id="nova"
    ),
    pytest.param(
        _Model(_ultravox, late=lambda: [*_rest(), TTSStoppedFrame(), LLMFullResponseEndFrame()]),
        id="ultravox",
    ),
]


def _pieces(*texts: str, loud: int = OLD) -> list[Piece]:
    return [(text, tone(PIECE_S, rate=RATE, hz=200 + 40 * i, loud=loud)) for i, text in enumerate(texts)]


def _brackets(bot: Bot) -> list[type[Frame]]:
    return [type(f) for f in bot.down.frames if isinstance(f, TTSStartedFrame | TTSStoppedFrame)]


def _heard_s(frames: Sequence[Frame], loud: int) -> float:
    """Seconds of a voice among frames; resampling rings, so its level is not exact."""
    pcm = b"".join(f.audio for f in frames if isinstance(f, TTSAudioRawFrame))
    level = np.abs(np.frombuffer(pcm, np.int16).astype(int))
    return np.count_nonzero((level > 0.75 * loud) & (level < 1.5 * loud)) / 16_000


@in_virtual_time
@pytest.mark.parametrize("model", MODELS)
async def test_replies_are_heard_whole_with_their_text(model: _Model) -> None:
    """Two replies in a row: all of the voice, all of the text in order, each behind its speech, one start, one stop."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(*model.script(_pieces("a ", "b ", "c ")), *model.script(_pieces("d ", "e ", loud=NEW)))
        await bot.down.until(lambda: len(bot.down.of(TTSStoppedFrame)) == 2)
        await bot.down.until(lambda: len(bot.down.of(LLMFullResponseEndFrame)) == 2)
        assert "".join(f.text for f in bot.down.of(TTSTextFrame)) == "a b c d e "
        assert _brackets(bot) == [TTSStartedFrame, TTSStoppedFrame] * 2
        for text, loud, count in (("c ", OLD, 3), ("e ", NEW, 2)):
            said = next(
                i for i, f in enumerate(bot.down.frames) if isinstance(f, TTSTextFrame) and f.text == text
            )
            assert _heard_s(bot.down.frames[:said], loud) == pytest.approx(count * PIECE_S, rel=0.1)
        await bot.until_event("on_playback_finished", 2)


@in_virtual_time
@pytest.mark.parametrize("model", MODELS)
async def test_interruption_leaves_nothing_behind(model: _Model) -> None:
    """What the model still pushes of the old reply is neither heard nor read, and each start has one stop."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(*model.script(_pieces("heard ", "unheard ", "unheard ", "unheard "))[:-2])
        await bot.down.until(lambda: _heard_s(bot.down.frames, OLD) > PIECE_S / 2)
        await bot.send(*[make() for make in model.ahead], InterruptionFrame(), *model.late())
        await bot.down.until(lambda: bot.down.of(InterruptionFrame))
        cut = bot.down.frames.index(bot.down.of(InterruptionFrame)[0])
        await bot.send(*model.script(_pieces("new ", loud=NEW)))
        await bot.down.until(lambda: len(bot.down.of(TTSStoppedFrame)) == 2)
        await bot.until_event("on_playback_finished", 2)
        later = bot.down.frames[cut:]
        assert _heard_s(later, OLD) < 0.01
        assert _heard_s(later, NEW) == pytest.approx(PIECE_S, rel=0.1)
        assert [f.text for f in later if isinstance(f, TTSTextFrame)] == ["new "]
        assert _brackets(bot) == [TTSStartedFrame, TTSStoppedFrame] * 2


@in_virtual_time
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("interrupted", [False, True], ids=["whole", "interrupted"])
async def test_context_holds_what_was_heard(model: _Model, interrupted: bool) -> None:
    """The transcript that reaches the context is that of the speech which was heard to its end."""
    context = LLMContext()
    output = Output(TransportParams(audio_out_enabled=True))
    async with running(behind=[output, LLMContextAggregatorPair(context).assistant()]) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(*model.script(_pieces("one ", "two ", "six ")))
        if interrupted:
            await bot.down.until(lambda: output.played_s >= 1.4 * PIECE_S)
            await bot.send(InterruptionFrame())
        await bot.until_context(context)
        (said,) = context.messages
        assert said["content"].strip() == ("one" if interrupted else "one two six")


@in_virtual_time
@pytest.mark.parametrize("model", MODELS)
async def test_transport_speaks_once(model: _Model) -> None:
    """Whoever listens to the transport hears of one start and one stop of the bot."""
    async with running(behind=[Output(TransportParams(audio_out_enabled=True))]) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(*model.script(_pieces("a ", "b ")))
        await bot.up.until(lambda: bot.up.of(BotStoppedSpeakingFrame))
        assert len(bot.up.of(BotStartedSpeakingFrame)) == len(bot.up.of(BotStoppedSpeakingFrame)) == 1


@in_virtual_time
async def test_speech_without_starts_and_stops_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech that nobody has announced is heard between a start and a stop, also after an interruption."""
    monkeypatch.setattr(_delivery, "_REST_S", 0.4)
    monkeypatch.setattr(_delivery, "_STARVED_END_S", 0.5)
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(*_bare(_pieces("a ")))
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        await bot.send(*_bare(_pieces("b ", "c ")))
        await bot.down.until(lambda: len(bot.down.of(TTSTextFrame)) == 2)
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: len(bot.down.of(TTSStoppedFrame)) == 2)
        await bot.send(*_bare(_pieces("d ", loud=NEW)))
        await bot.down.until(lambda: len(bot.down.of(TTSStoppedFrame)) == 3)
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["a ", "b ", "d "]
        assert _brackets(bot) == [TTSStartedFrame, TTSStoppedFrame] * 3
        assert _heard_s(bot.down.frames, NEW) == pytest.approx(PIECE_S, rel=0.1)
