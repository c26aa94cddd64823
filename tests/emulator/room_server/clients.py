"""Real LiveKit clients for the tests, with events to wait for in place of sleeps."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from livekit import rtc

TIMEOUT_S = 20.0  # hang limit; everything here takes well below a second, except on a machine under load
SAMPLE_RATE = 16_000
WIDTH, HEIGHT = 640, 360
_FPS = 25
_AUDIO_BLOCK = SAMPLE_RATE // _FPS
_EVENTS = (
    "disconnected",
    "data_received",
    "local_track_subscribed",
    "participant_active",
    "participant_attributes_changed",
    "participant_connected",
    "participant_disconnected",
    "reconnected",
    "track_muted",
    "track_published",
    "track_subscribed",
    "track_unpublished",
    "track_unsubscribed",
)


class Client:
    """A participant. Events are kept from the start, so that waiting for one is never too late."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self._events: list[tuple[str, tuple[Any, ...]]] = []
        self._news = asyncio.Event()
        self._feeders: list[asyncio.Task[None]] = []
        for name in _EVENTS:
            self.room.on(name, self._recorder(name))

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(*arguments: Any) -> None:
            self._events.append((name, arguments))
            self._news.set()

        return record

    @property
    def me(self) -> rtc.LocalParticipant:
        return self.room.local_participant

    def seen(self, name: str) -> list[tuple[Any, ...]]:
        """What the events of a name carried, in order, since the last `forget`."""
        return [arguments for event, arguments in self._events if event == name]

    def forget(self) -> None:
        """Look at later events only."""
        self._events.clear()

    async def event(self, name: str, matches: Callable[..., bool] = lambda *_: True) -> tuple[Any, ...]:
        """The first event of a name that matches, past or future."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for arguments in self.seen(name):
                    if matches(*arguments):
                        return arguments
                self._news.clear()
                await self._news.wait()

    async def subscribed(self, kind: int, name: str | None = None) -> rtc.RemoteTrack:
        """The track of a kind (and name) that this client receives."""
        _, publication, _ = await self.event(
            "track_subscribed",
            lambda track, publication, _: track.kind == kind and name in (None, publication.name),
        )
        return publication.track

    async def publish_video(
        self,
        *,
        grey: int = 128,
        name: str = "video",
        simulcast: bool = False,
        width: int = WIDTH,
        height: int = HEIGHT,
    ) -> rtc.LocalTrackPublication:
        """Publish a picture of one grey, at 25 fps until the client closes."""
        source = rtc.VideoSource(width, height)
        track = rtc.LocalVideoTrack.create_video_track(name, source)
        frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, bytes([grey]) * (width * height * 3))

        async def feed() -> None:
            try:
                while True:
                    source.capture_frame(frame)
                    await asyncio.sleep(1 / _FPS)
            finally:
                await source.aclose()

        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=simulcast)
        async with asyncio.timeout(TIMEOUT_S):
            publication = await self.me.publish_track(track, options)
        self._feeders.append(asyncio.create_task(feed()))
        return publication

    async def publish_audio(self) -> rtc.LocalTrackPublication:
        """Publish a tone until the client closes."""
        source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=100)
        track = rtc.LocalAudioTrack.create_audio_track("audio", source)
        tone = [round(8_000 * math.sin(2 * math.pi * 500 * n / SAMPLE_RATE)) for n in range(_AUDIO_BLOCK)]
        frame = rtc.AudioFrame(struct.pack(f"<{_AUDIO_BLOCK}h", *tone), SAMPLE_RATE, 1, _AUDIO_BLOCK)

        async def feed() -> None:
            try:
                while True:
                    await source.capture_frame(frame)
            finally:
                await source.aclose()

        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        async with asyncio.timeout(TIMEOUT_S):
            publication = await self.me.publish_track(track, options)
        self._feeders.append(asyncio.create_task(feed()))
        return publication

    async def aclose(self) -> None:
        """Stop publishing and leave."""
        for feeder in self._feeders:
            feeder.cancel()
        await asyncio.gather(*self._feeders, return_exceptions=True)
        async with asyncio.timeout(TIMEOUT_S):
            await self.room.disconnect()


async def frames(track: rtc.RemoteTrack) -> AsyncIterator[rtc.VideoFrame]:
    """Pictures of a track, as RGB."""
    stream = rtc.VideoStream(track, format=rtc.VideoBufferType.RGB24)
    try:
        async for event in stream:
            yield event.frame
    finally:
        await stream.aclose()


async def picture(track: rtc.RemoteTrack, *, grey: int, width: int | None = None) -> rtc.VideoFrame:
    """The first picture of about a grey (and of a width)."""
    async with asyncio.timeout(TIMEOUT_S), aclosing(frames(track)) as pictures:
        async for frame in pictures:
            centre = frame.data[(frame.height // 2 * frame.width + frame.width // 2) * 3]
            if abs(centre - grey) < 12 and width in (None, frame.width):
                return frame
    raise AssertionError("the track ended")


async def loud_samples(track: rtc.RemoteTrack, count: int) -> int:
    """Wait until so many samples with sound in them came; their number."""
    stream = rtc.AudioStream(track, sample_rate=SAMPLE_RATE, num_channels=1)
    loud = 0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async for event in stream:
                samples = memoryview(event.frame.data).cast("B").cast("h")
                loud += sum(abs(sample) > 1_000 for sample in samples)
                if loud >= count:
                    break
    finally:
        await stream.aclose()
    return loud
