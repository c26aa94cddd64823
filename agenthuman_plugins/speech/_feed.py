"""How the links hand on what happens: streams that never make their writer wait, and waiting for a condition."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """An async iterator over what is put into it, until it is closed and read to the end.

    A class instead of an async generator, because a reader that gives up waiting (a time-out around `anext`)
    would finish a generator for good.

    Args:
        held: How many items wait for a slow reader; the oldest is dropped for a new one. `None` for no limit.
    """

    def __init__(self, held: int | None = None) -> None:
        self._items: deque[T] = deque(maxlen=held)
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        """Add an item; after `close`, do nothing."""
        if not self._closed:
            self._items.append(item)
            self._changed.set()

    def close(self) -> None:
        """End the stream; the reader still gets what is in it."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> "Feed[T]":
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


class Changes:
    """Lets tasks wait until something is true of a state that other code changes."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Make every waiting task look again."""
        self._next.set()
        self._next = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()` holds."""
        while not condition():
            await self._next.wait()

    async def within(self, timeout_s: float, condition: Callable[[], bool]) -> bool:
        """Wait until `condition()` holds; `False` if that took longer than `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.until(condition)
        except TimeoutError:
            return False
        return True
