"""The speech links of a toolkit. Everything here belongs to one event loop."""

import asyncio
from collections.abc import AsyncIterator

from agenthuman_plugins.langchain._ledger import Entry
from agenthuman_plugins.langchain._line import Line, MakeLink
from agenthuman_plugins.langchain._patience import give_up
from agenthuman_plugins.langchain._spoken import Spoken

_FAREWELL_LIMIT_S = 6.0  # for calls that were cut short to come to their end


class SpeechLinks:
    """The links of a toolkit's sessions, each opened when its session is first spoken through.

    Args:
        make_link: See `Line`.
    """

    def __init__(self, make_link: MakeLink) -> None:
        self._make_link = make_link
        self._lines: dict[str, Line] = {}
        self._calls: set[asyncio.Task[object]] = set()

    def has(self, session_id: str) -> bool:
        """Whether a session was spoken through and has not been hung up."""
        return session_id in self._lines

    def in_doubt(self, session_id: str) -> bool:
        """Whether a session lost its link or its avatar, so that it may have ended."""
        line = self._lines.get(session_id)
        return line is not None and line.in_doubt

    async def speak(self, entry: Entry, speech: AsyncIterator[bytes]) -> Spoken:
        """Speak through a session when its turn has come, and return when it was played.

        Cancelled, it makes the avatar fall silent and leaves the link for the next call.

        Raises:
            SayError: It was not spoken, or not to the end.
            ConfigurationError: The address of the gateway makes no sense.
        """
        session_id = entry.session.session_id
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = Line(entry, self._make_link)
        call = asyncio.current_task()
        assert call is not None  # noqa: S101 - we are in a coroutine
        self._calls.add(call)
        try:
            return await line.speak(speech)
        finally:
            await give_up(speech)
            self._calls.discard(call)

    async def hang_up(self, session_id: str) -> None:
        """Stop what a session speaks, and close its link; within a time limit, and harmless without one."""
        if (line := self._lines.get(session_id)) is not None:
            await line.hang_up()
            if self._lines.get(session_id) is line:
                del self._lines[session_id]

    async def aclose(self) -> None:
        """Hang up everywhere, and wait until every call knows of it."""
        await asyncio.gather(*map(self.hang_up, list(self._lines)))
        if self._calls:
            await asyncio.wait(self._calls, timeout=_FAREWELL_LIMIT_S)
