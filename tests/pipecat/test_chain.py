"""The Pipecat service over the whole chain: emulator, room server and avatar worker as real processes."""

import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.pipecat import AgentHumanVideoService
from tests.pipecat.bot import RATE, Bot, running_service, tone

pytestmark = pytest.mark.media

# The jitter buffer shortens sound a little, and stretches it when the machine is busy and packets are late.
SHORTER_S, LONGER_S = 0.1, 0.4
ARTEFACT_S = 0.02  # one window of what a jitter buffer makes up may have any pitch


@contextlib.asynccontextmanager
async def _chain(a_room_server: str) -> AsyncIterator[tuple[Bot, Emulator]]:
    """A bot on an emulator that ends no session by itself; afterwards every session was ended by its caller."""
    async with Emulator(room_server=a_room_server, sweep=False, expiry=False) as emulator:
        await emulator.wait_ready()
        async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client:
            async with running_service(
                AgentHumanVideoService(
                    client=client, settings=AgentHumanVideoService.Settings(avatar_wait_s=20)
                )
            ) as bot:
                await bot.until_event("on_avatar_connected")
                yield bot, emulator
            assert [session["ended_by"] for session in emulator.sessions()] == ["caller"]


def _seconds_at(hz: float, voice: np.ndarray) -> float:
    """How long a tone of this pitch is heard, counted in windows of 20 ms."""
    window = RATE // 50
    frames = voice[: len(voice) // window * window].reshape(-1, window).astype(float)
    loud = np.abs(frames).max(axis=1) > 1000
    spectra = np.abs(np.fft.rfft(frames * np.hanning(window), 2048, axis=1))
    pitches = spectra.argmax(axis=1) * RATE / 2048
    return float(np.count_nonzero(loud & (np.abs(pitches - hz) < 60)) * window / RATE)


async def test_reply_comes_back_whole_over_the_wire(a_room_server: str) -> None:
    """The voice comes back in full length, with pictures, and the session is the caller's to end."""
    async with _chain(a_room_server) as (bot, _):
        await bot.say(tone(1.0, hz=440, loud=6000))
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert 1.0 - SHORTER_S < _seconds_at(440, bot.voice()) < 1.0 + LONGER_S
        await bot.down.until(lambda: len(bot.down.of(OutputImageRawFrame)) >= 25)
        assert bot.down.of(OutputImageRawFrame)[-1].size == (640, 480)
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))


async def test_reply_after_an_interruption_comes_from_its_first_sample(a_room_server: str) -> None:
    """After each interruption nothing of the old reply is heard, and the next one is whole."""
    async with _chain(a_room_server) as (bot, _):
        for number in range(4):
            long, short = f"long{number}", f"short{number}"
            await bot.say(tone(5.0, hz=300, loud=6000), context_id=long)
            await bot.down.until(lambda: any(f.context_id == long for f in bot.down.of(TTSAudioRawFrame)))  # noqa: B023
            await bot.send(InterruptionFrame())
            await bot.down.until(lambda: len(bot.down.of(InterruptionFrame)) == number + 1)  # noqa: B023
            cut = len(bot.down.frames)
            await bot.say(tone(0.4, hz=700, loud=6000), context_id=short)
            await bot.down.until(lambda: any(f.context_id == short for f in bot.down.of(TTSStoppedFrame)))  # noqa: B023
            later = {f.context_id for f in bot.down.frames[cut:] if isinstance(f, TTSAudioRawFrame)}
            assert later == {short}
            assert _seconds_at(300, bot.voice(short)) <= ARTEFACT_S
            assert 0.4 - SHORTER_S < _seconds_at(700, bot.voice(short)) < 0.4 + LONGER_S
