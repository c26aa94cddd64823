"""One event loop on a thread of its own, for what must outlive a single call of a tool.

A speech link belongs to the loop that it was made on. The tools are called from any thread and from any loop, so
all links live on this one, and every call is carried over to it. So do timers, which must run while nobody calls.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from agenthuman_plugins.client.adapters import to_the_end
from agenthuman_plugins.langchain._forks import forget_in_children

_T = TypeVar("_T")

_log = logging.getLogger("agenthuman_plugins.langchain")

_CLEANUP_LIMIT_S = (
    10.0  # for an interrupted call to put things in order: interrupting an avatar takes 2 s at most
)
_STOP_LIMIT_S = 5.0


class LoopClosedError(Exception):
    """Raised when the loop was stopped while a call was under way."""


class BackgroundLoop:
    """An event loop on its own thread, started by the first call and again by the first one after `close` or a fork."""

    def __init__(self) -> None:
        forget_in_children(self)
        self._lock = threading.Lock()
        self._runner: _Runner | None = None
        self._abandoned: weakref.finalize[..., BackgroundLoop] | None = None
        self._spawned: set[Handle] = set()  # a loop holds its tasks weakly

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._runner is not None

    def run(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Carry a coroutine out and wait for it.

        An interruption of the wait (Ctrl-C) cancels it, and comes out when it has put things in order.

        Raises:
            RuntimeError: Called on the thread of the loop, where it would wait for itself.
        """
        if self._runner is not None and self._runner.is_current:
            raise RuntimeError("This is the thread of the loop itself: await arun() here.")
        call = self._submit(make)
        try:
            concurrent.futures.wait([call.done])
        except BaseException:
            call.cancel()
            concurrent.futures.wait([call.done], timeout=_CLEANUP_LIMIT_S)
            raise
        return call.done.result()

    async def arun(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Carry a coroutine out and wait for it on the running loop.

        A cancellation of the wait cancels it, and comes out when it has put things in order.
        """
        call = self._submit(make)
        done = asyncio.wrap_future(call.done)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            call.cancel()
            await to_the_end(lambda: _settled(done))
            raise

    def spawn(self, make: Callable[[], Coroutine[Any, Any, object]]) -> "Handle":
        """Start a coroutine without waiting for it, from any thread.

        An error in it is logged by its type. `close` cancels it and waits for its clean-up.
        """
        call = self._submit(make)
        handle = Handle(call)
        spawned = self._spawned  # not the loop itself, which the work would then keep from being forgotten
        spawned.add(handle)

        def ended(done: "concurrent.futures.Future[Any]") -> None:
            spawned.discard(handle)
            if not isinstance(error := done.exception(), LoopClosedError | None):
                # Of a defect, nobody knows what its text holds.
                _log.error("Work in the background failed: %s", type(error).__name__)

        call.done.add_done_callback(ended)
        return handle

    def close(self) -> None:
        """Stop the thread; what still runs on it is cancelled. Harmless when there is none."""
        if (runner := self._taken()) is not None:
            runner.stop()

    async def aclose(self) -> None:
        """The same without blocking the running loop."""
        if (runner := self._taken()) is not None:
            await to_the_end(lambda: asyncio.to_thread(runner.stop))

    def forget(self) -> None:
        """Forget the thread and its work: this is a forked process, and both have stayed in the one before."""
        if self._abandoned is not None:
            self._abandoned.detach()
        self._lock = threading.Lock()
        self._runner = None
        self._spawned = set()

    def _taken(self) -> "_Runner | None":
        with self._lock:
            runner, self._runner = self._runner, None
            if self._abandoned is not None:
                self._abandoned.detach()
        return runner

    def _submit(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> "_Call[_T]":
        with self._lock:
            if self._runner is None:
                self._runner = _Runner()
                # A program that never closes the toolkit ends without a thread in the middle of something.
                self._abandoned = weakref.finalize(self, self._runner.stop)
            call = _Call(self._runner.loop, make)
            # Under the lock, so before a stop, which then finds the task. The callback, and so the task, runs in
            # the context of the caller: tracing sees where it belongs.
            self._runner.loop.call_soon_threadsafe(call.start)
        return call


class Handle:
    """Work that was started by `BackgroundLoop.spawn`."""

    def __init__(self, call: "_Call[Any]") -> None:
        self._call = call

    def cancel(self) -> None:
        """Cancel it, from any thread and without waiting; harmless when it is done."""
        self._call.cancel()


class _Runner:
    """The thread with its loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_serve, args=[self.loop], name="agenthuman speech links", daemon=True
        )
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # stopped already
            self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_current:  # a garbage collection may run there, too
            self._thread.join(_STOP_LIMIT_S)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=2 * _CLEANUP_LIMIT_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


class _Call(Generic[_T]):
    """A coroutine on its way through the loop.

    Unlike the future of `asyncio.run_coroutine_threadsafe`, `done` is done when the coroutine is, also when it was
    cancelled: only then has an avatar fallen silent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self.done: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self._loop = loop
        self._make = make
        self._task: asyncio.Task[_T] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._make())
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and everything on it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[_T]) -> None:
        if task.cancelled():
            self.done.set_exception(LoopClosedError())
        elif (error := task.exception()) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())


async def _settled(done: "asyncio.Future[Any]") -> None:
    """Wait for the end of a call, whatever it is."""
    await asyncio.wait([done], timeout=_CLEANUP_LIMIT_S)
    if done.done() and not done.cancelled():
        done.exception()  # taken, so that nothing warns of it


class FromLoop:
    """Pieces that are made on one loop, read on another.

    What an application makes on its agent's loop, a client's connections for one, works only there.

    Args:
        pieces: Made on the loop that is running now.
    """

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        self._home = asyncio.get_running_loop()

    def __aiter__(self) -> "FromLoop":
        return self

    async def __anext__(self) -> bytes:
        async def following() -> bytes | None:
            return await anext(self._pieces, None)

        piece = await self._at_home(following())
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """End what makes the pieces."""
        await self._at_home(self._pieces.aclose())

    async def _at_home(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._home)
        except RuntimeError:  # that loop is closed
            work.close()
            raise
        return await asyncio.wrap_future(future)
