"""An avatar in this process: for tests, and for a demo on a machine without a usable network.

It is a whole `SpeechLink` with a simple avatar behind it that plays in real time, reports playback like a real
one, and can be told to misbehave.
"""

import array
import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.speech._base import LinkBase
from agenthuman_plugins.speech._feed import Feed
from agenthuman_plugins.speech._utterances import Utterances
from agenthuman_plugins.speech.link import (
    SPEECH_SAMPLE_RATE,
    AvatarAudio,
    AvatarConnected,
    AvatarDisconnected,
    AvatarVideo,
)
from agenthuman_plugins.speech.playout import Finished, Playout, Started


class Draw(Protocol):
    """Draws the avatar."""

    def __call__(self, pcm_block: bytes, t_s: float, /) -> bytes:
        """Return the picture (RGB, row by row) for one block of 16 kHz speech, `t_s` seconds after the start."""


class InProcessSpeechLink(LinkBase):
    """A `SpeechLink` to an avatar in this process.

    Its time is counted in blocks of `1 / fps` seconds. They are played at real-time pace, or, with
    `paced=False`, only by `step`: then a test decides what has happened when.

    Example:
        ```python
        link = InProcessSpeechLink(paced=False)  # for tests: no server, no clock
        await link.connect(timeout_s=1)
        ```

    Args:
        draw: Draws the frames, on a thread; by default a plain one whose brightness follows the sound.
        width: Pixels of a frame.
        height: Pixels of a frame.
        fps: Blocks, and so frames, per second.
        audio_sample_rate: Hz of the voice to deliver.
        connect_delay_s: How long the avatar takes to appear.
        paced: Whether blocks are played by a task, one after the other, at the right times.
        clock: Seconds, for the pace.
        sleep: Waits, for the pace.
        voice: Whether the avatar delivers audio at all.
        media_delay_s: How late voice and video arrive, in whole blocks.
        reports_starts: Whether the avatar reports that it begins to play.
        reports_per_utterance: How often the avatar reports an utterance's end: 0 never, 2 twice.
        report_delay_s: How late it reports that.
    """

    def __init__(
        self,
        *,
        draw: Draw | None = None,
        width: int = 64,
        height: int = 48,
        fps: int = 25,
        audio_sample_rate: int = SPEECH_SAMPLE_RATE,
        connect_delay_s: float = 0.0,
        paced: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        voice: bool = True,
        media_delay_s: float = 0.0,
        reports_starts: bool = True,
        reports_per_utterance: int = 1,
        report_delay_s: float = 0.0,
    ) -> None:
        if SPEECH_SAMPLE_RATE % fps or audio_sample_rate % fps:
            raise ValueError(
                f"A block of 1/{fps} s must be a whole number of samples, also at {audio_sample_rate} Hz."
            )
        self._draw = draw
        self._width = width
        self._height = height
        self._block_s = 1 / fps
        self._block_samples = SPEECH_SAMPLE_RATE // fps
        self._audio_sample_rate = audio_sample_rate
        self._connect_delay_s = connect_delay_s
        self._paced = paced
        self._clock = clock
        self._sleep = sleep
        self._voice = voice
        self._under_way: deque[tuple[AvatarAudio | None, AvatarVideo]] = deque()
        self._delay_blocks = round(media_delay_s * fps)
        self._reports_starts = reports_starts
        self._reports_per_utterance = reports_per_utterance
        self._report_delay_s = report_delay_s
        self._blocks = 0
        self._last_sample = 0  # of the block before, for the resampling
        self._playout = Playout(SPEECH_SAMPLE_RATE)
        self._utterances = Utterances(lambda: self._blocks * self._block_s)
        super().__init__(self._utterances, alarm=False)  # each block looks at the time
        self._late_reports: deque[tuple[float, Finished]] = deque()
        self._avatar_here = False
        self._player: asyncio.Task[None] | None = None
        self._audio: Feed[AvatarAudio] = Feed(held=fps)  # one second
        self._video: Feed[AvatarVideo] = Feed(held=1)

    async def send(self, pcm: bytes) -> int:
        """Send speech and return the number of its utterance; see `SpeechLink.send`."""
        if not self._avatar_here:
            raise SpeechLinkError(self._gone or "The avatar is not here.", retryable=self._gone is None)
        number = self._utterances.open()
        self._utterances.push(number, len(pcm))
        self._playout.push(pcm)
        return number

    async def end_utterance(self) -> None:
        """Mark the end of the open utterance."""
        self._utterances.end()
        self._playout.end()

    async def interrupt(self) -> None:
        """Make the avatar drop what it has; see `SpeechLink.interrupt`."""
        if self._utterances.cut():
            finished = self._playout.clear()
            if finished is None:
                self._report(self._utterances.clear_failed())  # nothing was heard: no report will come
            else:
                self._finished(finished)
                self._utterances.clear_confirmed()  # all that an avatar without reports says
        await self._until_cleared()

    def audio(self) -> Feed[AvatarAudio]:
        """The avatar's voice, silence included; one second of it waits for a slow reader."""
        return self._audio

    def video(self) -> Feed[AvatarVideo]:
        """The avatar's picture; a slow reader gets the newest one."""
        return self._video

    async def step(self) -> None:
        """Play one block: what its turn is of the speech, else silence."""
        pcm, reports = self._playout.take(self._block_samples)
        at_s = self._blocks * self._block_s
        if self._reports_starts and any(isinstance(report, Started) for report in reports):
            self._report(self._utterances.started())
        voice = AvatarAudio(self._at_audio_rate(pcm), self._audio_sample_rate) if self._voice else None
        if self._avatar_here and voice is not None and not self._delay_blocks:
            self._audio.put(voice)
        self._blocks += 1
        for report in reports:
            if isinstance(report, Finished):
                self._finished(report)
        while self._late_reports and self._late_reports[0][0] <= self._blocks * self._block_s:
            self._take_report(self._late_reports.popleft()[1])
        self._expire()
        if self._avatar_here:
            rgb = await asyncio.to_thread(self._draw, pcm, at_s) if self._draw else self._plain_picture(pcm)
            self._deliver(voice, AvatarVideo(rgb, self._width, self._height, round(at_s * 1e6)))
        await asyncio.sleep(0)  # whoever reads or waits gets a turn, also when a test steps in a loop

    def appear(self) -> None:
        """Let the avatar be there, the first time or again after `disappear`."""
        self._avatar_here = True
        self._events.put(AvatarConnected())

    def disappear(self, reason: str = "The avatar left the room.") -> None:
        """Let the avatar leave in the middle of whatever it does; the link stands."""
        self._avatar_here = False
        self._playout.clear()
        self._report(self._utterances.abandon())
        self._events.put(AvatarDisconnected(reason))

    def restart(self) -> None:
        """Let the avatar lose what it has and be back at once, like a worker that connects once more."""
        self._playout.clear()
        self._report(self._utterances.abandon())

    def crash(self, reason: str = "The room was lost.") -> None:
        """Lose the connection for good."""
        self._close(reason, lost=True)

    async def _open(self, timeout_s: float) -> SpeechLinkError | None:
        """Wait for the avatar, which takes `connect_delay_s`."""
        await self._sleep(min(self._connect_delay_s, timeout_s))
        if self._connect_delay_s > timeout_s:
            return SpeechLinkError(f"The avatar did not appear within {timeout_s:g} s.", retryable=True)
        self.appear()
        if self._paced:
            self._player = asyncio.create_task(self._play(), name="in-process avatar")
        return None

    def _close(self, reason: str, *, lost: bool = False, replaced: bool = False) -> asyncio.Task[None]:
        self._avatar_here = False
        self._audio.close()
        self._video.close()
        if self._player is not None:
            self._player.cancel()
        return super()._close(reason, lost=lost, replaced=replaced)

    async def _free(self) -> None:
        if self._player is not None:
            await asyncio.wait([self._player])

    async def _play(self) -> None:
        """Play block after block on an absolute schedule, so that delays do not add up."""
        start_s = self._clock() - self._blocks * self._block_s
        try:
            while True:
                await self.step()
                await self._sleep(max(0.0, start_s + self._blocks * self._block_s - self._clock()))
        except Exception as error:  # noqa: BLE001 - whatever a drawing raises, the link must not just stand still
            self.crash(f"The avatar failed: {error!r}")

    def _deliver(self, voice: AvatarAudio | None, picture: AvatarVideo) -> None:
        if not self._delay_blocks:
            self._video.put(picture)
            return
        self._under_way.append((voice, picture))
        if len(self._under_way) > self._delay_blocks:
            voice, picture = self._under_way.popleft()
            if voice is not None:
                self._audio.put(voice)
            self._video.put(picture)

    def _finished(self, finished: Finished) -> None:
        """Report an end as often and as late as told."""
        for _ in range(self._reports_per_utterance):
            if self._report_delay_s:
                self._late_reports.append((self._blocks * self._block_s + self._report_delay_s, finished))
            else:
                self._take_report(finished)

    def _take_report(self, finished: Finished) -> None:
        self._report(self._utterances.finished(finished.position_s, interrupted=finished.interrupted))

    def _at_audio_rate(self, pcm: bytes) -> bytes:
        """The block at the rate to deliver, by linear interpolation from the last sample of the block before."""
        if self._audio_sample_rate == SPEECH_SAMPLE_RATE:
            return pcm
        samples = [self._last_sample, *memoryview(pcm).cast("h")]
        self._last_sample = samples[-1]
        ratio = SPEECH_SAMPLE_RATE / self._audio_sample_rate
        resampled = array.array("h")
        for i in range(round(self._audio_sample_rate * self._block_s)):
            k, between = divmod(i * ratio, 1.0)
            left, right = samples[int(k) : int(k) + 2]
            resampled.append(round(left + (right - left) * between))
        return resampled.tobytes()

    def _plain_picture(self, pcm: bytes) -> bytes:
        loudest = max(map(abs, memoryview(pcm).cast("h")))
        grey = 32 + loudest * 223 // 32_768
        return bytes([grey]) * (3 * self._width * self._height)
