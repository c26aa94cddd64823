"""The demo's call: pictures that carry their time, and a voice without holes that stops at once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from fractions import Fraction
from unittest.mock import AsyncMock

import numpy as np
import pytest
from av import VideoFrame
from pipecat.frames.frames import InterruptionFrame, OutputAudioRawFrame, TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.transport import (
    RawAudioTrack,
    RawVideoTrack,
    SmallWebRTCClient,
    SmallWebRTCOutputTransport,
)

from agenthuman_plugins.demo import _call
from agenthuman_plugins.demo._call import Call, CallTransport

WAIT_S = 30.0  # hang limit of every wait


class Clock:
    """Stands for `time`."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


async def test_pictures_are_stamped_when_they_are_sent(monkeypatch) -> None:
    """Two pictures a second apart are a second apart for the browser, however many Pipecat expects."""
    clock = Clock()
    monkeypatch.setattr(_call, "time", clock)
    inner = RawVideoTrack(4, 2)
    track = _call._Stamped(inner)
    stamps = []
    for number in range(2):
        inner.add_video_frame(Picture(number))
        frame = await asyncio.wait_for(track.recv(), WAIT_S)
        assert isinstance(frame, VideoFrame)
        assert frame.to_ndarray(format="rgb24").flat[0] == number
        stamps.append(frame.pts * frame.time_base)
        clock.now_s += 1.0
    assert stamps == [Fraction(0), Fraction(1)]
    track.stop()
    assert inner.readyState == "ended"


class Picture:
    """What Pipecat's track takes."""

    def __init__(self, number: int) -> None:
        self.image = np.full((2, 4, 3), number, np.uint8).tobytes()


async def test_the_next_piece_of_voice_is_there_before_the_last_is_over(monkeypatch) -> None:
    """A piece is handed over while the one before it is being played, and in order."""
    given: list[bytes] = []
    played = [asyncio.Event() for _ in range(3)]

    async def write(_: SmallWebRTCOutputTransport, frame: OutputAudioRawFrame) -> bool:
        given.append(frame.audio)
        await played[len(given) - 1].wait()
        return True

    monkeypatch.setattr(SmallWebRTCOutputTransport, "write_audio_frame", write)
    output = CallTransport(Call(), TransportParams()).output()
    assert await write_one(output, b"1")
    second = asyncio.create_task(write_one(output, b"2"))
    async with asyncio.timeout(WAIT_S):
        while len(given) < 2:  # noqa: ASYNC110 - it counts and does not tell
            await asyncio.sleep(0.001)
        assert not second.done()
        played[0].set()
        assert await second
    assert given == [b"1", b"2"]
    for event in played:
        event.set()


async def write_one(output: SmallWebRTCOutputTransport, pcm: bytes) -> bool:
    """Write a piece of sound, as Pipecat does."""
    return await output.write_audio_frame(OutputAudioRawFrame(pcm, 16_000, 1))


@dataclass
class Speaking:
    """A call's output and the track beneath."""

    output: SmallWebRTCOutputTransport
    track: RawAudioTrack

    async def say(self, *, interruptible: bool) -> asyncio.Task[bool]:
        """Hand over two pieces of 40 ms and play 10 ms of the first; returns the writing of the second."""
        writing = None
        for _ in range(2):
            frame = TTSAudioRawFrame(np.full(640, 1000, np.int16).tobytes(), 16_000, 1)
            if not interruptible:
                frame.interruptible = False
            writing = asyncio.create_task(self.output.write_audio_frame(frame))
        async with asyncio.timeout(WAIT_S):
            while len(self.track._chunk_queue) < 8:  # noqa: ASYNC110 - the track does not tell
                await asyncio.sleep(0.001)
        await self.play()
        assert writing is not None
        return writing

    async def play(self) -> list[int]:
        """Play the next 10 ms."""
        frame = await asyncio.wait_for(self.track.recv(), WAIT_S)
        samples: list[int] = frame.to_ndarray()[0].tolist()
        return samples


@pytest.fixture
async def speaking(monkeypatch) -> AsyncIterator[Speaking]:
    """A call in which two pieces of a voice are with the track and the first of them is being played."""
    monkeypatch.setattr(BaseOutputTransport, "process_frame", AsyncMock())
    output = CallTransport(Call(), TransportParams()).output()
    monkeypatch.setattr(SmallWebRTCClient, "_can_send", lambda _: True)
    track = output._client._audio_output_track = RawAudioTrack(16_000)
    yield Speaking(output, track)
    if output._playing is not None:
        output._playing.cancel()


async def test_an_interruption_silences_what_the_track_has(speaking: Speaking) -> None:
    """After an interruption 10 ms fade out, then there is silence; what was dropped does not count as played."""
    second = await speaking.say(interruptible=True)
    await speaking.output.process_frame(InterruptionFrame(), FrameDirection.DOWNSTREAM)
    fading = await speaking.play()
    assert fading[0] == 1000
    assert fading[-1] == 0
    assert sorted(fading, reverse=True) == fading
    assert not any(await speaking.play())
    assert not await asyncio.wait_for(second, WAIT_S)


async def test_an_interruption_leaves_speech_that_must_be_heard(speaking: Speaking) -> None:
    """Speech that nobody may interrupt is played to its end."""
    await speaking.say(interruptible=False)
    await speaking.output.process_frame(InterruptionFrame(), FrameDirection.DOWNSTREAM)
    assert set(await speaking.play()) == {1000}
    assert set(await speaking.play()) == {1000}
