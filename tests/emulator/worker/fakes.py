"""What the avatar plays into and reads from, without a network."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from agenthuman_plugins.emulator.mouth import MouthShape
from agenthuman_plugins.emulator.worker._loop import AvatarLoop

BLOCK = 640
SILENCE = bytes(2 * BLOCK)
HANG_LIMIT_S = 30.0


def tone(blocks: int, level: int = 8_000) -> bytes:
    """An open vowel, loud enough to open the mouth."""
    t = np.arange(blocks * BLOCK) / 16_000
    wave = np.sin(2 * np.pi * 720 * t) + 0.5 * np.sin(2 * np.pi * 1_200 * t)
    return (level * wave).astype("<i2").tobytes()


def mark(block: int) -> bytes:
    """A block that tells its number: every sample has that value."""
    return struct.pack("<h", block) * BLOCK


class Stage:
    """Painter, audio sink, video sink and listener in one: writes down what happens, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.queued_s = 0.0
        self.drawing = asyncio.Event()
        self.may_draw: asyncio.Event | None = None
        self._event_loop = asyncio.get_running_loop()

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.log if entry[0] == kind]

    # The painter, called in a thread. The picture carries the opening of the mouth in per mille.
    def draw(self, t_s: float, shape: MouthShape) -> np.ndarray:
        if self.may_draw:
            self._event_loop.call_soon_threadsafe(self.drawing.set)
            asyncio.run_coroutine_threadsafe(self.may_draw.wait(), self._event_loop).result(HANG_LIMIT_S)
        return np.array([t_s, shape.open])

    def show(self, picture: np.ndarray, timestamp_us: int) -> None:
        self.log.append(("picture", timestamp_us, float(picture[0]), float(picture[1])))

    async def play(self, pcm: bytes) -> None:
        self.log.append(("sound", pcm))

    def clear(self) -> None:
        self.log.append(("cleared",))

    def playback_started(self) -> None:
        self.log.append(("started",))

    def playback_finished(self, position_s: float, *, interrupted: bool) -> None:
        self.log.append(("finished", round(position_s, 4), interrupted))


def loop_on(stage: Stage) -> AvatarLoop:
    return AvatarLoop(stage, stage, stage, stage)


class FakeStream:
    """An open byte stream; the test writes into it."""

    def __init__(self) -> None:
        self.closed = False
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    def write(self, pcm: bytes) -> None:
        self._chunks.put_nowait(pcm)

    def end(self) -> None:
        self._chunks.put_nowait(None)

    def break_off(self) -> None:
        self._chunks.put_nowait(ConnectionError("gone"))

    def close(self) -> None:
        self.closed = True
        self._chunks.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.closed:
            raise StopAsyncIteration
        chunk = await self._chunks.get()
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None or self.closed:
            raise StopAsyncIteration
        return chunk
