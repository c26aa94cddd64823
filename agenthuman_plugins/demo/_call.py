"""The browser's call: Pipecat's, with a picture that looks good, in step with a voice that stops at once."""

import asyncio
import time
from collections import deque
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack
from av import VideoFrame
from pipecat.frames.frames import Frame, InterruptionFrame, OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import (
    RawAudioTrack,
    SmallWebRTCOutputTransport,
    SmallWebRTCTransport,
)

from agenthuman_plugins.pipecat._compat import is_interruptible
from agenthuman_plugins.viewer._bitrates import set_bitrates

set_bitrates()

_CLOCK_RATE = 90_000  # of video in RTP


class Call(SmallWebRTCConnection):
    """A call to one browser."""

    def replace_video_track(self, track: MediaStreamTrack) -> None:
        """Send this picture from now on, stamped anew."""
        super().replace_video_track(_Stamped(track))  # type: ignore[no-untyped-call]


class CallTransport(SmallWebRTCTransport):
    """The call's end in a pipeline."""

    def output(self) -> SmallWebRTCOutputTransport:
        """The processor that sends voice and picture."""
        if self._output is None:
            self._output = _Output(self._client, self._params, name=self._output_name)
        return self._output


class _Output(SmallWebRTCOutputTransport):
    """Has a piece of the voice ready while the one before it is being played, and drops both when it is interrupted.

    Pipecat's gives the next one when the last one is over, within 10 ms, or silence is played in between: on a busy
    machine a voice with holes, which is later after each of them. And it plays what it gave to the end, whoever
    interrupts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._playing: asyncio.Task[bool] | None = None
        self._given: deque[bool] = deque(
            maxlen=2
        )  # pieces that may be playing: whether each may be interrupted

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Do what Pipecat's does; after an interruption, fall silent."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame) and all(self._given):
            _fade_out(self._client._audio_output_track)  # noqa: SLF001 - Pipecat has no public way

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Play this piece of sound behind the one before; returns when that one was played, and whether it was."""
        self._given.append(is_interruptible(frame))
        before, self._playing = self._playing, asyncio.create_task(super().write_audio_frame(frame))
        if before is None:
            return True
        await asyncio.wait([before])
        return not before.cancelled() and before.result()

    async def cleanup(self) -> None:
        """Free everything, whatever is still being played."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)


def _fade_out(track: RawAudioTrack | None) -> None:
    """Drop what a track has not played, but for a moment that ends it without a click."""
    if track is None or not track._chunk_queue:  # noqa: SLF001 - as above
        return
    pcm, _ = track._chunk_queue[0]  # noqa: SLF001
    for _, played in track._chunk_queue:  # noqa: SLF001
        if played is not None:
            played.cancel()
    track._chunk_queue.clear()  # noqa: SLF001
    samples = np.frombuffer(pcm, np.int16)
    faded = (samples * np.linspace(1, 0, len(samples))).astype(np.int16)
    track.add_audio_bytes(faded.tobytes())


class _Stamped(MediaStreamTrack):
    """A picture whose time stamps tell when it was sent.

    Pipecat's tell of 30 pictures a second, however many there are. A browser goes by them when it holds back the
    picture until its voice has passed the jitter buffer.
    """

    kind = "video"

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self._track = track
        self._began = time.monotonic()

    async def recv(self) -> Any:
        """The next picture."""
        picture = await self._track.recv()
        if isinstance(picture, VideoFrame):
            picture.pts = round((time.monotonic() - self._began) * _CLOCK_RATE)
            picture.time_base = Fraction(1, _CLOCK_RATE)
        return picture

    def stop(self) -> None:
        """Stop the track beneath, too."""
        super().stop()
        self._track.stop()
