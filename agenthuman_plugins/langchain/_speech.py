"""What a toolkit says: a link for each session that is spoken through, on a loop that outlives the calls."""

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from agenthuman_plugins.client import AgentHumanError
from agenthuman_plugins.client.redaction import MASK, redact
from agenthuman_plugins.langchain._forks import forget_in_children
from agenthuman_plugins.langchain._line import HANDED_OVER, Line, SayError, Spoken, Wire
from agenthuman_plugins.langchain._loop import BackgroundLoop, FromLoop, LoopClosedError
from agenthuman_plugins.langchain.tts import TextToSpeech, Voice, VoiceError

__all__ = ["SayError", "Speech", "Spoken", "Wire"]

_log = logging.getLogger("agenthuman_plugins.langchain")

_PIECE_LIMIT_S = 30.0  # for a voice to make the first, or the next, piece of speech
_GIVE_UP_LIMIT_S = 5.0  # for a voice to be closed
_FAREWELL_LIMIT_S = 6.0  # for calls that were cut short to come to their end
_REASON_LIMIT = 200  # characters of somebody else's error text
_KEPT_ENDED = 1_000  # sessions remembered as hung up, so that a process that serves for months does not grow
_ENDED = "The session has been ended. Do not retry."
_RUN_OVER = "The run is over; this was not spoken, or not to its end. Do not retry."
# Any long word with digits in it may be a key of the application's speech provider.
_KEY = re.compile(r"(?=[\w-]*\d)[\w-]{20,}")


