"""Delivers the bot's speech through the avatar, and everything else in its place around it."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from loguru import logger
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.pipecat._compat import is_interruptible
from agenthuman_plugins.pipecat.picture._curtain import Curtain
from agenthuman_plugins.pipecat.reply._echo import Echo
from agenthuman_plugins.pipecat.reply._resampler import SpeechResampler, WholeSamples
from agenthuman_plugins.pipecat.reply._speaker import Speaker
from agenthuman_plugins.speech.link import AvatarAudio
from agenthuman_plugins.speech.progress import (
    END_S,
    Heard,
    Playback,
    Timeline,
    Utterance,
    Waiting,
)

# A reply without an end frame is over when it has been played for that long; Pipecat's transports wait as long.
_STARVED_END_S = 3.0
_NS = 1_000_000_000
_ON_THE_WAY_NS = _NS // 2  # the longest that speech can take from the TTS to here, on a busy machine


class Delivery:
    """Speech to the avatar, and what follows it in the pipeline behind it, in order.

    Args:
        service: Pushes the frames and keeps the metrics.
        tell: Calls the service's event handlers.
        on_audible: Called when the avatar begins and when it stops to be heard.
        avatar_expected: Says whether the next utterance is for the avatar; else it passes as plain audio.
        playback: Says how far the avatar has spoken.
        curtain: Is told when speech is cut, and when the avatar has stopped.
        echo: Is told what was said, where the voice does not come back.

    Attributes:
        playback: Says how far the avatar has spoken.
        speaker: Sends the speech.
        transport_speaks: Whether the output transport is playing speech.
        played_out: Set while nothing waits to be played.
        voices_heard: How often the avatar's voice was heard.
        cuts: How often speech in flight was cut.
        pushed_s: Seconds of the avatar's voice that went to the output transport.
    """

    def __init__(
        self,
        service: FrameProcessor,
        *,
        tell: Callable[..., Awaitable[None]],
        on_audible: Callable[[bool], Awaitable[None]],
        avatar_expected: Callable[[], bool],
        playback: Playback,
        curtain: Curtain,
        echo: Echo | None = None,
    ) -> None:
        self._service = service
        self._echo = echo
        self._tell = tell
        self._on_audible = on_audible
        self._avatar_expected = avatar_expected
        self.playback = playback
        self._curtain = curtain
        self.speaker = Speaker(playback, curtain)
        self.transport_speaks = False
        self.played_out = asyncio.Event()
        self.played_out.set()
        self.voices_heard = 0
        self.cuts = 0
        self.pushed_s = 0.0

        self._timeline: Timeline[Frame] = Timeline()
        self._samples = WholeSamples()
        self._resampler = SpeechResampler()
        # Held while frames are sorted and pushed, so that none overtakes another.
        self._order = asyncio.Lock()
        self._utterance: Utterance | None = None  # the one that the TTS is speaking
        self._plain = False  # whether that one, or the one before it, passes as plain audio
        self._started: dict[str | None, None] = {}  # contexts whose start has left, and whose stop has not
        self._interrupted_context_id: str | None = None  # the one that the TTS was speaking
        self._unended_context_id: str | None = None  # the one that we ended in the TTS's place
        self._last_word_ns = 0  # of the TTS's words
        self._last_pts_ns = 0  # of what has left

    @property
    def idle(self) -> bool:
        """Whether no speech is in flight, and none is being made."""
        return self._timeline.empty and self._utterance is None

    @property
    def plain(self) -> bool:
        """Whether speech is passing as plain audio, or is still being heard as that."""
        return self._plain and (self._utterance is not None or self.transport_speaks)

    @property
    def unplayed_s(self) -> float:
        """Seconds of speech that are still to be played."""
        return self._timeline.unplayed_s

    @property
    def at_boundary(self) -> bool:
        """Whether nothing of a reply is on its way through the link."""
        return self.speaker.between_utterances and not self.playback.busy.is_set()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Let no reply begin on its way to the avatar, so that a boundary comes; what is said waits."""
        self.speaker.hold(True)
        try:
            yield
        finally:
            self.speaker.hold(False)

    def use(self, playback: Playback) -> None:
        """Follow a new link; nothing is on its way through it yet."""
        self.playback = self.speaker.playback = playback

    # Frames in

    def is_stale(self, frame: Frame) -> bool:
        """Whether the TTS made this for a reply that is over: interrupted, or ended for want of an end.

        The first happens when the interruption comes from further down, or overtakes the frames on their way.
        """
        context_id = getattr(frame, "context_id", None)
        if context_id is None or isinstance(frame, TTSStartedFrame):
            return False
        if context_id == self._unended_context_id and isinstance(frame, TTSStoppedFrame):
            return True
        return context_id == self._interrupted_context_id and is_interruptible(frame)

    async def take_speech(self, frame: TTSAudioRawFrame) -> bool:
        """Take speech; `False` if there was none in it."""
        async with self._order:
            frame.audio = self._samples.take(frame.audio, frame.num_channels)
            if not frame.audio:
                return False  # nothing that could ever be played, so nothing may wait for it
            frame.num_frames = len(frame.audio) // (2 * frame.num_channels)
            utterance = self._utterance or self._begin_utterance(frame.context_id)
            if self._plain:
                if not self._timeline.add(frame):
                    await self._push(frame)
                return True
            if utterance.duration_s == 0:
                await self._service.start_ttfb_metrics()
            self._begin_time(utterance)
            utterance.measure(frame.audio, frame.sample_rate, frame.num_channels)
            self._timeline.add_speech(frame, utterance, frame.num_frames / frame.sample_rate)
            if self._echo is not None:
                self._echo.add(frame, utterance)
            self.played_out.clear()
            self.speaker.speak(
                utterance, self._resampler.resample(frame.audio, frame.sample_rate, frame.num_channels)
            )
            return True

    async def take(self, frame: Frame) -> None:
        """Take a frame that is no speech: it leaves when what was before it was played."""
        async with self._order:
            if isinstance(frame, TTSStartedFrame):
                await self._end_utterance()
                self._begin_utterance(frame.context_id)
            waits = self._hold(frame)
            if isinstance(frame, TTSStoppedFrame):
                await self._end_utterance()
            if not waits:
                await self._push(frame)

    def _hold(self, frame: Frame) -> bool:
        """Let a frame wait for its turn; `False` if it need not."""
        utterance = self._utterance
        is_text = isinstance(frame, TTSTextFrame)
        if utterance is None or isinstance(frame, TTSStartedFrame | TTSStoppedFrame):
            return self._timeline.add(frame)
        if self._plain:
            self._shift_plain(frame, utterance)
            return self._timeline.add(frame)
        if frame.pts is not None and (is_text or utterance.begun_ns is not None):
            begun_ns = self._begin_time(utterance)
            if is_text:
                self._last_word_ns = frame.pts
                if 0 < begun_ns - frame.pts <= _ON_THE_WAY_NS:
                    # No word is ahead of its speech: by so much later did the speech get here.
                    begun_ns = utterance.begun_ns = frame.pts
            self._timeline.add_at(frame, utterance, max(frame.pts - begun_ns, 0) / _NS)
        elif is_text and (utterance.text_leads or not utterance.duration_s):
            # The text of speech that is yet to come: as much as there is before the next text.
            utterance.text_leads = True
            if utterance.duration_s:
                self._timeline.settle(utterance)
            self._timeline.add_at(frame, utterance, END_S)
        else:
            return self._timeline.add(frame)
        self.played_out.clear()
        return True

    def _begin_time(self, utterance: Utterance) -> int:
        """When the TTS began to count the times of the utterance's words: now, or after the last word."""
        if utterance.begun_ns is None:
            utterance.begun_ns = max(self._service.get_clock().get_time(), self._last_word_ns)
        return utterance.begun_ns

    def _begin_utterance(self, context_id: str | None) -> Utterance:
        self._utterance = Utterance(context_id)
        # Plain audio comes faster than it is heard: behind it the avatar's lips would be ahead of its voice.
        self._plain = not self._avatar_expected() or (self._plain and self.transport_speaks)
        if context_id == self._interrupted_context_id:
            self._interrupted_context_id = None  # begun anew
        self._unended_context_id = None
        return self._utterance

    async def end_utterance(self) -> None:
        """Note that no more speech will come for now."""
        async with self._order:
            await self._end_utterance()

    async def _end_utterance(self) -> None:
        utterance, self._utterance = self._utterance, None
        if self._samples.reset():
            logger.warning(f"{self._service}: the speech ended in the middle of a sample, which is dropped")
        if utterance is None:
            return
        utterance.complete = True
        if self._plain:
            return
        if utterance.duration_s:
            self.speaker.speak(utterance, self._resampler.flush())
            self.speaker.end_utterance()
        else:
            await self._release(self._timeline.finish(utterance))  # text without speech waits for nothing
            self._note_played_out()

    async def interrupt(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        """Stop the reply and drop what was not played, unless all of it must be heard."""
        unplayed = list(self._timeline.unplayed_speech())
        if unplayed and not any(is_interruptible(speech) for speech in unplayed):
            async with self._order:
                self._timeline.discard(is_interruptible)
                await self._service.push_frame(frame, direction)
            return
        # Before the lock: from here on nothing of the old reply gets through.
        audible = self.playback.audible
        self._silence()
        if self._utterance is not None:
            self._interrupted_context_id = self._utterance.context_id
            self._utterance = None
        self._plain, self._last_word_ns = False, 0
        async with self._order:
            await self._service.push_frame(frame, direction)
            if not await self._push_unplayed(keep=lambda waiting: not is_interruptible(waiting)):
                for context_id in list(self._started):
                    await self._push(TTSStoppedFrame(context_id=context_id))
        if audible is not None:
            await self._on_audible(False)
            await self._tell("on_playback_finished", audible.context_id)

    def _silence(self) -> None:
        """Stop the avatar, and forget what it has not been sent."""
        was_in_flight = self.playback.interrupt()
        if was_in_flight:
            self.cuts += 1
            self._curtain.close()
        self.speaker.drop(interrupt=was_in_flight)
        if self._echo is not None:
            self._echo.clear()
        self._resampler.reset()
        self._samples.reset()

    # Frames out

    async def hand_back(self) -> None:
        """Push what the avatar has not played, in order; the reply that is being spoken goes on as plain audio."""
        async with self._order:
            audible = self.playback.audible
            if audible is not None:
                self._timeline.rewind(audible, self.playback.said_s)
            self._silence()
            self._plain = True
            if audible is not None:
                await self._on_audible(False)
            await self._push_unplayed(keep=lambda _: True)
        if audible is not None:
            await self._tell("on_playback_finished", audible.context_id)

    async def _push_unplayed(self, keep: Callable[[Frame], bool]) -> bool:
        """Empty the timeline and push what is to be kept, speech from where it stopped, words when it says them.

        Returns:
            Whether anything was kept.
        """
        heard_ns = self._service.get_clock().get_time()
        any_kept = False
        for waiting in self._timeline.drain():
            frame, utterance = waiting.frame, waiting.utterance
            if not keep(frame):
                continue
            any_kept = True
            if utterance.plain_ns is None:
                utterance.plain_ns = heard_ns - round(utterance.position_s * _NS)
            if isinstance(frame, TTSAudioRawFrame):
                _cut_beginning(frame, waiting.played_s)
                heard_ns += round(frame.num_frames / frame.sample_rate * _NS)
                self._plain = True
            else:
                self._shift_plain(frame, utterance)
            await self._push(frame)
        if self._utterance is not None and self._utterance.plain_ns is None:
            self._utterance.plain_ns = heard_ns - round(self._utterance.duration_s * _NS)
        self.played_out.set()
        return any_kept

    def _shift_plain(self, frame: Frame, utterance: Utterance) -> None:
        """Move the time of a word to where plain audio that was handed back says it."""
        if frame.pts is not None and utterance.begun_ns is not None and utterance.plain_ns is not None:
            frame.pts = utterance.plain_ns + frame.pts - utterance.begun_ns

    async def hear(self, audio: AvatarAudio) -> None:
        """Push the avatar's voice while it speaks, and behind it what was waiting for it."""
        async with self._order:
            for heard in self.playback.hear(audio.pcm, audio.sample_rate, audio.concealed_s):
                await self._take_heard(heard, audio)

    async def tick(self) -> None:
        """Without a voice that comes back: go by the clock."""
        async with self._order:
            for heard in self.playback.tick():
                await self._take_heard(heard, None)

    async def _take_heard(self, heard: Heard, audio: AvatarAudio | None) -> None:
        utterance = heard.utterance
        self.voices_heard += heard.voiced
        if heard.first:
            await self._service.stop_ttfb_metrics()
            await self._on_audible(True)
            await self._tell("on_playback_started", utterance.context_id)
        if heard.pcm and audio is not None:
            voice = TTSAudioRawFrame(
                heard.pcm, audio.sample_rate, audio.num_channels, context_id=utterance.context_id
            )
            speech = next(self._timeline.unplayed_speech(), None)
            if speech is not None and not is_interruptible(speech):
                voice.interruptible = False  # or the transport drops what it has of it
            self.pushed_s += voice.num_frames / audio.sample_rate
            await self._service.push_frame(voice)
        if self._echo is not None:
            await self._echo.said(utterance, math.inf if heard.finished else heard.position_s)
        await self._release(self._timeline.advance(utterance, heard.position_s))
        if heard.finished:
            await self._finish(utterance)
        elif heard.starved_s > _STARVED_END_S and utterance is self._utterance:
            logger.warning(f"{self._service}: the speech stopped without a TTSStoppedFrame")
            self._timeline.add(TTSStoppedFrame(context_id=utterance.context_id))
            await self._end_utterance()
            self._unended_context_id = utterance.context_id
        self._note_played_out()  # last: the session may end then, and this with it

    def _note_played_out(self) -> None:
        if self._timeline.empty:
            self.played_out.set()

    async def _finish(self, utterance: Utterance) -> None:
        await self._release(self._timeline.finish(utterance))
        await self._on_audible(False)
        await self._tell("on_playback_finished", utterance.context_id)

    async def _release(self, due: Iterator[Waiting[Frame]]) -> None:
        """Push frames whose turn has come."""
        for waiting in due:
            # The TTS counts from when it made the speech. Without a time, the transport lets the frame go behind
            # the sound that was pushed before it, however long that takes.
            waiting.frame.pts = None
            await self._push(waiting.frame)

    async def _push(self, frame: Frame) -> None:
        if isinstance(frame, TTSStartedFrame):
            self._started[frame.context_id] = None
        elif isinstance(frame, TTSStoppedFrame):
            self._started.pop(frame.context_id, None)
        if frame.pts is not None:
            # The transport releases by time alone: without this, a frame could overtake the one before it.
            frame.pts = self._last_pts_ns = max(frame.pts, self._last_pts_ns)
        await self._service.push_frame(frame)


def _cut_beginning(frame: TTSAudioRawFrame, seconds: float) -> None:
    skipped = min(round(seconds * frame.sample_rate), frame.num_frames)
    frame.audio = frame.audio[skipped * 2 * frame.num_channels :]
    frame.num_frames -= skipped
