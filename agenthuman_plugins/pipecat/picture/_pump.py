"""The avatar's picture on its way to the transport: in step with the voice, the newest first, never a queue.

Pictures wait for their voice in a line that is as long as the voice is late, at most half a second. They leave
it at the distance that their time stamps have, whatever the network did to it. What the transport does not take is
dropped, so that the next one is the newest, and so is what may show a reply that was cut.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pipecat.frames.frames import OutputImageRawFrame

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.pipecat.picture._curtain import Curtain
from agenthuman_plugins.speech.link import AvatarVideo

try:
    import cv2
except ImportError:
    CAN_SCALE = False  # Pipecat's transport scales then: right, but at 20 ms a picture
else:
    CAN_SCALE = True

Size = tuple[int, int]

# Not asyncio's own threads: a program that keeps those busy for seconds would freeze the avatar.
_THREADS = ThreadPoolExecutor(thread_name_prefix="avatar-scale")

MAX_BACKLOG = 1  # pictures that wait; somebody has another one in his hand
FIRST_PICTURE_S = 10.0  # from the subscription to the first key frame
_FROZEN_S = 3.0
_MAX_WAIT_S = 0.5
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
        dropped: Not pushed: newer ones had come, the transport was behind, or they showed a reply that was cut.
            Those that a link skipped, because its reader was too slow, are not known here.
    """

    shown: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    picture: AvatarVideo
    arrived: float  # on the event loop's clock
    in_time: float  # the same, had nothing held it up on its way


class PicturePump:
    """Pushes the avatar's pictures as frames of the pipeline.

    Args:
        push: Takes a frame.
        on_first: Called with the first picture, ahead of its frame.
        shows: Tells whether pictures are pushed yet; until then they pass their line and are dropped, uncounted.
        on_ready: Called when the first picture has passed its line, shown or not: others follow it closely.
        delay_s: Tells how long a picture waits for its voice.
        curtain: Tells which pictures may show a reply that was cut.
        backlog: Counts what the transport has not taken.
        count: Is kept up to date.
        reconnecting: Tells whether no picture can come yet, because the connection is being restored.
        pipeline_ns: The pipeline's clock in nanoseconds, on which the frames are stamped.
        destination: Tells for which of the transport's destinations a frame is; `None` for the usual one.
        scale_to: Width and height of the frames to push; `None` leaves the avatar's. Needs OpenCV, else has no effect.
        frozen_s: Seconds without a picture after which the avatar counts as lost.
    """

    def __init__(
        self,
        push: Callable[[OutputImageRawFrame], Awaitable[None]],
        *,
        on_first: Callable[[AvatarVideo], Awaitable[None]],
        delay_s: Callable[[], float],
        curtain: Curtain,
        backlog: Backlog,
        count: PictureCount,
        reconnecting: Callable[[], bool],
        pipeline_ns: Callable[[], int],
        destination: Callable[[], str | None] = lambda: None,
        scale_to: Size | None = None,
        shows: Callable[[], bool] = lambda: True,
        on_ready: Callable[[], None] = lambda: None,
        frozen_s: float = _FROZEN_S,
    ) -> None:
        self._push = push
        self._on_first: Callable[[AvatarVideo], Awaitable[None]] | None = on_first
        self._shows = shows
        self._on_ready: Callable[[], None] | None = on_ready
        self._delay_s = delay_s
        self._curtain = curtain
        self._backlog = backlog
        self._count = count
        self._reconnecting = reconnecting
        self._destination = destination
        self._pipeline_ns = pipeline_ns
        self._scale_to = scale_to if CAN_SCALE else None
        self._frozen_s = frozen_s
        self._line: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        # By how much a picture that nothing delayed is later than its time stamp.
        self._way_s: float | None = None
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
        limit_s = max(FIRST_PICTURE_S, self._frozen_s)
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    picture = await anext(pictures)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if self._reconnecting():
                    limit_s = self._frozen_s
                    continue  # the link gives up in its own time
                message = f"The avatar's video is frozen: nothing came for {limit_s:g} s."
                raise SpeechLinkError(message, retryable=True) from None
            limit_s = self._frozen_s
            now = asyncio.get_running_loop().time()
            self._line.append(self._take_in(picture, now))
            self._arrived.set()

    def _take_in(self, picture: AvatarVideo, now: float) -> _Waiting:
        """Put a picture that comes now where its time stamp says."""
        way_s = now - picture.timestamp_us / 1e6
        if self._way_s is None or abs(way_s - self._way_s) > _JUMP_S:
            self._way_s, self._anchor = way_s, None
        self._way_s = min(way_s, self._way_s + _CREEP_S)
        return _Waiting(picture, now, picture.timestamp_us / 1e6 + self._way_s)

    def _due(self, waiting: _Waiting) -> float:
        """When a picture has to leave, by what is known of its voice now: that may get later while it waits."""
        due = waiting.in_time + self._delay_s()
        return min(max(due, waiting.arrived), waiting.arrived + _MAX_WAIT_S)

    async def _show(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            while not self._line:
                self._arrived.clear()
                await self._arrived.wait()
            while (wait_s := self._due(self._line[0]) - clock()) > 0:  # noqa: ASYNC110 - it may move meanwhile
                await asyncio.sleep(wait_s)
            await asyncio.sleep(0)  # those that came with it may be due as well
            waiting = self._line.popleft()
            while self._line and self._due(self._line[0]) <= clock():
                self._count.dropped += self._shows()  # late already: the next one is due as well
                waiting = self._line.popleft()
            if self._on_ready is not None:
                on_ready, self._on_ready = self._on_ready, None
                on_ready()
            if not self._shows():
                continue
            if not await self._push_frame(waiting):
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

    async def _push_frame(self, waiting: _Waiting) -> bool:
        """Push a picture; `False` if it must not or cannot be shown."""
        if self._curtain.hides(waiting.arrived) or not self._is_taken():
            return False
        picture = waiting.picture
        if self._on_first is not None:
            on_first, self._on_first = self._on_first, None
            await on_first(picture)
        image, size = picture.rgb, (picture.width, picture.height)
        if self._scale_to is not None and size != self._scale_to:
            loop, to = asyncio.get_running_loop(), self._scale_to
            image, size = await loop.run_in_executor(_THREADS, _scale, image, size, to), to
            if self._curtain.hides(waiting.arrived):
                return False  # cut while it was scaled
        frame = OutputImageRawFrame(image, size, "RGB")
        frame.pts = self._stamp(picture)
        frame.transport_destination = self._destination()
        self._backlog.add(frame)
        self._count.shown += 1
        await self._push(frame)
        return True

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
