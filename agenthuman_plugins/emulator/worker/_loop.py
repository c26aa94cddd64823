"""The avatar itself: speech in, picture and voice out in step. Knows no network.

One block of sound and the picture drawn from it leave together, on an absolute schedule, for as long as the
loop runs: an idle avatar sends silence and goes on breathing.
"""

import asyncio
import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agenthuman_plugins.emulator.mouth import SAMPLE_RATE, Mouth, MouthShape
from agenthuman_plugins.speech.playout import Finished, Playout, Started

_MAX_LAG_S = 0.2  # behind by more (the machine slept): go on from here, rather than rush through the backlog

_sleep = asyncio.sleep  # a name of its own for tests that drive the clock

Picture = npt.NDArray[np.uint8]  # (H, W, 3), BGR


class Painter(Protocol):
    """Draws the avatar; `Face` is one."""

    def draw(self, t_s: float, shape: MouthShape) -> Picture:
        """Draw the picture at a time; called in a thread."""


class AudioSink(Protocol):
    """Where the voice goes."""

    @property
    def queued_s(self) -> float:
        """Seconds that were taken and are not heard yet."""

    async def play(self, pcm: bytes) -> None:
        """Take a block (16 kHz, mono, signed 16-bit); waits while the queue is full."""

    def clear(self) -> None:
        """Drop what is not heard yet."""


class VideoSink(Protocol):
    """Where the picture goes."""

    def show(self, picture: Picture, timestamp_us: int) -> None:
        """Take a picture; the timestamp counts microseconds of media from the first one."""


class PlaybackListener(Protocol):
    """Who wants to know what was played. Must not block."""

    def playback_started(self) -> None:
        """The first sample of an utterance is about to be played."""

    def playback_finished(self, position_s: float, *, interrupted: bool) -> None:
        """The utterance is over; `position_s` seconds of it were heard."""


class AvatarLoop:
    """Plays speech as sound and as a moving face.

    Args:
        painter: Draws the pictures.
        audio: Takes the voice.
        video: Takes the pictures.
        listener: Hears of every utterance that was played.
        fps: Pictures per second; a block of speech is as long as a picture.
    """

    def __init__(
        self,
        painter: Painter,
        audio: AudioSink,
        video: VideoSink,
        listener: PlaybackListener,
        *,
        fps: int = 25,
    ) -> None:
        self._painter = painter
        self._audio = audio
        self._video = video
        self._listener = listener
        self._fps = fps
        self._block_samples = SAMPLE_RATE // fps
        self._playout = Playout(SAMPLE_RATE)
        self._mouth = Mouth(self._block_samples)
        self._blocks = 0
        self._clears = 0
        self._unheard_s = 0.0  # speech that was taken from the playout and not handed to the sink yet
        self._finishing: Finished | None = None  # reported once its last block is with the sink

    def push(self, pcm: bytes) -> None:
        """Add speech (16 kHz, mono, signed 16-bit)."""
        self._playout.push(pcm)

    def end(self) -> None:
        """Mark the end of the utterance."""
        self._playout.end()

    def clear(self) -> None:
        """Fall silent and close the mouth, now; an utterance that was playing is reported as interrupted."""
        self._clears += 1
        finished = self._playout.clear() or self._finishing
        queued_s = self._audio.queued_s
        self._audio.clear()
        self._mouth.close()
        if finished:
            heard_s = finished.position_s - self._unheard_s - queued_s
            self._listener.playback_finished(max(0.0, heard_s), interrupted=True)
        self._finishing, self._unheard_s = None, 0.0

    async def run(self) -> None:
        """Play until cancelled."""
        start = time.monotonic() - self._blocks / self._fps
        while True:
            await self.step()
            ahead = start + self._blocks / self._fps - time.monotonic()
            if ahead < -_MAX_LAG_S:
                start -= ahead
            await _sleep(max(0.0, ahead))

    async def step(self) -> None:
        """Play one block: its picture, then its sound."""
        t_s = self._blocks / self._fps
        self._blocks += 1
        clears = self._clears
        pcm, reports = self._playout.take(self._block_samples)
        for report in reports:
            if isinstance(report, Started):
                self._listener.playback_started()
            else:
                self._finishing = report
        if self._playout.playing or reports:
            self._unheard_s = 1 / self._fps
        picture = await self._draw(t_s, pcm)
        if clears != self._clears:
            # Cleared while drawing: nothing of that block may be seen or heard.
            pcm = bytes(len(pcm))
            picture = await self._draw(t_s, pcm)
        self._video.show(picture, round(t_s * 1_000_000))
        self._unheard_s = 0.0
        await self._audio.play(pcm)
        if self._finishing:
            finishing, self._finishing = self._finishing, None
            self._listener.playback_finished(finishing.position_s, interrupted=False)

    async def _draw(self, t_s: float, pcm: bytes) -> Picture:
        shape = self._mouth.update(np.frombuffer(pcm, dtype="<i2"))
        # Several milliseconds at large sizes; the loop must stay free for speech that comes in.
        return await asyncio.to_thread(self._painter.draw, t_s, shape)
