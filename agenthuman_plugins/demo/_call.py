"""The browser's call: Pipecat's, with a picture that looks good and keeps in step with the voice."""

import asyncio
import time
from fractions import Fraction
from typing import Any

import aiortc.codecs.vpx
from aiortc import MediaStreamTrack
from av import VideoFrame
from pipecat.frames.frames import OutputAudioRawFrame
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import SmallWebRTCOutputTransport, SmallWebRTCTransport

# aiortc starts at 0.5 Mbit/s, at which a soft background falls into blocks.
aiortc.codecs.vpx.DEFAULT_BITRATE = 2_000_000
aiortc.codecs.vpx.MIN_BITRATE = 1_000_000
aiortc.codecs.vpx.MAX_BITRATE = 3_000_000

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
    """Has a piece of the voice ready while the one before it is being played.

    Pipecat's gives the next one when the last one is over, within 10 ms, or silence is played in between: on a busy
    machine a voice with holes, which is later after each of them.
    """

    _playing: asyncio.Task[bool] | None = None

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Play this piece of sound behind the one before; returns when that one was played, and whether it was."""
        before, self._playing = self._playing, asyncio.create_task(super().write_audio_frame(frame))
        return await before if before is not None else True

    async def cleanup(self) -> None:
        """Free everything, whatever is still being played."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)


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
