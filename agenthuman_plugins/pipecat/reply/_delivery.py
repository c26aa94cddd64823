"""Delivers the bot's speech through the avatar, and everything else in its place around it."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from loguru import logger
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    PipelineFlushFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.pipecat._compat import copy_interruptible, is_interruptible
from agenthuman_plugins.pipecat._frames import SpeechHeldFrame
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

# For how long the TTS has sent nothing, while all that it had sent was played:
_SILENT_S = 0.3  # what followed it leaves; no more silence is pushed, so that a transport counts the pause
_REST_S = 3.0  # the bot counts as silent, as with Pipecat's transports, and nothing waits for it any more
_STARVED_END_S = 10.0  # the reply is over: the TTS has sent no end
_NS = 1_000_000_000
_ON_THE_WAY_NS = _NS // 2  # the longest that speech can take from the TTS to here, on a busy machine
_HELD_EVERY_S = 1.0  # Pipecat gives a flush up after 5 s in which no frame has reached its end


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
        # Contexts whose start has left and whose stop has not, and where their voice goes.
        self._started: dict[str | None, str | None] = {}
        self._announced = False  # whether the TTS sent a start for the present reply
        self._interrupted: Utterance | None = None  # the reply that the TTS was speaking
        self._silent_since = 0.0  # wall-clock time at which the last reply was over
        self._showing: asyncio.Task[None] | None = None
        self._fed_at = 0.0  # when the TTS last said anything
        self._last_word_ns = 0  # of the TTS's words
        self._last_pts_ns = 0  # of what has left

    @property
    def idle(self) -> bool:
        """Whether no speech is in flight, and none is being made."""
        if self._timeline.empty and self._utterance is None:
            return True
        # A TTS may announce a reply and make nothing of it.
        return not self._timeline.unplayed_s and _now() - self._fed_at > _STARVED_END_S

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
        """Whether the TTS, or the model that speaks, made this for a reply that was interrupted.

        That happens when the interruption comes from further down, or overtakes the frames on their way. Models
        give their speech no context: without a start of its own it is the rest of what was interrupted.
        """
        if self._interrupted is None or isinstance(frame, TTSStartedFrame | TTSStoppedFrame):
            return False  # stops without a start are sorted out where they are taken
        context_id = getattr(frame, "context_id", None)
        if context_id is None and not isinstance(frame, TTSAudioRawFrame | TTSTextFrame):
            return False
        return context_id == self._interrupted.context_id and is_interruptible(frame)

    async def take_speech(self, frame: TTSAudioRawFrame) -> bool:
        """Take speech; `False` if there was none in it."""
        async with self._order:
            frame.audio = self._samples.take(frame.audio, frame.num_channels)
            if not frame.audio:
                return False  # nothing that could ever be played, so nothing may wait for it
            self._fed_at = _now()
            frame.num_frames = len(frame.audio) // (2 * frame.num_channels)
            utterance = self._utterance or await self._begin_unannounced(frame)
            if self._plain:
                if not self._timeline.add(frame):
                    await self._push(frame)
                return True
            if utterance.duration_s == 0:
                utterance.came_at = time.time()
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
            if isinstance(frame, TTSStartedFrame | TTSTextFrame):
                self._fed_at = _now()
            if isinstance(frame, TTSStartedFrame):
                await self._begin(frame)
                self._announced = True
            elif isinstance(frame, TTSStoppedFrame):
                await self._end(frame)
            else:
                await self._put(frame)

    async def _begin(self, start: TTSStartedFrame) -> Utterance:
        """Begin a reply, unless a TTS tells once more that the present one has begun."""
        utterance = self._utterance
        if utterance is not None:
            if utterance.context_id == start.context_id is not None:
                return utterance
            await self._end(_stop_of(utterance))  # the TTS has not sent it
        begun = self._begin_utterance(start)
        await self._put(start)
        return begun

    async def _begin_unannounced(self, speech: TTSAudioRawFrame) -> Utterance:
        """Begin a reply that no start came for; who listens gets one, as its stop will come."""
        start = TTSStartedFrame(context_id=speech.context_id)
        start.append_to_context = False  # it has no text, and opens no turn of the assistant
        start.transport_destination = speech.transport_destination
        copy_interruptible(speech, start)
        self._announced = False
        return await self._begin(start)

    async def _end(self, stop: TTSStoppedFrame) -> None:
        """End the reply that a stop belongs to, if it is not over."""
        utterance = self._utterance
        if utterance is None or (
            utterance.context_id != stop.context_id and None not in (utterance.context_id, stop.context_id)
        ):
            logger.trace(f"{self._service}: dropping {stop} of a reply that is over")
            return
        stop.context_id = utterance.context_id
        waits = self._hold(stop)
        await self._end_utterance()
        if not waits:
            await self._push(stop)

    async def _put(self, frame: Frame) -> None:
        """Let a frame wait for its turn, or push it."""
        if not self._hold(frame):
            await self._push(frame)
        elif isinstance(frame, PipelineFlushFrame) and (self._showing is None or self._showing.done()):
            self._showing = self._service.create_task(self._show_that_frames_are_held(), "held frames")

    async def _show_that_frames_are_held(self) -> None:
        """Let a frame reach the end of the pipeline now and then, or a flush that waits for speech is given up."""
        while not self.played_out.is_set():
            await self._service.push_frame(SpeechHeldFrame())
            with suppress(TimeoutError):
                async with asyncio.timeout(_HELD_EVERY_S):
                    await self.played_out.wait()

    async def cancel(self) -> None:
        """Stop what runs besides; nothing is waited for any more."""
        if self._showing is not None:
            await self._service.cancel_task(self._showing)

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
            self._timeline.settle(utterance, _length_of)
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

    def _begin_utterance(self, start: TTSStartedFrame) -> Utterance:
        self._utterance = Utterance(start.context_id, start.transport_destination)
        # Plain audio comes faster than it is heard: behind it the avatar's lips would be ahead of its voice.
        self._plain = not self._avatar_expected() or (self._plain and self.transport_speaks)
        if self._interrupted is not None and self._interrupted.context_id in (None, start.context_id):
            self._interrupted = None  # begun anew
        return self._utterance

    async def end_utterance(self) -> None:
        """Note that no more speech will come for now."""
        async with self._order:
            if self._utterance is not None:
                await self._end(_stop_of(self._utterance))

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
            self._timeline.settle(utterance, _length_of)
            self.speaker.speak(utterance, self._resampler.flush())
            self.speaker.end_utterance()
        else:
            await self._release(self._timeline.finish(utterance))  # text without speech waits for nothing
            self._note_played_out()

    async def interrupt(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        """Stop the reply and drop what was not played, unless all of it must be heard."""
        unplayed = list(self._timeline.unplayed_speech())
        to_be_heard = {
            getattr(speech, "context_id", None) for speech in unplayed if not is_interruptible(speech)
        }
        if unplayed and not any(is_interruptible(speech) for speech in unplayed):
            async with self._order:
                self._timeline.discard(is_interruptible)
                await self._service.push_frame(frame, direction)
            return
        # Before the lock: from here on nothing of the old reply gets through.
        audible = self.playback.audible
        self._silence()
        spoken, self._utterance = self._utterance, None
        if spoken is not None and (self._announced or spoken.context_id is not None):
            self._interrupted = spoken
        self._plain, self._last_word_ns = False, 0
        async with self._order:
            await self._service.push_frame(frame, direction)
            for context_id in [started for started in self._started if started not in to_be_heard]:
                await self._push(_stop_of(Utterance(context_id, self._started[context_id])))
            kept = await self._push_unplayed(keep=lambda waiting: not is_interruptible(waiting))
            if spoken is not None and spoken in kept:
                self._utterance, self._interrupted = spoken, None  # the TTS goes on with it
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

    async def _push_unplayed(self, keep: Callable[[Frame], bool]) -> set[Utterance]:
        """Empty the timeline and push what is to be kept, speech from where it stopped, words when it says them.

        Returns:
            The utterances of which speech was kept.
        """
        heard_ns = self._service.get_clock().get_time()
        kept = set()
        for waiting in self._timeline.drain():
            frame, utterance = waiting.frame, waiting.utterance
            if not keep(frame):
                continue
            if utterance.plain_ns is None:
                utterance.plain_ns = heard_ns - round(utterance.position_s * _NS)
            if isinstance(frame, TTSAudioRawFrame):
                _cut_beginning(frame, waiting.played_s)
                if not frame.num_frames:
                    continue
                heard_ns += round(frame.num_frames / frame.sample_rate * _NS)
                self._plain = True
                kept.add(utterance)
            else:
                self._shift_plain(frame, utterance)
            await self._push(frame)
        if self._utterance is not None and self._utterance.plain_ns is None:
            self._utterance.plain_ns = heard_ns - round(self._utterance.duration_s * _NS)
        self.played_out.set()
        return kept

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
            # Speech that has waited for the reply before it does not make the avatar any slower.
            await self._service.start_ttfb_metrics(start_time=max(utterance.came_at, self._silent_since))
            await self._service.stop_ttfb_metrics()
        if heard.first or (heard.voiced and not heard.starved_s):  # for the first time, or again after a rest
            await self._on_audible(True)
        if heard.first:
            await self._tell("on_playback_started", utterance.context_id)
        if heard.pcm and audio is not None and (heard.voiced or heard.starved_s < _SILENT_S):
            await self._push_voice(heard, audio)
        if self._echo is not None:
            await self._echo.said(utterance, math.inf if heard.finished else heard.position_s)
        await self._release(self._timeline.advance(utterance, heard.position_s))
        if heard.finished:
            await self._finish(utterance)
        elif utterance is self._utterance and heard.starved_s > _SILENT_S:
            await self._rest(utterance, heard.starved_s)
        self._note_played_out()  # last: the session may end then, and this with it

    async def _push_voice(self, heard: Heard, audio: AvatarAudio) -> None:
        utterance = heard.utterance
        voice = TTSAudioRawFrame(
            heard.pcm, audio.sample_rate, audio.num_channels, context_id=utterance.context_id
        )
        voice.transport_destination = utterance.destination
        if speech := next(self._timeline.unplayed_speech(), None):
            copy_interruptible(speech, voice)  # or the transport drops what it has of it
        self.pushed_s += voice.num_frames / audio.sample_rate
        await self._service.push_frame(voice)

    async def _rest(self, utterance: Utterance, starved_s: float) -> None:
        """Let ever less wait for a TTS that is silent in mid-reply: it may go on, or may have sent no end."""
        self.speaker.speak(utterance, self._resampler.flush())
        await self._release(self._timeline.advance(utterance, utterance.duration_s, starved=True))
        if starved_s > _REST_S:
            await self._release(self._timeline.finish(utterance))  # also text that came ahead of its speech
            await self._on_audible(False)
        if starved_s > _STARVED_END_S:
            logger.warning(f"{self._service}: the speech stopped without a TTSStoppedFrame")
            await self._end(_stop_of(utterance))

    def _note_played_out(self) -> None:
        if self._timeline.empty:
            self.played_out.set()

    async def _finish(self, utterance: Utterance) -> None:
        self._silent_since = time.time()
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
            self._started[frame.context_id] = frame.transport_destination
        elif isinstance(frame, TTSStoppedFrame):
            self._started.pop(frame.context_id, None)
        if frame.pts is not None:
            # The transport releases by time alone: without this, a frame could overtake the one before it.
            frame.pts = self._last_pts_ns = max(frame.pts, self._last_pts_ns)
        await self._service.push_frame(frame)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _length_of(text: Frame) -> int:
    """How long a text takes to say, compared with others."""
    return len(getattr(text, "text", ""))


def _stop_of(utterance: Utterance) -> TTSStoppedFrame:
    stop = TTSStoppedFrame(context_id=utterance.context_id)
    stop.transport_destination = utterance.destination
    return stop


def _cut_beginning(frame: TTSAudioRawFrame, seconds: float) -> None:
    skipped = min(round(seconds * frame.sample_rate), frame.num_frames)
    frame.audio = frame.audio[skipped * 2 * frame.num_channels :]
    frame.num_frames -= skipped