class Speech:
    """Speaks through sessions, over one link for each, which is kept from call to call.

    Methods may be called from any thread and, where they have an async twin, from any loop. Closing and hanging up
    never fail, and all waits have limits.

    Args:
        tts: Makes speech of the texts.
        loop: Where the links live. Its owner closes it, after `close`.
        on_handed_over: Called once with the id of a session when another participant took our place in its room, so
            another worker speaks through it now. Called on the thread of `loop`; it must not block.

    Raises:
        ConfigurationError: The `tts` cannot be one.
    """

    def __init__(
        self, tts: TextToSpeech, loop: BackgroundLoop, *, on_handed_over: Callable[[str], None]
    ) -> None:
        self._voice = Voice(tts)
        self._loop = loop
        self._on_handed_over = on_handed_over
        self._lines: dict[str, Line] = {}  # changed on the loop alone
        self._tasks: set[asyncio.Task[Any]] = set()  # on the loop; waited for by `close`
        self._lock = threading.Lock()
        self._hung_up: dict[str, None] = {}  # oldest first
        self._of_parents: list[object] = []
        forget_in_children(self)

    def has_link(self, session_id: str) -> bool:
        """Whether a session was connected to or spoken through, and neither hung up nor handed over since."""
        return session_id in self._lines

    def in_doubt(self, session_id: str) -> bool:
        """Whether a session lost its link or its avatar, so that it may have ended: ask the service first."""
        line = self._lines.get(session_id)
        return line is not None and line.in_doubt

    def speak(self, wire: Wire, text: str) -> Spoken:
        """Speak through a session when its turn has come, and return when it was played.

        Interrupted, it makes the avatar fall silent and leaves the link for the next call.

        Raises:
            SayError: It was not spoken, or not to the end.
            ConfigurationError: The address of the gateway makes no sense.
        """
        self._check_not_hung_up(wire.session_id)
        speech = self._voice.speech(text)
        with _closing_told():
            return self._loop.run(lambda: self._speak(wire, speech))

    async def aspeak(self, wire: Wire, text: str) -> Spoken:
        """Speak; see `speak`. An async voice runs on the caller's loop."""
        self._check_not_hung_up(wire.session_id)
        speech = FromLoop(self._voice.speech(text))
        with _closing_told():
            return await self._loop.arun(lambda: self._speak(wire, speech))

    def connect(self, wire: Wire) -> None:
        """Begin to connect, without waiting. A failure is forgotten: the next `speak` tries again."""
        self._loop.spawn(lambda: self._connect(wire))

    def finish(self, session_id: str) -> None:
        """Wait until the calls of `speak` that came before this one are done; later ones are not waited for."""
        self._run(lambda: self._finish(session_id))

    async def afinish(self, session_id: str) -> None:
        """Wait until what was to be said has been said; see `finish`."""
        await self._arun(lambda: self._finish(session_id))

    def hang_up(self, session_id: str) -> None:
        """Interrupt a session's speech and close its link, because the session is about to end.

        From now on, nothing is spoken through it: every call is refused at once. See `reopen`.
        """
        self._note_hung_up(session_id)
        self._run(lambda: self._hang_up(session_id))

    async def ahang_up(self, session_id: str) -> None:
        """Interrupt a session's speech and close its link; see `hang_up`."""
        self._note_hung_up(session_id)
        await self._arun(lambda: self._hang_up(session_id))

    def reopen(self, session_id: str) -> None:
        """Let a session be spoken through after `hang_up`, since it could not be ended."""
        with self._lock:
            self._hung_up.pop(session_id, None)

    def close(self) -> None:
        """Hang up everywhere, and wait until every call knows of it. Sessions that go on may be spoken through later."""
        self._run(self._close)

    async def aclose(self) -> None:
        """Hang up everywhere; see `close`."""
        await self._arun(self._close)

    def forget(self) -> None:
        """Leave the links to the parent of this forked process: closing one here, or dropping it, could close it there."""
        self._of_parents.append((self._lines, self._tasks))
        self._lines, self._tasks = {}, set()
        self._lock = threading.Lock()

    # --- from any thread

    def _run(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._loop.running:
            with contextlib.suppress(LoopClosedError):  # then every link was closed
                self._loop.run(make)

    async def _arun(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._loop.running:
            with contextlib.suppress(LoopClosedError):
                await self._loop.arun(make)

    def _check_not_hung_up(self, session_id: str) -> None:
        with self._lock:
            if session_id in self._hung_up:
                raise SayError(_ENDED)

    def _note_hung_up(self, session_id: str) -> None:
        # At once, not on the loop: a call that comes meanwhile must not connect to what is being ended.
        with self._lock:
            self._hung_up[session_id] = None
            if len(self._hung_up) > _KEPT_ENDED:
                del self._hung_up[next(iter(self._hung_up))]

    # --- on the loop

    async def _speak(self, wire: Wire, speech: AsyncGenerator[bytes, None] | FromLoop) -> Spoken:
        call = asyncio.current_task()
        assert call is not None  # noqa: S101 - we are in a coroutine
        self._tasks.add(call)
        try:
            return await self._line(wire).speak(_in_time(speech))
        finally:
            await _give_up(speech)
            self._tasks.discard(call)

    async def _connect(self, wire: Wire) -> None:
        with contextlib.suppress(SayError, AgentHumanError):  # the next call meets it again, and raises it
            await self._line(wire).connect()

    def _line(self, wire: Wire) -> Line:
        self._check_not_hung_up(wire.session_id)
        line = self._lines.get(wire.session_id)
        if line is None:
            line = self._lines[wire.session_id] = Line(wire, self._hand_over)
        line.wire = wire
        return line

    def _hand_over(self, line: Line) -> None:
        session_id = line.wire.session_id
        if self._lines.get(session_id) is line:
            del self._lines[session_id]
        closing = asyncio.get_running_loop().create_task(
            line.hang_up(HANDED_OVER), name="hand over a session"
        )
        self._tasks.add(closing)
        closing.add_done_callback(self._tasks.discard)
        _log.info("Session %s is spoken through by another worker now.", session_id)
        try:
            self._on_handed_over(session_id)
        except Exception as error:  # noqa: BLE001 - a defect in it must not keep the link from being closed
            _log.error("What follows a hand-over failed: %s", type(error).__name__)

    async def _finish(self, session_id: str) -> None:
        if (line := self._lines.get(session_id)) is not None:
            await line.finish()

    async def _hang_up(self, session_id: str, reason: str = _ENDED) -> None:
        if (line := self._lines.get(session_id)) is not None:
            await line.hang_up(reason)
            if self._lines.get(session_id) is line:
                del self._lines[session_id]

    async def _close(self) -> None:
        await asyncio.gather(*[self._hang_up(session_id, _RUN_OVER) for session_id in list(self._lines)])
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FAREWELL_LIMIT_S)


@contextlib.contextmanager
def _closing_told() -> Iterator[None]:
    try:
        yield
    except LoopClosedError:
        raise SayError("The run is over; this was not spoken, or not to its end. Do not retry.") from None


async def _in_time(speech: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield speech as it is made, and say what keeps it from being made."""
    while True:
        try:
            async with asyncio.timeout(_PIECE_LIMIT_S) as limit:
                pcm = await anext(speech, None)
        except VoiceError as error:
            _log.error("The tts cannot be used: %s", error)
            raise SayError(
                f"The application's voice is broken: {error} Do not retry; tell the user in writing."
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever the application's voice raises, the model is told
            reason = f"nothing came for {_PIECE_LIMIT_S:g} s" if limit.expired() else _reason(error)
            _log.warning("The tts failed: %s", reason)
            raise SayError(
                f"The text could not be turned into speech: {reason}. Trying again once may help; else tell the user "
                "in writing."
            ) from None
        if pcm is None:
            return
        yield pcm


def _reason(error: Exception) -> str:
    """The first line of an error, without what may be a key: the library behind it is not ours."""
    text = str(redact(str(error).strip().partition("\n")[0]))
    return _KEY.sub(MASK, text)[:_REASON_LIMIT].rstrip(".") or type(error).__name__


async def _give_up(speech: AsyncGenerator[bytes, None] | FromLoop) -> None:
    """Close a voice, finished or not, and ignore its errors: nobody waits for it any more."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_GIVE_UP_LIMIT_S):
            await speech.aclose()
