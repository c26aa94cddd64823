"""The speech link of one session, and whose turn it is to speak over it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.client.adapters import to_the_end
from agenthuman_plugins.client.redaction import redact
from agenthuman_plugins.client.rooms import LiveKitRoom
from agenthuman_plugins.langchain._ledger import Entry
from agenthuman_plugins.langchain._patience import in_time
from agenthuman_plugins.langchain._spoken import SayError, Spoken
from agenthuman_plugins.speech import (
    SPEECH_SAMPLE_RATE,
    AvatarConnected,
    AvatarDisconnected,
    LinkLost,
    PlaybackFinished,
    SpeechLink,
)

_log = logging.getLogger("agenthuman_plugins.langchain")

MakeLink: TypeAlias = Callable[[Entry], SpeechLink]

_BYTES_PER_SECOND = 2 * SPEECH_SAMPLE_RATE
# What is on the wire cannot be called back: an interruption comes after it. So speech is sent in short pieces, and
# not much sooner than it is played.
_PIECE_BYTES = _BYTES_PER_SECOND // 5
_LEAD_S = 3.0
_CONNECT_LIMIT_S = 20.0
_TURN_LIMIT_S = 180.0  # the longest text takes more than two minutes to speak
_LONGEST_S = 300.0  # of speech; a voice that makes more of 2,000 characters does not come to an end
_PLAYBACK_MARGIN_S = 10.0  # a link tells the end by itself at most 2 s late; this is for a link that fails to
_REPORT_LIMIT_S = 0.5  # for what a link has told already to reach the call
_SILENCE_LIMIT_S = 4.0  # interrupting takes 2 s at most
_HANG_UP_LIMIT_S = 6.0


class Line:
    """The link of one session, made by the first call. Calls speak in the order in which they came.

    Args:
        entry: The session.
        make_link: Makes a link, not yet connected. It is called on a thread, since it may load LiveKit.
    """

    def __init__(self, entry: Entry, make_link: MakeLink) -> None:
        self._entry = entry
        self._make_link = make_link
        self._turn = asyncio.Lock()
        self._speaker: asyncio.Task[object] | None = None
        self._link: SpeechLink | None = None
        self._reader: asyncio.Task[None] | None = None
        self._finished: dict[int, PlaybackFinished] = {}  # of the call that has the turn
        self._news = asyncio.Event()  # for the call that has the turn
        self._avatar_gone = ""  # why the avatar went away; it may come back
        self._lost = ""  # why the link is of no use any more
        self._over = ""  # why nothing can be spoken any more
        self._failed_last = False

    @property
    def in_doubt(self) -> bool:
        """Whether the link or the avatar was lost, so that the session may have ended."""
        return bool(self._lost or self._avatar_gone or self._failed_last) and not self._over

    async def speak(self, speech: AsyncIterator[bytes]) -> Spoken:
        """Speak in turn; see `SpeechLinks.speak`."""
        try:
            async with asyncio.timeout(_TURN_LIMIT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise SayError(
                "The avatar is still busy with what it was given before, so this was not spoken. Try again later."
            ) from None
        self._speaker = asyncio.current_task()
        try:
            return await self._connect_and_speak(speech)
        finally:
            self._speaker = None
            self._turn.release()

    async def hang_up(self) -> None:
        """Cut short what is being spoken, refuse what waits, and close the link, within a time limit."""
        self._over = "The session has been ended. Do not retry."
        if self._speaker is not None:
            self._speaker.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HANG_UP_LIMIT_S), self._turn:
                pass  # whoever spoke knows how far it came
        await self._drop_link()

    async def _connect_and_speak(self, speech: AsyncIterator[bytes]) -> Spoken:
        said = _Said()
        try:
            link = await self._connected()
            try:
                await self._speak(link, speech, said)
                return await self._outcome(said)
            except BaseException:
                await to_the_end(lambda: self._silence(link))
                raise
        except SpeechLinkError as error:
            raise await self._failed(said, str(error)) from None
        except asyncio.CancelledError:
            if not self._over:
                raise
            # Hung up: the caller is told how far it came.
            if self._speaker is not None:
                self._speaker.uncancel()
            return await self._outcome(said)

    async def _speak(self, link: SpeechLink, speech: AsyncIterator[bytes], said: "_Said") -> None:
        self._finished.clear()
        now = asyncio.get_running_loop().time
        start_s, sent_s = now(), 0.0
        async for pcm in in_time(speech):
            said.seconds += len(pcm) / _BYTES_PER_SECOND
            if said.seconds > _LONGEST_S:
                raise SayError(f"The voice did not come to an end within {_LONGEST_S:g} s. Say it shorter.")
            for at in range(0, len(pcm), _PIECE_BYTES):
                piece = pcm[at : at + _PIECE_BYTES]
                await self._send(link, piece, said)
                start_s = max(start_s, now() - sent_s)  # a slow voice must not be caught up with
                sent_s += len(piece) / _BYTES_PER_SECOND
                await asyncio.sleep(start_s + sent_s - _LEAD_S - now())
        if not said.utterance:
            raise SayError("The voice made no sound of this text. Say it in other words.")
        await link.end_utterance()
        if not await self._wait_finished(said, sent_s + _PLAYBACK_MARGIN_S):
            raise SayError("The avatar never finished, so it was stopped. Trying again once may help.")

    async def _send(self, link: SpeechLink, pcm: bytes, said: "_Said") -> None:
        number = await link.send(pcm)
        if said.utterance not in {0, number}:  # the one before is over, without its end
            raise await self._failed(said, "The avatar stopped in the middle of the text.")
        said.utterance = number

    async def _wait_finished(self, said: "_Said", limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                while said.utterance not in self._finished and not self._lost:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _outcome(self, said: "_Said") -> Spoken:
        finished = await self._finished_by_now(said)
        if finished is None and self._over:
            raise SayError(self._over)
        played_s = finished.position_s if finished else 0.0
        spoken = Spoken(said.seconds, played_s, interrupted=bool(finished and finished.interrupted))
        if spoken.complete or spoken.interrupted:
            self._failed_last = False
            return spoken
        raise await self._failed(said, "The avatar stopped in the middle of the text.")

    async def _failed(self, said: "_Said", reason: str) -> SayError:
        """Tell what went wrong on the link, how much was heard, and what to do."""
        finished = await self._finished_by_now(said)
        heard = f"Only {finished.position_s:.1f} of {said.seconds:.1f} s were heard. " if finished else ""
        self._failed_last = True
        told = f"{heard}{_sentence(self._avatar_gone or self._lost or reason)}{self._after_a_loss()}"
        if self._link is None and _only_one_link(self._entry):
            self._over = told
        return SayError(told)

    async def _finished_by_now(self, said: "_Said") -> PlaybackFinished | None:
        """How an utterance ended that is over; what the link told of it may still be on its way to us."""
        if said.utterance:
            await self._wait_finished(said, _REPORT_LIMIT_S)
        return self._finished.get(said.utterance)

    async def _connected(self) -> SpeechLink:
        if not self._over and self._link is not None and not self._lost:
            return self._link
        if self._lost and _only_one_link(self._entry):
            self._over = self._over or f"{_sentence(self._lost)}{self._after_a_loss()}"
        await self._drop_link()
        if self._over:
            raise SayError(self._over)
        self._lost = self._avatar_gone = ""
        # On a thread: the first link of a process loads LiveKit's library.
        link = await asyncio.to_thread(self._make_link, self._entry)
        try:
            await link.connect(timeout_s=_CONNECT_LIMIT_S)
        except BaseException:
            await to_the_end(link.aclose)
            raise
        self._link = link
        self._reader = asyncio.create_task(self._read(link), name="playback of a session")
        return link

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        reader, self._reader = self._reader, None
        if link is not None:
            try:
                async with asyncio.timeout(_HANG_UP_LIMIT_S):
                    await link.aclose()
            except (SpeechLinkError, TimeoutError) as error:
                _log.warning("A speech link was not closed in order: %s", redact(str(error)) or "no answer")
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(self, link: SpeechLink) -> None:
        lost = "The connection was closed."
        async for event in link.events():
            match event:
                case PlaybackFinished():
                    self._finished[event.utterance] = event
                case AvatarDisconnected():
                    self._avatar_gone = event.reason
                case AvatarConnected():
                    self._avatar_gone = ""
                case LinkLost():
                    lost = event.reason
            self._news.set()
        self._lost = lost
        self._news.set()

    async def _silence(self, link: SpeechLink) -> None:
        """Let nothing of an utterance go on being spoken; a link that cannot is closed."""
        try:
            async with asyncio.timeout(_SILENCE_LIMIT_S):
                await link.interrupt()
        except (SpeechLinkError, TimeoutError):
            self._lost = self._lost or "The avatar could not be interrupted."
            await self._drop_link()

    def _after_a_loss(self) -> str:
        if _only_one_link(self._entry):
            return "The session ended with its connection: open a new one if the avatar is still needed."
        return "Trying again once may help; if it fails again, end the session."


@dataclass(slots=True)
class _Said:
    """What a call has sent so far."""

    utterance: int = 0
    seconds: float = 0.0


def _sentence(reason: str) -> str:
    """Somebody's reason as a sentence before the next one."""
    return f"{reason.rstrip('. ')}. " if reason else ""


def _only_one_link(entry: Entry) -> bool:
    """Whether a session is spoken through over the gateway, where the end of a connection ends the session."""
    if entry.session.ws_uri is not None:
        return True
    return entry.room is not None and not (isinstance(entry.room, LiveKitRoom) and entry.room.agent_token)
