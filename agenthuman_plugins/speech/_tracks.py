"""The avatar's LiveKit tracks, read into feeds that go on when a track is published again."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine

from livekit import rtc

from agenthuman_plugins.speech._feed import Feed
from agenthuman_plugins.speech._jitter import JitterBuffer
from agenthuman_plugins.speech._rgb import to_rgb
from agenthuman_plugins.speech.link import AvatarAudio, AvatarVideo

_log = logging.getLogger(__name__)

_AUDIO_HELD_S = 1.0  # more would be heard late for the rest of the call
_CLOSE_TIMEOUT_S = 2.0


class AvatarTracks:
    """Reads the newest audio and the newest video track; each has one task.

    Args:
        sample_rate: Hz of the audio to deliver; LiveKit resamples on its own threads.
        frame_ms: Length of the audio pieces to deliver.
    """

    def __init__(self, *, sample_rate: int, frame_ms: int) -> None:
        self.audio: Feed[AvatarAudio] = Feed(held=max(1, round(_AUDIO_HELD_S * 1000 / frame_ms)))
        self._video: Feed[AvatarVideo] = Feed(held=1)  # with the one in `VideoStream` two pictures at most
        self._watched = False
        self._picture: rtc.RemoteVideoTrack | None = None  # the newest
        self._sample_rate = sample_rate
        self._frame_ms = frame_ms
        self._readers: dict[str, asyncio.Task[None]] = {}  # by track sid
        self._tasks: set[asyncio.Task[None]] = set()  # readers, those that are being cancelled included

    def watch(self) -> Feed[AvatarVideo]:
        """The picture, which is converted only from the first call on."""
        self._watched = True
        if self._picture is not None and self._picture.sid not in self._readers:
            self._read(self._picture.sid, "video", self._read_video(self._picture))
        return self._video

    def take(self, track: rtc.Track) -> None:
        """Read a track in place of the one of the same kind."""
        if isinstance(track, rtc.RemoteAudioTrack):
            self._read(track.sid, "audio", self._read_audio(track))
        elif isinstance(track, rtc.RemoteVideoTrack):
            self._picture = track
            if self._watched:
                self._read(track.sid, "video", self._read_video(track))

    def drop(self, sid: str) -> None:
        """Stop reading a track that is gone; an unknown one is none of ours any more."""
        if self._picture is not None and self._picture.sid == sid:
            self._picture = None
        if (task := self._readers.pop(sid, None)) is not None:
            task.cancel()

    async def aclose(self) -> None:
        """Stop reading and end both feeds."""
        self._picture = None
        for sid in list(self._readers):
            self.drop(sid)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_TIMEOUT_S)
        self.audio.close()
        self._video.close()

    def _read(self, sid: str, kind: str, reading: Coroutine[None, None, None]) -> None:
        for other_sid, other in list(self._readers.items()):
            if other.get_name() == kind:
                self.drop(other_sid)
        task = asyncio.create_task(reading, name=kind)
        self._readers[sid] = task
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("Reading the avatar's %s failed: %r", task.get_name(), error)

    async def _read_audio(self, track: rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream(
            track, sample_rate=self._sample_rate, num_channels=1, frame_size_ms=self._frame_ms
        )
        buffer = JitterBuffer(track)
        following = asyncio.create_task(buffer.follow(), name="jitter buffer")
        try:
            async with closing(stream):
                async for event in stream:
                    frame = event.frame
                    pcm = frame.data.tobytes()
                    self.audio.put(
                        AvatarAudio(
                            pcm, frame.sample_rate, frame.num_channels, buffer.delay_s, buffer.concealed_s()
                        )
                    )
        finally:
            following.cancel()
            await asyncio.wait([following], timeout=_CLOSE_TIMEOUT_S)

    async def _read_video(self, track: rtc.RemoteVideoTrack) -> None:
        # LiveKit copies the decoded picture on the event loop, and I420 is half as large as RGB.
        stream = rtc.VideoStream(track, capacity=1, format=rtc.VideoBufferType.I420)
        async with closing(stream):
            async for event in stream:
                frame = event.frame
                rgb = await to_rgb(frame)
                self._video.put(AvatarVideo(rgb, frame.width, frame.height, event.timestamp_us))


@contextlib.asynccontextmanager
async def closing(stream: rtc.AudioStream | rtc.VideoStream) -> AsyncIterator[None]:
    """Close a stream of LiveKit's behind the block, within a time limit."""
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await stream.aclose()
