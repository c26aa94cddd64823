"""The avatar's two tracks: what `AvatarLoop` plays into."""

import cv2
from livekit import rtc

from agenthuman_plugins.emulator.worker._loop import Picture
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

_AUDIO_QUEUE_MS = 50  # a block and a little; all beyond that would be heard after its picture
_VIDEO_BITRATE = 2_000_000  # bit/s; enough up to 1280x960, since little but the head moves


class VoiceTrack:
    """The avatar's voice."""

    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)

    def __init__(self) -> None:
        self._source = rtc.AudioSource(SPEECH_SAMPLE_RATE, 1, queue_size_ms=_AUDIO_QUEUE_MS)
        self.track = rtc.LocalAudioTrack.create_audio_track("avatar_audio", self._source)

    @property
    def queued_s(self) -> float:
        """Seconds that were taken and are not heard yet."""
        return self._source.queued_duration

    async def play(self, pcm: bytes) -> None:
        """Take a block; waits while the queue is full."""
        # Without a time limit: on a busy machine, or one that sleeps, the queue stands still for seconds.
        await self._source.capture_frame(rtc.AudioFrame(pcm, SPEECH_SAMPLE_RATE, 1, len(pcm) // 2))

    def clear(self) -> None:
        """Drop what is not heard yet."""
        self._source.clear_queue()


class PictureTrack:
    """The avatar's picture.

    Args:
        width: Pixels.
        height: Pixels.
        fps: Pictures per second.
    """

    def __init__(self, width: int, height: int, fps: int) -> None:
        self._source = rtc.VideoSource(width, height)
        self.track = rtc.LocalVideoTrack.create_video_track("avatar_video", self._source)
        # Without simulcast and with a bitrate of our own: otherwise the picture comes small and soft at first.
        self.options = rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_CAMERA,
            simulcast=False,
            video_encoding=rtc.VideoEncoding(max_framerate=fps, max_bitrate=_VIDEO_BITRATE),
        )

    def show(self, picture: Picture, timestamp_us: int) -> None:
        """Take a picture."""
        height, width, _ = picture.shape
        # What the encoder works on: nothing is converted again on the way.
        i420 = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
        frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, i420.tobytes())
        self._source.capture_frame(frame, timestamp_us=timestamp_us)
