"""Speech streams: order, ends, clears, lost trailers."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from agenthuman_plugins.emulator.worker import _streams
from agenthuman_plugins.emulator.worker._decoder import SpeechDecoder
from agenthuman_plugins.emulator.worker._streams import SpeechReceiver
from tests.emulator.worker.fakes import HANG_LIMIT_S, FakeStream

END = "end"


class Heard:
    """What came out of a receiver, with a way to wait for it."""

    def __init__(self) -> None:
        self.log: list[bytes | str] = []
        self._news = asyncio.Event()
        self.receiver = SpeechReceiver(self._push, lambda: self._add(END))

    def _push(self, pcm: bytes) -> None:
        if pcm:
            self._add(pcm)

    def _add(self, entry: bytes | str) -> None:
        self.log.append(entry)
        self._news.set()

    async def until(self, *expected: bytes | str) -> None:
        async with asyncio.timeout(HANG_LIMIT_S):
            while len(self.log) < len(expected):
                self._news.clear()
                await self._news.wait()
        assert self.log == list(expected)


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    heard = Heard()
    running = asyncio.create_task(heard.receiver.run())
    yield heard
    assert not running.done(), "the receiver ended by itself"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def opened(heard: Heard, **attributes: str) -> FakeStream:
    stream = FakeStream()
    heard.receiver.open(stream, attributes)
    return stream


async def test_stream_is_an_utterance(heard: Heard) -> None:
    """Chunks come as they were written, the trailer ends the utterance, the reader is closed."""
    stream = opened(heard)
    stream.write(b"ab")
    await heard.until(b"ab")
    stream.write(b"cdef")
    stream.end()
    await heard.until(b"ab", b"cdef", END)
    assert stream.closed


async def test_streams_are_played_in_the_order_of_their_headers(heard: Heard) -> None:
    """A later stream waits for the one before it, even if its bytes come first."""
    first, second = opened(heard), opened(heard)
    second.write(b"22")
    second.end()
    first.write(b"11")
    first.end()
    await heard.until(b"11", END, b"22", END)


async def test_clear_drops_the_rest_of_the_open_stream(heard: Heard) -> None:
    """What a sender writes into a stream after a clear is not played, nor does its trailer end anything."""
    stream = opened(heard)
    stream.write(b"11")
    await heard.until(b"11")
    heard.receiver.clear()
    stream.write(b"xx")
    stream.end()
    following = opened(heard)
    following.write(b"22")
    following.end()
    await heard.until(b"11", b"22", END)


async def test_clear_drops_waiting_streams_and_chunks(heard: Heard) -> None:
    """Whatever came before a clear is gone, read or not; readers are closed."""
    streams = [opened(heard) for _ in range(3)]
    for stream in streams:
        stream.write(b"xx")
    heard.receiver.clear()
    following = opened(heard)
    following.write(b"22")
    await heard.until(b"22")
    assert all(stream.closed for stream in streams)


async def test_lost_trailer_is_made_up_by_the_next_stream(heard: Heard) -> None:
    """A stream without a trailer ends soon after a newer one begins; its chunks on the way are still played."""
    lost = opened(heard)
    lost.write(b"11")
    await heard.until(b"11")
    following = opened(heard)
    following.write(b"22")
    following.end()
    lost.write(b"12")
    await heard.until(b"11", b"12", END, b"22", END)


async def test_lost_trailer_ends_after_a_long_pause(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a newer stream, the utterance ends when no chunk came for long."""
    monkeypatch.setattr(_streams, "_IDLE_S", 0.05)
    stream = opened(heard)
    stream.write(b"11")
    await heard.until(b"11", END)
    assert stream.closed


async def test_stream_that_breaks_off_is_over(heard: Heard) -> None:
    """A sender that vanishes ends its utterance; the next one is heard."""
    stream = opened(heard)
    stream.write(b"11")
    stream.break_off()
    following = opened(heard)
    following.write(b"22")
    following.end()
    await heard.until(b"11", END, b"22", END)


@pytest.mark.parametrize(
    "attributes", [{"sample_rate": "fast"}, {"sample_rate": "0"}, {"num_channels": "0"}], ids=str
)
async def test_stream_that_makes_no_sense_is_refused(heard: Heard, attributes: dict[str, str]) -> None:
    """A wrong format loses that stream, not the avatar."""
    stream = opened(heard, **attributes)
    stream.write(b"xx")
    following = opened(heard)
    following.write(b"22")
    await heard.until(b"22")
    assert stream.closed


def test_stereo_is_mixed_down_over_any_cut() -> None:
    """Channels are averaged, and chunks may be cut within a frame."""
    stereo = np.array([[100, 300], [-50, -150], [7, 9]], "<i2").tobytes()
    decoder = SpeechDecoder(sample_rate=16_000, num_channels=2)
    mono = b"".join(decoder.decode(stereo[i : i + 1]) for i in range(len(stereo))) + decoder.flush()
    assert np.frombuffer(mono, "<i2").tolist() == [200, -100, 8]


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_other_rates_keep_pitch_and_length(rate: int) -> None:
    """A second of a tone stays a second of that tone."""
    tone = (8_000 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate)).astype("<i2").tobytes()
    decoder = SpeechDecoder(sample_rate=rate, num_channels=1)
    pcm = b"".join(decoder.decode(tone[i : i + 999]) for i in range(0, len(tone), 999)) + decoder.flush()
    samples = np.frombuffer(pcm, "<i2").astype(float)
    assert len(samples) == pytest.approx(16_000, abs=2)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * 16_000 / len(samples) == pytest.approx(500, abs=2)
