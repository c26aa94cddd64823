"""A decoded picture as RGB, in one pass over its memory where OpenCV is installed."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

from livekit import rtc

try:
    import cv2
    import numpy as np
except ImportError:
    _HAS_OPENCV = False  # LiveKit converts then, in two copies more
else:
    _HAS_OPENCV = True

# Not asyncio's own threads: a program that keeps those busy for seconds would seem to have a frozen avatar.
_THREADS = ThreadPoolExecutor(thread_name_prefix="avatar-picture")


async def to_rgb(frame: rtc.VideoFrame) -> bytes:
    """Convert a picture on a thread: it takes a millisecond, most of it without the interpreter's lock.

    Args:
        frame: As LiveKit decodes it: I420, the colours of BT.601.

    Returns:
        `height * width * 3` bytes, row by row.
    """
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _to_rgb, frame)


def _to_rgb(frame: rtc.VideoFrame) -> bytes:
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    if not (_HAS_OPENCV and even):  # OpenCV knows planes of whole pairs only
        return frame.convert(rtc.VideoBufferType.RGB24).data.tobytes()
    planes = np.frombuffer(frame.data, np.uint8).reshape(frame.height * 3 // 2, frame.width)
    # `BytesIO` is written in place and gives away its memory as `bytes`, which every transport takes.
    memory = io.BytesIO(bytes(3 * frame.width * frame.height))
    with memory.getbuffer() as view:
        rgb = np.frombuffer(view, np.uint8).reshape(frame.height, frame.width, 3)
        cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420, dst=rgb)
        del rgb  # or the view stays in use
    return memory.getvalue()
