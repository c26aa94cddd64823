"""The events of a voice agent: what the stage reads of them, its own ones, and the order in which both come out.

Source: docs.langchain.com, "Build a voice agent".
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from agenthuman_plugins.client import ConfigurationError

# Speech in these containers would be heard as a click or as noise; none of their first bytes is likely PCM.
_CONTAINERS = {b"RIFF": "WAV", b"OggS": "Ogg", b"ID3": "MP3", b"fLaC": "FLAC"}


def kind_of(event: Any) -> str | None:
    """The `type` of an event, whether a dict or an object; `None` if it has none."""
    kind = part_of(event, "type")
    kind = getattr(kind, "value", kind)  # of an Enum
    return kind if isinstance(kind, str) else None


def part_of(event: Any, name: str) -> Any:
    """A part of an event, whether a dict or an object; `None` if it has none."""
    return event.get(name) if isinstance(event, Mapping) else getattr(event, name, None)


def text_of(event: Any, name: str) -> str:
    """A part of an event that is text; empty if it is not."""
    text = part_of(event, name)
    return text if isinstance(text, str) else ""


def pcm_of(event: Any, *, first: bool) -> bytes:
    """The speech of a `tts_chunk`.

    Args:
        event: The event.
        first: Whether it begins a reply.

    Raises:
        ConfigurationError: It is no PCM. That is a mistake in the program, and the first chunk shows it.
    """
    audio = part_of(event, "audio")
    if not isinstance(audio, bytes | bytearray | memoryview):
        raise ConfigurationError(
            f"tts_chunk.audio must be bytes of signed 16-bit mono PCM, not {type(audio).__name__}."
        )
    pcm = bytes(audio)
    for begin, name in _CONTAINERS.items():
        if first and pcm.startswith(begin):
            raise ConfigurationError(
                f"tts_chunk.audio must be raw signed 16-bit mono PCM, and this is {name}: ask the voice for PCM."
            )
    return pcm


def own(kind: str, **parts: Any) -> dict[str, Any]:
    """An event of ours, now."""
    return {"type": kind, "ts": int(time.time() * 1000), **parts}


async def closed(events: Any) -> None:
    """End a generator that is not read to its end; what it has to say to that is of no interest any more."""
    if (aclose := getattr(events, "aclose", None)) is not None:
        with contextlib.suppress(Exception):
            await aclose()


class Merged:
    """The events of upstream and our own, in the order in which they came.

    Upstream is read at most one event ahead of the reader, as in a chain of plain generators; our own events never
    wait and are never lost.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[bool, Any]] = deque()
        self._error: BaseException | None = None
        self._closed = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def add(self, event: Any) -> None:
        """Add an event of our own."""
        self._events.append((False, event))
        self._news.set()

    def pass_on(self, event: Any) -> None:
        """Add an event of upstream; for the next one, wait for `room` first."""
        self._room.clear()
        self._events.append((True, event))
        self._news.set()

    async def room(self) -> None:
        """Wait until the reader has taken the last event of upstream."""
        await self._room.wait()

    def close(self, error: BaseException | None = None) -> None:
        """End the stream behind what is in it, or let it fail there."""
        self._closed, self._error = True, self._error or error
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        from_upstream, event = self._events.popleft()
        if from_upstream:
            self._room.set()
        return event
