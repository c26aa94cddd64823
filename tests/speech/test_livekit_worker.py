"""The LiveKit link against the emulator's avatar worker: what the user hears, over a real room."""

import array
import asyncio
import contextlib
import itertools
import math

import pytest

from agenthuman_plugins.emulator.process import Child
from agenthuman_plugins.speech import LiveKitSpeechLink, PlaybackFinished, PlaybackStarted

pytestmark = pytest.mark.media

RATE = 16_000


def tone(seconds: float, hertz: float) -> bytes:
    samples = (round(12_000 * math.sin(2 * math.pi * hertz * i / RATE)) for i in range(round(seconds * RATE)))
    return array.array("h", samples).tobytes()


def loudness(pcm: bytes) -> float:
    samples = memoryview(pcm).cast("h")
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))


def pitch(pcm: bytes, rate: int) -> float:
    """Hz of a tone, from its zero crossings."""
    samples = memoryview(pcm).cast("h")
    crossings = sum(a < 0 <= b for a, b in itertools.pairwise(samples))
    return crossings * rate / len(samples)


class Listener:
    """Keeps the voice that comes back, in blocks of 40 ms."""

    def __init__(self, link: LiveKitSpeechLink) -> None:
        self.heard = 0  # blocks, silent ones included
        self._loud: list[tuple[int, bytes]] = []
        self._link = link
        self._happened = asyncio.Event()

    async def listen(self) -> None:
        async for block in self._link.audio():
            if loudness(block.pcm) > 1_000:
                self._loud.append((self.heard, block.pcm))
            self.heard += 1
            self._happened.set()

    def loud(self, since: int = 0) -> list[bytes]:
        """The blocks that hold sound."""
        return [pcm for index, pcm in self._loud if index >= since]

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


@contextlib.asynccontextmanager
async def conversation(room):
    """A link to a worker in a room, and what is heard on it."""
    settings = {
        "url": room.url,
        "token": room.avatar_token(),
        "avatar": "avat_1",
        "width": 320,
        "height": 240,
    }
    worker = await Child.start("agenthuman_plugins.emulator.worker", {**settings, "fps": 25, "sender": "bot"})
    link = LiveKitSpeechLink(room.url, room.bot_token(), audio_sample_rate=RATE)
    try:
        await link.connect(timeout_s=10)
        listener = Listener(link)
        listening = asyncio.create_task(listener.listen())
        yield link, listener
        await link.aclose()
        await listening
    finally:
        await link.aclose()
        await worker.stop()


async def event(link, kind):
    async with asyncio.timeout(10):
        async for happened in link.events():
            if isinstance(happened, kind):
                return happened
    raise AssertionError(f"closed without {kind.__name__}")


async def test_speech_is_played_whole(a_room):
    """The avatar says all of it, at its pitch, and reports its exact length."""
    async with conversation(a_room) as (link, listener):
        await link.send(tone(1.0, 440))
        await link.end_utterance()
        assert await event(link, PlaybackStarted) == PlaybackStarted(1)
        assert await link.wait_playback(timeout_s=10)
        finished = await event(link, PlaybackFinished)
        assert finished == PlaybackFinished(1, pytest.approx(1.0), interrupted=False)
        silent = listener.heard + 12  # half a second
        await listener.until(lambda: listener.heard > silent)
        assert len(listener.loud()) >= 24  # the jitter buffer of a busy machine stretches, it does not drop
        assert pitch(b"".join(listener.loud()[3:-3]), RATE) == pytest.approx(440, rel=0.05)


async def test_interruption_and_next_utterance_from_its_first_sample(a_room):
    """A second into a reply it is cut; the next one is heard from its beginning, and nothing of the old one."""
    async with conversation(a_room) as (link, listener):
        await link.send(tone(10, 220))
        await link.end_utterance()
        await listener.until(lambda: len(listener.loud()) >= 25)
        await link.interrupt()
        finished = await event(link, PlaybackFinished)
        assert (finished.interrupted, finished.estimated) == (True, False)
        assert 0.8 < finished.position_s < 3
        cut = listener.heard
        assert await link.send(tone(0.4, 880) + tone(0.4, 440)) == 2
        await link.end_utterance()
        assert await link.wait_playback(timeout_s=10)
        await listener.until(lambda: len(listener.loud(cut)) > 18)
        high = [block for block in listener.loud(cut) if pitch(block, RATE) > 700]
        assert len(high) >= 9
        assert (await event(link, PlaybackFinished)).position_s == pytest.approx(0.8)


async def test_eight_rapid_interruptions_and_a_good_utterance(a_room):
    """However early the interruptions come, each utterance ends once, and the last one is heard."""
    async with conversation(a_room) as (link, listener):
        for wait_s in (0, 0.01, 0.02, 0.05, 0.1, 0, 0.03, 0.2):
            await link.send(tone(3, 220))
            await link.wait_playback(timeout_s=wait_s)
            await link.interrupt()
        cut = listener.heard
        assert await link.send(tone(0.6, 880)) == 9
        await link.end_utterance()
        assert await link.wait_playback(timeout_s=10)
        finished = [await event(link, PlaybackFinished) for _ in range(9)]
        assert [f.utterance for f in finished] == list(range(1, 10))
        assert [f.interrupted for f in finished] == [True] * 8 + [False]
        assert finished[-1].position_s == pytest.approx(0.6)
        await listener.until(lambda: len([b for b in listener.loud(cut) if pitch(b, RATE) > 700]) >= 13)


async def test_picture_moves(a_room):
    """Pictures of the size asked for come, and they are not all the same."""
    async with conversation(a_room) as (link, _), asyncio.timeout(10):
        pictures = [await anext(link.video()) for _ in range(10)]
        assert len({picture.rgb for picture in pictures}) > 1
        assert all(len(picture.rgb) == picture.width * picture.height * 3 for picture in pictures)
        times = [picture.timestamp_us for picture in pictures]
        assert times == sorted(times)
