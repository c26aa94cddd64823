"""The demo's call: pictures that carry their time, and a voice without holes."""

import asyncio
from fractions import Fraction

import numpy as np
from av import VideoFrame
from pipecat.frames.frames import OutputAudioRawFrame
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.transport import RawVideoTrack, SmallWebRTCOutputTransport

from agenthuman_plugins.demo import _call
from agenthuman_plugins.demo._call import Call, CallTransport

WAIT_S = 10.0  # hang limit of every wait


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
