"""What one browser is sent: the avatar's picture and voice, with time stamps of one clock."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from agenthuman_plugins.speech._feed import Feed

VOICE_RATE = 48_000  # Hz, what Opus works on: nothing is resampled
VOICE_FRAME_MS = 20  # what the encoder packs
VOICE_FRAME_SAMPLES = VOICE_RATE * VOICE_FRAME_MS // 1000

_VIDEO_CLOCK = 90_000  # Hz, of video in RTP
_VOICE_HELD = 10  # frames that wait for a slow encoder; more would be heard late from then on
_JUMP_S = (
    0.5  # of silence on the wire: the voice was interrupted and goes on; less is a hiccup of this machine
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        i420: Its three planes, one after the other.
        width: Pixels.
        height: Pixels.
        at_s: When it is shown, on the event loop's clock.
    """

    i420: memoryview
    width: int
    height: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Sound:
    """`VOICE_FRAME_MS` of voice.

    Attributes:
        pcm: Signed 16-bit samples, mono, at `VOICE_RATE`.
        at_s: When it came, on the event loop's clock.
    """

    pcm: bytes
    at_s: float


class PictureTrack(MediaStreamTrack):
    """The newest picture, whenever the encoder is ready for it."""

    kind = "video"

    def __init__(self, began_s: float) -> None:
        super().__init__()
        self._began_s = began_s
        self._pictures: Feed[Picture] = Feed(held=1)
        self.put: Callable[[Picture], None] = self._pictures.put

    async def recv(self) -> VideoFrame:
        """Return the next picture."""
        picture = await _next(self._pictures)
        frame = to_frame(picture)
        frame.pts = round((picture.at_s - self._began_s) * _VIDEO_CLOCK)
        frame.time_base = Fraction(1, _VIDEO_CLOCK)
        return frame

    def stop(self) -> None:
        """End the track."""
        super().stop()
        self._pictures.close()


class VoiceTrack(MediaStreamTrack):
    """The voice, without a gap in its time stamps while it comes without one."""

    kind = "audio"

    def __init__(self, began_s: float) -> None:
        super().__init__()
        self._began_s = began_s
        self._sounds: Feed[Sound] = Feed(held=_VOICE_HELD)
        self._next_pts = 0
        self.put: Callable[[Sound], None] = self._sounds.put

    async def recv(self) -> AudioFrame:
        """Return the next 20 ms."""
        sound = await _next(self._sounds)
        pts = round((sound.at_s - self._began_s) * VOICE_RATE)
        if pts - self._next_pts < _JUMP_S * VOICE_RATE:
            pts = self._next_pts  # pieces come unevenly, and yet one is the end of the other
        frame = AudioFrame(format="s16", layout="mono", samples=len(sound.pcm) // 2)
        frame.planes[0].update(sound.pcm)
        frame.sample_rate = VOICE_RATE
        frame.pts = pts
        frame.time_base = Fraction(1, VOICE_RATE)
        self._next_pts = pts + frame.samples
        return frame

    def stop(self) -> None:
        """End the track."""
        super().stop()
        self._sounds.close()


def to_frame(picture: Picture) -> VideoFrame:
    """Return a frame of a picture's planes as they are: no colour is converted."""
    width, height = picture.width, picture.height
    frame = VideoFrame(width, height, "yuv420p")
    planes = np.frombuffer(picture.i420, np.uint8)
    at = 0
    for plane, halved in zip(frame.planes, (1, 2, 2), strict=True):
        columns, rows = -(-width // halved), -(-height // halved)
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        lines[:rows, :columns] = planes[at : at + rows * columns].reshape(rows, columns)
        at += rows * columns
    return frame


async def _next(feed: Feed[Any]) -> Any:
    try:
        return await anext(feed)
    except StopAsyncIteration:
        raise MediaStreamError from None
