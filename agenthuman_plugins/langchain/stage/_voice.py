"""Speech to the avatar of a stage: resampled, sent in time, and followed until it was played. For one link."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.langchain.stage._heard import Transcript
from agenthuman_plugins.langchain.stage._pcm import Resampler
from agenthuman_plugins.speech.link import (
    SPEECH_SAMPLE_RATE,
    AvatarDisconnected,
    LinkLost,
    PlaybackFinished,
    PlaybackStarted,
    SpeechLink,
)

if TYPE_CHECKING:
    from agenthuman_plugins.speech.progress import PlaybackClock, Utterance

_BYTES_PER_S = 2 * SPEECH_SAMPLE_RATE
# What is on the wire cannot be called back, and an interruption comes after it: short pieces, not far ahead.
_PIECE_BYTES = round(0.4 * _BYTES_PER_S)
_AHEAD_S = 2.0
_TICK_S = 0.02  # how exactly `avatar_text` follows what is played
# Silence after an interruption, so that the avatar's last sound and its next one can be told apart.
_GAP_S = 0.08
_SILENCE_LIMIT_S = 4.0  # interrupting takes a link 2 s at most; this is for one that fails to
_REPORT_LIMIT_S = 0.1  # for what a link has told already to be read


@dataclass(eq=False, slots=True)
class Reply:
    """A reply of the agent, and how far it was heard.

    Attributes:
        transcript: Its text and sound.
        position_s: How far the avatar has played it.
        told: The text that `avatar_text` has told to be heard.
        agent_done: Whether `agent_end` has come.
        closed: Whether no more speech of it will come, as far as is known.
        started: Whether `avatar_started` was told, and `avatar_finished` was not since.
        finished: Whether nothing of it is left to be told.
        dropped: Whether it was interrupted, and `avatar_finished` says so or will in a moment.
        kept: Speech that may not have been played, in the stage's rate.
        kept_from: Which byte of the reply's speech that begins with.
        sounds: Its utterances in flight, in order.
    """

    transcript: Transcript
    position_s: float = 0.0
    told: str = ""
    agent_done: bool = False
    closed: bool = False
    started: bool = False
    finished: bool = False
    dropped: bool = False
    kept: bytearray = field(default_factory=bytearray)
    kept_from: int = 0
    sounds: list["Sound"] = field(default_factory=list)

    def unplayed(self, rate: int) -> bytes:
        """Speech that was not played, from the sample at which the avatar is."""
        self.trim(rate)
        return bytes(self.kept)

    def trim(self, rate: int, *, at_least_s: float = 0.0) -> None:
        """Forget what was played, unless that is too little to be worth it."""
        played = 2 * int(self.position_s * rate) - self.kept_from
        if played > 2 * rate * at_least_s:
            del self.kept[:played]
            self.kept_from += played


@dataclass(eq=False, slots=True)
class Sound:
    """One utterance of a reply.

    Attributes:
        reply: The reply.
        begin_s: Second of the reply at which it begins.
        utterance: The utterance, once something of it was sent.
        complete: Whether no more of it will come.
    """

    reply: Reply
    begin_s: float
    utterance: "Utterance | None" = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a link cannot be spoken through any more.

    Attributes:
        reason: For people.
        replaced: Whether another participant joined with our identity: it speaks through the session now.
    """

    reason: str
    replaced: bool = False


