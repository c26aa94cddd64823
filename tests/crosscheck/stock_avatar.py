"""livekit-agents' own avatar worker with a plain picture. Runs in `.venv-agents`; settings on standard input."""

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator

from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioReceiver,
    VideoGenerator,
)

WIDTH, HEIGHT, FPS = 320, 240, 25


class PlainAvatar(VideoGenerator):
    """Hands the sound through, with as many pictures as it is long."""

    def __init__(self) -> None:
        self._queue: deque[rtc.AudioFrame | AudioSegmentEnd] = deque()
        picture = bytes([90, 120, 160, 255]) * (WIDTH * HEIGHT)
        self._picture = rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, picture)

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        self._queue.append(frame)

    def clear_buffer(self) -> None:
        self._queue.clear()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._frames()

    async def _frames(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        pictures_due = 0.0
        while True:
            if not self._queue:
                yield self._picture
                await asyncio.sleep(1 / FPS)
                continue
            frame = self._queue.popleft()
            yield frame
            if isinstance(frame, rtc.AudioFrame):
                pictures_due += frame.duration * FPS
                while pictures_due >= 1:
                    pictures_due -= 1
                    yield self._picture


async def main() -> None:
    settings = json.loads(sys.stdin.readline())
    room = rtc.Room()
    await room.connect(settings["url"], settings["token"])
    runner = AvatarRunner(
        room,
        audio_recv=DataStreamAudioReceiver(room, sender_identity=settings["sender"]),
        video_gen=PlainAvatar(),
        options=AvatarOptions(WIDTH, HEIGHT, FPS, 16_000, 1),
        _lazy_publish=False,
    )
    started = asyncio.create_task(runner.start())  # waits for the sender and for a subscriber
    await asyncio.to_thread(sys.stdin.readline)  # until the parent closes the pipe
    started.cancel()
    await runner.aclose()
    await room.disconnect()


asyncio.run(main())
