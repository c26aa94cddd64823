"""The avatar's picture on its way to the transport: in step with the voice, the newest first, never a queue.

Pictures wait for their voice in a line that is as long as the voice is late, at most a fifth of a second. They leave
it at the distance that their time stamps have, whatever the network did to it. What the transport does not take is
dropped, so that the next one is the newest.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pipecat.frames.frames import OutputImageRawFrame

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.speech.link import AvatarVideo

try:
    import cv2
except ImportError:
    CAN_SCALE = False  # Pipecat's transport scales then: right, but at 20 ms a picture
else:
    CAN_SCALE = True

Size = tuple[int, int]

MAX_BACKLOG = 2  # pictures
_FIRST_PICTURE_S = 10.0  # from the subscription to the first key frame
_FROZEN_S = 3.0
_MAX_WAIT_S = 0.2
_JUMP_S = 1.0  # time stamps that are off by more have begun anew
_CREEP_S = 0.001  # per picture: how fast the fastest way is forgotten, so that clocks may drift
_KEPT_S = 1.0  # pictures that were on their way for so long are kept by somebody, not waiting


class Backlog(Protocol):
    """Counts the pictures that the transport has not taken."""

    def __len__(self) -> int: ...

    def add(self, frame: OutputImageRawFrame) -> None:
        """Note a picture that is being pushed."""

    def forget(self) -> None:
        """Count none of them any more."""


@dataclass(slots=True)
class PictureCount:
    """What became of the pictures.

    Attributes:
        shown: Pushed to the transport.
        dropped: Not pushed, because newer ones had come or the transport was behind.
    """

    shown: int = 0
    dropped: int = 0


class PicturePump:
    """Pushes the avatar's pictures as frames of the pipeline.

    Args:
        push: Takes a frame.
        on_first: Called with the first picture, ahead of its frame.
        delay_s: Tells how long a picture waits for its voice.
        backlog: Counts what the transport has not taken.
        count: Is kept up to date.
        pipeline_ns: The pipeline's clock in nanoseconds, on which the frames are stamped.
        scale_to: Width and height of the frames to push; `None` leaves the avatar's. Needs OpenCV, else has no effect.
        frozen_s: Seconds without a picture after which the avatar counts as lost.
    """

    def __init__(
        self,
        push: Callable[[OutputImageRawFrame], Awaitable[None]],
        *,
        on_first: Callable[[AvatarVideo], Awaitable[None]],
        delay_s: Callable[[], float],
        backlog: Backlog,
        count: PictureCount,
        pipeline_ns: Callable[[], int],
        scale_to: Size | None = None,
        frozen_s: float = _FROZEN_S,
    ) -> None:
        self._push = push
        self._on_first: Callable[[AvatarVideo], Awaitable[None]] | None = on_first
        self._delay_s = delay_s
        self._backlog = backlog
        self._count = count
        self._pipeline_ns = pipeline_ns
        self._scale_to = scale_to if CAN_SCALE else None
        self._frozen_s = frozen_s
        self._line: deque[tuple[float, AvatarVideo]] = deque()  # with the time at which each has to leave
        self._arrived = asyncio.Event()
        self._way_s: float | None = (
            None  # by how much a picture that nothing delayed is later than its time stamp
        )
        self._anchor: tuple[int, int] | None = None  # a time stamp, and what it is on the pipeline's clock
        self._stalled_since: float | None = None

    async def run(self, pictures: AsyncIterator[AvatarVideo]) -> None:
        """Push what comes until cancelled.

        Raises:
            SpeechLinkError: No picture came for too long.
        """
        async with asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(self._show())
            await self._take(pictures)
            showing.cancel()

    async def _take(self, pictures: AsyncIterator[AvatarVideo]) -> None:
        limit_s = max(_FIRST_PICTURE_S, self._frozen_s)
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    picture = await anext(pictures)
            except StopAsyncIteration:
                return
            except TimeoutError:
                message = f"The avatar's picture is frozen: nothing came for {limit_s:g} s."
                raise SpeechLinkError(message, retryable=True) from None
            limit_s = self._frozen_s
            self._line.append((self._due(picture), picture))
            self._arrived.set()

    def _due(self, picture: AvatarVideo) -> float:
        """When a picture that comes now has to leave."""
        now = asyncio.get_running_loop().time()
        way_s = now - picture.timestamp_us / 1e6
        if self._way_s is None or abs(way_s - self._way_s) > _JUMP_S:
            self._way_s, self._anchor = way_s, None
        self._way_s = min(way_s, self._way_s + _CREEP_S)
        due = picture.timestamp_us / 1e6 + self._way_s + self._delay_s()
        return min(max(due, now), now + _MAX_WAIT_S)

    async def _show(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            while not self._line:
                self._arrived.clear()
                await self._arrived.wait()
            await asyncio.sleep(self._line[0][0] - clock())
            picture = self._line.popleft()[1]
            while self._line and self._line[0][0] <= clock():
                self._count.dropped += 1  # late already: the next one is due as well
                picture = self._line.popleft()[1]
            if self._is_taken():
                await self._push_frame(picture)
            else:
                self._count.dropped += 1

    def _is_taken(self) -> bool:
        """Whether the transport takes another picture."""
        if len(self._backlog) < MAX_BACKLOG:
            self._stalled_since = None
            return True
        now = asyncio.get_running_loop().time()
        if self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since >= _KEPT_S:
            self._backlog.forget()
            self._stalled_since = now
        return False

    async def _push_frame(self, picture: AvatarVideo) -> None:
        if self._on_first is not None:
            on_first, self._on_first = self._on_first, None
            await on_first(picture)
        image, size = picture.rgb, (picture.width, picture.height)
        if self._scale_to is not None and size != self._scale_to:
            image, size = await asyncio.to_thread(_scale, image, size, self._scale_to), self._scale_to
        frame = OutputImageRawFrame(image, size, "RGB")
        frame.pts = self._stamp(picture)
        self._backlog.add(frame)
        self._count.shown += 1
        await self._push(frame)

    def _stamp(self, picture: AvatarVideo) -> int:
        """The picture's media time on the pipeline's clock, in nanoseconds."""
        if self._anchor is None:
            self._anchor = picture.timestamp_us, self._pipeline_ns()
        begin_us, begin_ns = self._anchor
        return begin_ns + 1000 * (picture.timestamp_us - begin_us)


def _scale(rgb: bytes, size: Size, to: Size) -> bytes:
    """The picture in another size; runs on a thread, without the lock of the interpreter."""
    width, height = size
    picture = np.frombuffer(rgb, np.uint8).reshape(height, width, 3)
    smaller = to[0] * to[1] < width * height
    scaled = cv2.resize(picture, to, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return scaled.tobytes()