class Voice:
    """Speaks replies through one link. What was queued before the link is connected waits for it.

    Args:
        sample_rate: Hz of what is queued.
        on_played: Called when a reply was played further; with whether it just began or rests.
    """

    def __init__(self, sample_rate: int, on_played: Callable[[Reply, bool, float], None]) -> None:
        self._resampler = Resampler(sample_rate)
        self._on_played = on_played
        self._queue: deque[tuple[Sound, bytes | None]] = deque()
        self._changed = asyncio.Event()
        self._clock: PlaybackClock | None = None
        self._link: SpeechLink | None = None
        self._flying: list[Sound] = []
        self._sent = 0  # utterances that the link has numbered
        self._spoken_at = 0.0  # loop's time at which all that was sent will have been spoken
        self._clearing: asyncio.Task[None] | None = None
        self._cut: dict[int, Sound] = {}  # interrupted, and the report of how far it was played has not come
        self._reported = asyncio.Event()

    def prepare(self) -> None:
        """Load what speaking takes; called on a thread, because it takes a while."""
        from agenthuman_plugins.speech import progress  # noqa: F401, PLC0415 - needs NumPy, which only an extra installs

        self._resampler.prepare()

    @property
    def busy(self) -> bool:
        """Whether something waits to be sent, or is on its way through the avatar."""
        return bool(self._queue or self._flying)

    @property
    def replies(self) -> list[Reply]:
        """The replies of which something is in flight, in order."""
        return list(dict.fromkeys(sound.reply for sound in self._flying))

    def speak(self, reply: Reply, pcm: bytes) -> None:
        """Queue speech of a reply."""
        if not reply.sounds or reply.sounds[-1].complete:
            sound = Sound(reply, reply.transcript.seconds)
            reply.sounds.append(sound)
            self._flying.append(sound)
        self._put(reply.sounds[-1], pcm)

    def end(self, reply: Reply) -> None:
        """Queue the end of a reply's speech."""
        if reply.sounds and not reply.sounds[-1].complete:
            reply.sounds[-1].complete = True
            self._put(reply.sounds[-1], None)

    def cut(self) -> "asyncio.Task[None] | None":
        """Drop all speech and make the avatar fall silent; the task is over when it has, `None` if it was silent."""
        self.tick()
        self._cut = {sound.utterance.number: sound for sound in self._flying if sound.utterance is not None}
        for sound in self._flying:
            sound.reply.sounds.clear()
        self._flying.clear()
        self._queue.clear()
        self._resampler.forget()
        self._spoken_at = 0.0
        if self._clock is not None:
            self._clock.interrupt()
        self._changed.set()
        if self._link is None or not self._cut:
            return None
        self._clearing = asyncio.create_task(
            self._clear(self._link, self._clearing), name="interrupt the avatar"
        )
        return self._clearing

    async def run(self, link: SpeechLink) -> Loss:
        """Speak through a connected link until it or its avatar is lost, and return why."""
        from agenthuman_plugins.speech.progress import PlaybackClock  # noqa: PLC0415 - see `prepare`

        self._clock, self._link = PlaybackClock(asyncio.get_running_loop().time), link
        self._sent, self._spoken_at, self._clearing = 0, 0.0, None
        tasks = [
            asyncio.create_task(self._send_all(link), name="speech of a stage"),
            asyncio.create_task(self._follow(link), name="reports of an avatar"),
            asyncio.create_task(self._follow_clock(self._clock), name="playback of a stage"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(task for task in tasks if task.done())
            return await ended
        finally:
            self._link = None
            if self._clearing is not None:
                tasks.append(self._clearing)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def tick(self) -> None:
        """Note how far the avatar has played."""
        for heard in self._clock.tick() if self._clock is not None else ():
            sound = next((sound for sound in self._flying if sound.utterance is heard.utterance), None)
            if sound is None:
                continue
            reply = sound.reply
            reply.position_s = max(reply.position_s, sound.begin_s + heard.position_s)
            if heard.finished and sound.complete and not self._is_queued(sound):
                self._flying.remove(sound)
                reply.sounds.remove(sound)
            elif heard.finished:  # the avatar was away for a moment: the rest becomes another utterance
                sound.begin_s += heard.utterance.duration_s
                sound.utterance = None
            self._on_played(reply, heard.first, 0.0 if self._is_queued(sound) else heard.starved_s)

    def _put(self, sound: Sound, pcm: bytes | None) -> None:
        self._queue.append((sound, pcm))
        self._changed.set()

    def _is_queued(self, sound: Sound) -> bool:
        return any(queued is sound for queued, _ in self._queue)

    async def _clear(self, link: SpeechLink, before: "asyncio.Task[None] | None") -> None:
        self._reported.clear()
        try:
            async with asyncio.timeout(_SILENCE_LIMIT_S):
                await link.interrupt()
        except TimeoutError:
            raise SpeechLinkError("The avatar could not be interrupted.") from None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPORT_LIMIT_S):
                await self._reported.wait()
        if before is not None:
            await asyncio.wait([before])

    async def _send_all(self, link: SpeechLink) -> Loss:
        try:
            while True:
                sound, pcm = await self._next()
                ready = self._resampler.flush() if pcm is None else self._resampler.take(pcm)
                for at in range(0, len(ready), _PIECE_BYTES):
                    await self._until_due()
                    if sound not in self._flying:
                        break  # interrupted meanwhile
                    await self._send(link, sound, ready[at : at + _PIECE_BYTES])
                if pcm is None and sound in self._flying:
                    await self._end(link, sound)
        except SpeechLinkError as error:
            return Loss(str(error))

    async def _next(self) -> tuple[Sound, bytes | None]:
        while True:
            await self._until_due()
            if self._queue:
                return self._queue.popleft()
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, link: SpeechLink, sound: Sound, pcm: bytes) -> None:
        from agenthuman_plugins.speech.progress import Utterance  # noqa: PLC0415 - see `prepare`

        now, seconds = asyncio.get_running_loop().time(), len(pcm) / _BYTES_PER_S
        utterance = sound.utterance
        if utterance is None:
            # Numbered ahead of the link's answer: the report of its start can overtake that.
            self._sent += 1
            utterance = sound.utterance = Utterance(number=self._sent, sent_at=now, sent_s=0.0)
            self._playing().expect(utterance)
        utterance.measure(pcm, SPEECH_SAMPLE_RATE)
        utterance.duration_s += seconds
        self._spoken_at = max(self._spoken_at, now) + seconds
        number = await link.send(pcm)
        # An utterance that the link has over before its end, as the avatar was away for a moment, shifts its count.
        self._sent = max(self._sent, number)
        utterance.sent_s += seconds

    async def _end(self, link: SpeechLink, sound: Sound) -> None:
        if sound.utterance is None:  # no whole sample
            self._flying.remove(sound)
            sound.reply.sounds.remove(sound)
            self._on_played(sound.reply, False, 0.0)
            return
        await link.end_utterance()
        sound.utterance.sent_s, sound.utterance.complete = math.inf, True

    async def _until_due(self) -> None:
        """Wait until speech may leave: not while the avatar is being silenced, and not far ahead."""
        while True:
            if (clearing := self._clearing) is not None:
                await clearing
                if clearing is self._clearing:
                    self._clearing = None
                await asyncio.sleep(_GAP_S)
                continue
            self._changed.clear()
            early_s = self._spoken_at - asyncio.get_running_loop().time() - _AHEAD_S
            if early_s <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(early_s):
                    await self._changed.wait()

    async def _follow(self, link: SpeechLink) -> Loss:
        async for event in link.events():
            match event:
                case PlaybackStarted(number):
                    self._playing().started(number)
                    self.tick()
                case PlaybackFinished():
                    self._note_cut(event)
                    self._playing().ended(event.utterance)
                    self.tick()
                case AvatarDisconnected(reason):
                    return Loss(reason)
                case LinkLost(reason):
                    return Loss(reason, replaced=event.replaced)
                case _:
                    pass
        return Loss("The connection was closed.")

    def _note_cut(self, event: PlaybackFinished) -> None:
        """How far the avatar really came before it was interrupted, where it tells."""
        if (sound := self._cut.pop(event.utterance, None)) is not None and not event.estimated:
            sound.reply.position_s = sound.begin_s + event.position_s
        if not self._cut:
            self._reported.set()

    async def _follow_clock(self, clock: "PlaybackClock") -> Loss:
        while True:
            await clock.busy.wait()
            self.tick()
            await asyncio.sleep(_TICK_S)

    def _playing(self) -> "PlaybackClock":
        assert self._clock is not None  # noqa: S101 - set by `run`
        return self._clock
