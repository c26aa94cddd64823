"""Speech that a TTS has no business to send: it is heard whole all the same, or there is one clear warning."""

import asyncio
import math
from collections.abc import Iterator

import numpy as np
import pytest
from loguru import logger
from pipecat.frames.frames import ErrorFrame, TTSAudioRawFrame, TTSStartedFrame, TTSStoppedFrame

from agenthuman_plugins.client import AuthenticationError
from agenthuman_plugins.pipecat.reply import _speaker
from tests.pipecat.bot import RATE, WAIT_S, Bot, FakeClient, running, tone
from tests.virtual_time import in_virtual_time

_LOUD = 4000


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What the service warns of."""
    messages: list[str] = []
    handler = logger.add(messages.append, level="WARNING", format="{message}")
    yield messages
    logger.remove(handler)


async def _say_cut(bot: Bot, pcm: bytes, size: int, rate: int = RATE, channels: int = 1) -> None:
    pieces = [pcm[i : i + size] for i in range(0, len(pcm), size)]
    await bot.send(TTSStartedFrame(context_id="c1"))
    await bot.send(*[TTSAudioRawFrame(piece, rate, channels, context_id="c1") for piece in pieces])
    await bot.send(TTSStoppedFrame(context_id="c1"))


@in_virtual_time
@pytest.mark.parametrize("size", [1, 3, 641])
async def test_speech_cut_in_the_middle_of_samples_is_whole(size: int, warnings: list[str]) -> None:
    """The halves of a sample find together, and nothing shifts by a byte."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.1)
        await _say_cut(bot, pcm, size)
        await bot.until_stopped("c1")
        assert bot.voice()[: len(pcm) // 2].tobytes() == pcm
    assert not [message for message in warnings if "sample" in message]


@in_virtual_time
async def test_half_a_sample_at_the_end_is_one_warning(warnings: list[str]) -> None:
    """What is no sample cannot be heard; the rest is, and the next reply does not begin with it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.1)
        await _say_cut(bot, pcm + b"\x7f", 641)
        await bot.until_stopped("c1")
        assert bot.voice()[: len(pcm) // 2].tobytes() == pcm
        await bot.say(pcm, context_id="c2")
        await bot.until_stopped("c2")
        assert bot.voice("c2")[: len(pcm) // 2].tobytes() == pcm
    assert len([message for message in warnings if "middle of a sample" in message]) == 1


@in_virtual_time
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000])
async def test_odd_cuts_at_any_rate_are_heard_in_full_length(rate: int, channels: int) -> None:
    """Whatever the rate and the number of channels, frames that end within a sample lose nothing."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        samples = np.repeat(np.frombuffer(tone(0.3, rate=rate), np.int16), channels)
        await _say_cut(bot, samples.tobytes(), 1_001, rate, channels)
        await bot.until_stopped("c1")
        loud = np.flatnonzero(np.abs(bot.voice().astype(int)) > _LOUD)
        assert abs((loud[-1] - loud[0] + 1) / RATE - 0.3) < 0.003


@in_virtual_time
async def test_odd_cuts_without_an_avatar_pass_whole() -> None:
    """Plain audio is whole, too: no byte of it is lost or doubled, and there is only the error about the avatar."""
    client = FakeClient(AuthenticationError("bad key", status_code=401))
    async with running(client) as bot:
        await bot.until_event("on_fallback_started")
        pcm = tone(0.1)
        await _say_cut(bot, pcm, 333)
        await bot.until_stopped("c1")
        assert bot.voice().tobytes() == pcm
        assert len(bot.up.of(ErrorFrame)) == 1


@in_virtual_time
async def test_ten_minutes_in_one_reply_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply may be as long as it likes: every second of it is heard, in order, before its stop frame leaves."""
    monkeypatch.setattr(_speaker, "_AHEAD_S", math.inf)  # this avatar speaks faster than any clock
    seconds, per_second = 600, 10
    unhurried = {"no_audio_timeout_s": WAIT_S}  # the test plays the avatar, on however busy a machine
    link_options = {"paced": False, "fps": per_second}
    async with running(link_options=link_options, settings=unhurried, transport_ready=False) as bot:
        await bot.until_event("on_avatar_connected")
        link = bot.links[0]
        # Each second is as loud as its number tells, so that a lost or doubled one shows.
        levels = _LOUD + 20 * np.arange(seconds, dtype=np.int16)
        pcm = np.repeat(levels, RATE).tobytes()
        await _say_cut(bot, pcm, 2 * RATE)
        await bot.until_processed(TTSStoppedFrame)
        async with asyncio.timeout(6 * WAIT_S):
            while not bot.down.of(TTSStoppedFrame):
                await link.step()
                await asyncio.sleep(0)
        heard = bot.voice()
        assert not bot.up.of(ErrorFrame)
    assert heard[: len(pcm) // 2].tobytes() == pcm
