"""The avatar's picture as the SDKs decode it."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from livekit import rtc
from pipecat.frames.frames import Frame, OutputImageRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.speech import AvatarVideo
from agenthuman_plugins.speech._tracks import AvatarTracks
from benchmarks.peers._avatar import Avatar
from benchmarks.peers._vendor import Vendor


def decoded(picture: AvatarVideo) -> rtc.VideoFrame:
    """The picture, whose pixels are all of one grey, as LiveKit decodes it."""
    planes = i420(picture)
    # LiveKit does so on the event loop, once for every service that stands on it.
    copy = bytearray(planes.data)
    return rtc.VideoFrame(picture.width, picture.height, planes.type, copy)


def i420(picture: AvatarVideo) -> rtc.VideoFrame:
    """The picture as any decoder leaves it."""
    return _i420(picture.rgb[0], picture.width, picture.height)


@functools.lru_cache(maxsize=8)  # what the fake costs must not be charged to the service
def _i420(grey: int, width: int, height: int) -> rtc.VideoFrame:
    pixels = width * height
    planes = bytes([16 + grey * 219 // 255]) * pixels + bytes([128]) * (pixels // 2)
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, planes)


class LiveKitPictures(Avatar):
    """An avatar whose picture is read by our LiveKit code, from a `VideoStream` that is faked."""

    async def video(self) -> AsyncIterator[AvatarVideo]:
        tracks = AvatarTracks(sample_rate=24_000, frame_ms=40)
        tracks.take(mock.Mock(spec=rtc.RemoteVideoTrack, sid="TR_video"))
        with mock.patch.object(rtc, "VideoStream", self._stream):
            try:
                async for picture in tracks.watch():
                    yield picture
            finally:
                await tracks.aclose()

    def _stream(self, _: object, **__: Any) -> "_VideoStream":
        return _VideoStream(self.every_picture())


class _VideoStream:
    """LiveKit's stream of decoded pictures."""

    def __init__(self, pictures: AsyncIterator[AvatarVideo]) -> None:
        self._pictures = pictures

    def __aiter__(self) -> "_VideoStream":
        return self

    async def __anext__(self) -> Any:
        picture = await anext(self._pictures)
        return SimpleNamespace(frame=decoded(picture), timestamp_us=picture.timestamp_us)

    async def aclose(self) -> None: ...


class Nothing(Vendor):
    """No service: what the measurement itself costs."""

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[FrameProcessor]:
        avatar = self.avatar(self.conditions.output_rate)
        await avatar.connect(timeout_s=1.0)

        class Pass(FrameProcessor):
            async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
                await super().process_frame(frame, direction)
                await self.push_frame(frame, direction)

        async def push() -> None:
            async for picture in avatar.every_picture():
                await processor.push_frame(
                    OutputImageRawFrame(picture.rgb, (picture.width, picture.height), "RGB")
                )

        processor = Pass()
        pushing = asyncio.create_task(push())
        yield processor
        pushing.cancel()
        await asyncio.wait([pushing])
        await avatar.aclose()
