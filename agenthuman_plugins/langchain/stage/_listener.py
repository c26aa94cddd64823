"""Hears the user ahead of the agent, which reads nothing while it streams."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from agenthuman_plugins.langchain.stage._events import closed, kind_of, text_of
from agenthuman_plugins.langchain.stage._stream import Stream

_AHEAD = 10_000  # events that are held for an agent that does not read: minutes of a microphone's audio


class Listener:
    """Reads what speech-to-text says, interrupts the stage, and holds the events for the agent.

    Args:
        events: What speech-to-text says.
        stream: The stream that the stage serves now.

    Attributes:
        turns: `stt_output` events that were read.
    """

    def __init__(self, events: AsyncIterator[Any], stream: Callable[[], Stream | None]) -> None:
        self._upstream = events
        self._stream = stream
        self._events: deque[Any] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._changed = asyncio.Event()
        self.turns = 0
        if (served := stream()) is not None:
            served.listened(0)
        self._task = asyncio.create_task(self._read(), name="listen to the user")

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            await self._change()
        event = self._events.popleft()
        self._changed.set()
        stream = self._stream()
        if stream is not None and kind_of(event) == "stt_output":
            stream.handed_out()
        return event

    async def aclose(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await closed(self._upstream)

    async def _read(self) -> None:
        try:
            async for event in self._upstream:
                self._take(event)
                self._events.append(event)
                self._changed.set()
                while len(self._events) >= _AHEAD:
                    await self._change()
        except BaseException as error:
            self._error = error if isinstance(error, Exception) else None
            if not isinstance(error, Exception):
                raise
        finally:
            self._ended = True
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _take(self, event: Any) -> None:
        stream, kind = self._stream(), kind_of(event)
        if kind not in {"stt_chunk", "stt_output"}:
            return
        if stream is not None and text_of(event, "transcript").strip():
            stream.interrupt()
        if kind == "stt_output":
            self.turns += 1
            if stream is not None:
                stream.listened(1)
