"""A decoded picture becomes RGB."""

import asyncio
import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from livekit import rtc

from agenthuman_plugins.speech import _rgb
from agenthuman_plugins.speech._rgb import to_rgb

_ROUNDING = 3  # of 255, between two converters


def _i420(width: int, height: int) -> rtc.VideoFrame:
    chance = random.Random(7)
    size = width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
    planes = bytes(chance.randrange(16, 236) for _ in range(size))
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, planes)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (2, 2), (63, 48), (64, 47), (63, 47)])
async def test_every_size_has_the_colours_that_livekit_gives(width: int, height: int) -> None:
    """Whoever converts, pixels, rows and channels are the same ones; odd sizes as well."""
    frame = _i420(width, height)
    rgb = await to_rgb(frame)
    assert type(rgb) is bytes  # Daily's SDK takes nothing else
    wanted = frame.convert(rtc.VideoBufferType.RGB24).data.tobytes()
    assert len(rgb) == len(wanted) == width * height * 3
    assert max(abs(ours - theirs) for ours, theirs in zip(rgb, wanted, strict=True)) <= _ROUNDING


async def test_without_opencv_livekit_converts(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV stays optional."""
    monkeypatch.setattr(_rgb, "_HAS_OPENCV", False)
    monkeypatch.delattr(_rgb, "cv2")
    frame = _i420(64, 48)
    assert await to_rgb(frame) == frame.convert(rtc.VideoBufferType.RGB24).data.tobytes()


async def test_the_picture_is_in_memory_once() -> None:
    """With OpenCV the conversion is the only pass: nothing is copied afterwards."""
    width, height = 1280, 960
    frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, bytes(width * height * 3 // 2))
    await to_rgb(frame)
    tracemalloc.start()
    try:
        rgb = await to_rgb(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rgb) <= peak < 1.1 * len(rgb)


async def test_a_program_that_keeps_its_threads_busy_does_not_freeze_the_avatar() -> None:
    """Blocking jobs of a bot's tools hold up no picture."""
    done = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
    busy = asyncio.create_task(asyncio.to_thread(done.wait, 60))
    try:
        async with asyncio.timeout(20):
            assert await to_rgb(_i420(64, 48))
        assert not busy.done()
    finally:
        done.set()
        await busy
