"""What is sent to a browser: the planes as they came, and time stamps that keep lips and voice in step."""

import asyncio

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from agenthuman_plugins.viewer._tracks import (
    VOICE_FRAME_SAMPLES,
    VOICE_RATE,
    Picture,
    PictureTrack,
    Sound,
    VoiceTrack,
    to_frame,
)

PIECE = np.arange(VOICE_FRAME_SAMPLES, dtype=np.int16).tobytes()


def picture(width: int, height: int, at_s: float = 0.0) -> Picture:
    halved = -(-width // 2) * -(-height // 2)
    planes = np.random.default_rng(1).integers(0, 256, width * height + 2 * halved, np.uint8)
    return Picture(memoryview(planes), width, height, at_s)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (512, 512), (1280, 960), (31, 17)], ids=str)
def test_no_pixel_is_changed(size: tuple[int, int]) -> None:
    """The encoder gets luma and chroma as they were decoded, in every shape, also an odd one."""
    width, height = size
    shown = picture(width, height)
    frame = to_frame(shown)
    assert (frame.width, frame.height, frame.format.name) == (width, height, "yuv420p")
    planes = []
    for plane, halved in zip(frame.planes, (1, 2, 2), strict=True):
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        planes.append(lines[: -(-height // halved), : -(-width // halved)].tobytes())
    assert b"".join(planes) == shown.i420.tobytes()


async def test_a_slow_encoder_gets_the_newest_picture() -> None:
    """Pictures do not queue up; each is stamped with the moment at which it is shown."""
    track = PictureTrack(began_s=10.0)
    for at_s in (10.0, 10.04, 10.5):
        track.put(picture(16, 16, at_s))
    frame = await track.recv()
    assert float(frame.pts * frame.time_base) == pytest.approx(0.5)
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def stamps(*came_s: float) -> list[float]:
    """The time stamps of pieces that came at these moments, in seconds."""
    track = VoiceTrack(began_s=0.0)
    seen = []
    for at_s in came_s:
        track.put(Sound(PIECE, at_s))
        frame = await track.recv()
        assert (frame.sample_rate, frame.layout.name) == (VOICE_RATE, "mono")
        assert bytes(frame.planes[0])[: len(PIECE)] == PIECE
        seen.append(float(frame.pts * frame.time_base))
    return seen


async def test_a_voice_that_comes_unevenly_has_even_time_stamps() -> None:
    """A hiccup of the machine is no gap in the voice."""
    assert await stamps(0.0, 0.05, 0.05, 0.06, 0.3) == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])


async def test_a_voice_that_was_interrupted_goes_on_at_the_right_time() -> None:
    """After an avatar came back, its voice is not stamped as old."""
    assert await stamps(0.0, 0.02, 3.0, 3.02) == pytest.approx([0.0, 0.02, 3.0, 3.02])


async def test_a_slow_encoder_loses_the_oldest_voice() -> None:
    """At most 200 ms wait: a voice that once was late would stay so."""
    track = VoiceTrack(began_s=0.0)
    for number in range(50):
        track.put(Sound(bytes([number, 0]) * VOICE_FRAME_SAMPLES, number / 50))
    first = await track.recv()
    assert bytes(first.planes[0])[0] == 40
    for _ in range(9):
        await track.recv()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await track.recv()
