"""The speech link of one session, and whose turn it is to speak over it."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.client.adapters import to_the_end
from agenthuman_plugins.client.redaction import redact
from agenthuman_plugins.speech import (
    SPEECH_SAMPLE_RATE,
    AvatarConnected,
    AvatarDisconnected,
    LinkLost,
    PlaybackFinished,
    SpeechLink,
)
from agenthuman_plugins.speech._feed import Changes

_log = logging.getLogger("agenthuman_plugins.langchain")

_BYTES_PER_SECOND = 2 * SPEECH_SAMPLE_RATE
# What is on the wire cannot be called back: an interruption comes after it. So speech is sent in short pieces, and
# not much sooner than it is played.
_PIECE_BYTES = _BYTES_PER_SECOND // 5
_LEAD_S = 3.0
_CONNECT_LIMIT_S = 20.0
_TURN_LIMIT_S = 180.0  # the longest text takes more than two minutes to speak
_LONGEST_S = 300.0  # of speech; a voice that makes more of 2,000 characters does not come to an end
_PLAYBACK_MARGIN_S = 10.0  # a link reports the end at most 2 s late; this is for one that fails to
_REPORT_LIMIT_S = 0.5  # for what a link has reported already to reach the call
_LOSS_LIMIT_S = 2.0  # for a link to notice that it was lost, after a send has failed
_SILENCE_LIMIT_S = 4.0  # interrupting takes 2 s at most
_HANG_UP_LIMIT_S = 6.0
_TOLERANCE_S = 0.1  # avatars count in steps of this length

HANDED_OVER = "Another worker of this application speaks through this session now. Do not retry."


class SayError(Exception):
    """Raised when a text was not spoken, or not to its end; the message is for the model."""


@dataclass(frozen=True, slots=True, repr=False)
class Wire:
    """How a session is spoken through.

    Attributes:
        session_id: The session.
        make_link: Makes a link, not yet connected. It is called on a thread, since it may load LiveKit.
        one_link: Whether the end of a connection ends the session, as over the gateway. Then it is not connected again.
        advice: What the model can do after a loss.
    """

    session_id: str
    make_link: Callable[[], SpeechLink]
    one_link: bool
    advice: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a text was spoken.

    Attributes:
        seconds: Length of the speech that was made, until it was interrupted.
        seconds_played: How much of it was played.
        interrupted: Whether it was cut short.
    """

    seconds: float
    seconds_played: float
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether all of it was heard."""
        return not self.interrupted and self.seconds_played >= self.seconds - _TOLERANCE_S


class Line:
    """The link of one session, made by the first call. Calls speak in the order in which they came.

    Args:
        wire: How the session is spoken through.
        on_handed_over: Called once, if another participant took our place in the room.

    Attributes:
        wire: The newest one; it makes the next link.
    """

    def __init__(self, wire: Wire, on_handed_over: Callable[["Line"], None]) -> None:
        self.wire = wire
        self._on_handed_over = on_handed_over
        self._calls: deque[_Call] = deque()  # in order of arrival; the first has the turn
        self._changes = Changes()
        self._link: SpeechLink | None = None
        self._reader: asyncio.Task[None] | None = None
        self._finished: dict[int, PlaybackFinished] = {}  # of the call that has the turn
        self._avatar_gone = ""  # why the avatar went away; it may come back
        self._lost = ""  # why the link is of no use any more
        self._over = ""  # why nothing can be spoken any more
        self._failed_last = False

    @property
    def in_doubt(self) -> bool:
        """Whether the link or the avatar was lost, so that the session may have ended."""
        return bool(self._lost or self._avatar_gone or self._failed_last) and not self._over

    async def speak(self, speech: AsyncIterator[bytes]) -> Spoken:
        """Speak in turn, and return when it was played; see `Speech.speak`."""
        said = _Said()
        async with self._turn(speaks=True) as task:
            try:
                return await self._connect_and_speak(speech, said)
            except asyncio.CancelledError:
                if not self._over:
                    raise
                # Hung up or handed over: the caller learns how far it came.
                task.uncancel()
                spoken = await self._outcome(said)
                if self._over == HANDED_OVER and not spoken.complete:
                    raise await self._failed(said, self._over) from None
                return spoken

    async def connect(self) -> None:
        """Connect, unless that is done or under way.

        Raises:
            SayError: It could not; the next call tries again.
        """
        if self._calls or self._over or (self._link is not None and not self._lost):
            return
        async with self._turn(speaks=False):
            try:
                await self._connected()
            except SpeechLinkError as error:
                raise await self._failed(_Said(), str(error)) from None

    async def finish(self) -> None:
        """Wait, within a time limit, until the calls that have come so far have spoken."""
        so_far = [call for call in self._calls if call.speaks]
        await self._changes.within(_TURN_LIMIT_S, lambda: not any(call in self._calls for call in so_far))

    async def hang_up(self, reason: str) -> None:
        """Stop speaking, refuse the calls that wait with a reason, and close the link, within time limits."""
        self._stop(reason)
        # Whoever spoke knows how far it came.
        await self._changes.within(_HANG_UP_LIMIT_S, lambda: not self._calls)
        await self._drop_link()

    def _stop(self, reason: str) -> bool:
        """Refuse every call from now on; whether that was not so already."""
        if self._over:
            return False
        self._over = reason
        self._changes.notify()
        if self._calls and (speaker := self._calls[0].task) is not None:
            speaker.cancel()
        return True

    @contextlib.asynccontextmanager
    async def _turn(self, *, speaks: bool) -> AsyncIterator["asyncio.Task[object]"]:
        call = _Call(speaks)
        self._calls.append(call)
        try:
            if not await self._changes.within(
                _TURN_LIMIT_S, lambda: bool(self._over or call is self._calls[0])
            ):
                raise SayError(
                    "The avatar is still busy with earlier texts, so this was not spoken. Try again later."
                )
            if self._over:
                raise SayError(self._over)
            call.task = asyncio.current_task()
            assert call.task is not None  # noqa: S101 - we are in a coroutine
            yield call.task
        finally:
            self._calls.remove(call)
            self._changes.notify()

    async def _connect_and_speak(self, speech: AsyncIterator[bytes], said: "_Said") -> Spoken:
        try:
            link = await self._connected()
            try:
                await self._speak(link, speech, said)
                return await self._outcome(said)
            except BaseException:
                await to_the_end(lambda: self._silence(link))
                raise
        except SpeechLinkError as error:
            if self._link is not None and not self._avatar_gone:
                # Lost, most likely. The reason, and whether it was handed over, may still be on its way to us.
                await self._changes.within(_LOSS_LIMIT_S, lambda: bool(self._lost))
            raise await self._failed(said, str(error)) from None

    async def _speak(self, link: SpeechLink, speech: AsyncIterator[bytes], said: "_Said") -> None:
        self._finished.clear()
        now = asyncio.get_running_loop().time
        start_s, sent_s = now(), 0.0
        async for pcm in speech:
            said.seconds += len(pcm) / _BYTES_PER_SECOND
            if said.seconds > _LONGEST_S:
                raise SayError(
                    f"The voice did not come to an end within {_LONGEST_S:g} s of speech. Use a shorter text."
                )
            for at in range(0, len(pcm), _PIECE_BYTES):
                piece = pcm[at : at + _PIECE_BYTES]
                await self._send(link, piece, said)
                start_s = max(start_s, now() - sent_s)  # a slow voice must not be caught up with
                sent_s += len(piece) / _BYTES_PER_SECOND
                await asyncio.sleep(start_s + sent_s - _LEAD_S - now())
        if not said.utterance:
            raise SayError("The voice made no sound for this text. Use other words.")
        said.whole = True
        await link.end_utterance()
        if not await self._wait_finished(said, sent_s + _PLAYBACK_MARGIN_S):
            raise SayError("The avatar never finished, so it was stopped. Trying again once may help.")

    async def _send(self, link: SpeechLink, pcm: bytes, said: "_Said") -> None:
        number = await link.send(pcm)
        if said.utterance not in {0, number}:  # the one before is over, without its end
            raise await self._failed(said, "The avatar stopped in the middle of the text.")
        said.utterance = number

    async def _wait_finished(self, said: "_Said", limit_s: float) -> bool:
        return await self._changes.within(
            limit_s, lambda: said.utterance in self._finished or bool(self._lost)
        )

    async def _outcome(self, said: "_Said") -> Spoken:
        finished = await self._finished_by_now(said)
        if finished is not None:
            # What was made of it may all have been heard when the call was cut.
            cut = finished.interrupted or not said.whole
            spoken = Spoken(said.seconds, finished.position_s, interrupted=cut)
            if spoken.complete or spoken.interrupted:
                self._failed_last = False
                return spoken
        raise await self._failed(said, "The avatar stopped in the middle of the text.")

    async def _failed(self, said: "_Said", reason: str) -> SayError:
        """Say what went wrong on the link, how much was heard, and what to do."""
        finished = await self._finished_by_now(said)
        heard = f"Only {finished.position_s:.1f} of {said.seconds:.1f} s were heard. " if finished else ""
        self._failed_last = True
        why = self._over or self._after_a_loss(self._avatar_gone or self._lost or reason)
        if self._link is None and self.wire.one_link:
            self._over = why
        return SayError(f"{heard}{why}")

    async def _finished_by_now(self, said: "_Said") -> PlaybackFinished | None:
        """How an utterance ended that is over; what the link reported of it may still be on its way to us."""
        if said.utterance:
            await self._wait_finished(said, _REPORT_LIMIT_S)
        return self._finished.get(said.utterance)

    async def _connected(self) -> SpeechLink:
        if self._link is not None and not self._lost and not self._over:
            return self._link
        if self._lost and self.wire.one_link:
            self._over = self._over or self._after_a_loss(self._lost)
        await self._drop_link()
        if self._over:
            raise SayError(self._over)
        self._lost = self._avatar_gone = ""
        # On a thread: the first link of a process loads LiveKit's library.
        link = await asyncio.to_thread(self.wire.make_link)
        reader = asyncio.create_task(self._read(link), name="playback of a session")
        try:
            await link.connect(timeout_s=_CONNECT_LIMIT_S)
        except BaseException:
            # The reader comes to its end with the link, and knows whether our place in the room was taken.
            await to_the_end(lambda: _close(link, reader))
            self._lost = self._avatar_gone = ""
            raise
        self._link, self._reader = link, reader
        return link

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        reader, self._reader = self._reader, None
        if link is not None and reader is not None:
            await _close(link, reader)

    async def _read(self, link: SpeechLink) -> None:
        lost = LinkLost("The connection was closed.")
        try:
            async for event in link.events():
                match event:
                    case PlaybackFinished():
                        self._finished[event.utterance] = event
                    case AvatarDisconnected():
                        self._avatar_gone = event.reason
                    case AvatarConnected():
                        self._avatar_gone = ""
                    case LinkLost():
                        lost = event
                self._changes.notify()
        finally:
            self._lost = lost.reason
            self._changes.notify()
        if lost.replaced and self._stop(HANDED_OVER):
            self._on_handed_over(self)

    async def _silence(self, link: SpeechLink) -> None:
        """Silence an utterance; a link that cannot do it is closed."""
        try:
            async with asyncio.timeout(_SILENCE_LIMIT_S):
                await link.interrupt()
        except (SpeechLinkError, TimeoutError):
            self._lost = self._lost or "The avatar could not be interrupted."
            await self._drop_link()

    def _after_a_loss(self, reason: str) -> str:
        return f"{reason.rstrip('. ')}. {self.wire.advice}" if reason else self.wire.advice


@dataclass(eq=False, slots=True)
class _Call:
    """A call on its way through a line."""

    speaks: bool
    task: "asyncio.Task[object] | None" = None  # once it has the turn


@dataclass(slots=True)
class _Said:
    """What a call has sent so far."""

    utterance: int = 0
    seconds: float = 0.0
    whole: bool = False  # whether that is all of it


async def _close(link: SpeechLink, reader: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(_HANG_UP_LIMIT_S):
            await link.aclose()
            await asyncio.wait([reader])
    except (SpeechLinkError, TimeoutError) as error:
        _log.warning("A speech link was not closed cleanly: %s", redact(str(error)) or "no answer")
    reader.cancel()
    await asyncio.wait([reader])
    if not reader.cancelled() and (failure := reader.exception()) is not None:
        _log.error("What happened on a speech link could not be read: %s", type(failure).__name__)
