"""Speech that comes as byte streams: one per utterance, played in the order of their headers.

What a stock receiver does, kept here rule by rule:

- the trailer of a stream ends its utterance;
- a clear drops everything that came before it, the rest of the open stream included;
- a lost trailer must not block what follows: a newer stream, or 10 s without a chunk, ends the utterance too.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from agenthuman_plugins.emulator.worker._decoder import SpeechDecoder
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

_log = logging.getLogger(__name__)

_IDLE_S = 10.0  # without a chunk: the trailer was lost
_SUPERSEDED_IDLE_S = 0.2  # the same once a newer stream has begun; its own chunks may still be on their way

Attributes = Mapping[str, str]


class SpeechStream(Protocol):
    """An open byte stream; livekit's `ByteStreamReader` behind its attributes."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the chunks."""

    def close(self) -> None:
        """Give the stream up; a pending read ends."""


class SpeechReceiver:
    """Reads speech streams one after the other.

    Args:
        push: Takes the speech (16 kHz, mono, signed 16-bit).
        end: Called at the end of each utterance that was not cleared.
    """

    def __init__(self, push: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._push = push
        self._end = end
        self._generation = 0
        self._waiting: asyncio.Queue[tuple[SpeechStream, Attributes]] = asyncio.Queue()
        self._reading: SpeechStream | None = None
        self._patience: asyncio.Timeout | None = None

    def open(self, stream: SpeechStream, attributes: Attributes) -> None:
        """Take a stream whose header has just come."""
        self._waiting.put_nowait((stream, attributes))
        if self._patience and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + _SUPERSEDED_IDLE_S)

    def clear(self) -> None:
        """Drop every stream that is open now."""
        self._generation += 1
        while not self._waiting.empty():
            self._waiting.get_nowait()[0].close()
        if self._reading:
            self._reading.close()

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                stream, attributes = await self._waiting.get()
                self._reading = stream
                try:
                    await self._read(stream, attributes)
                finally:
                    stream.close()  # an abandoned reader would keep its subscription for ever
                    self._reading = None
        finally:
            self.clear()

    async def _read(self, stream: SpeechStream, attributes: Attributes) -> None:
        generation = self._generation
        try:
            decoder = SpeechDecoder(
                sample_rate=int(attributes.get("sample_rate", SPEECH_SAMPLE_RATE)),
                num_channels=int(attributes.get("num_channels", 1)),
            )
        except ValueError as error:
            _log.warning("A speech stream was refused: %s", error)
            return
        # A stream that breaks off (its sender left) is over like one that ends.
        with contextlib.suppress(ConnectionError, TimeoutError):
            chunks = aiter(stream)
            while (chunk := await self._next(chunks)) is not None:
                if generation != self._generation:
                    return
                self._push(decoder.decode(chunk))
        if generation == self._generation:
            self._push(decoder.flush())
            self._end()

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        limit_s = _IDLE_S if self._waiting.empty() else _SUPERSEDED_IDLE_S
        try:
            async with asyncio.timeout(limit_s) as self._patience:
                return await anext(chunks, None)
        finally:
            self._patience = None
