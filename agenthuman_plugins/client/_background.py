"""Work that goes on when its caller has gone: on a thread, or in a task that the end of the loop leaves alone."""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

from agenthuman_plugins.client._config import Settings

_T = TypeVar("_T")

_log = logging.getLogger("agenthuman_plugins.client")

CLOSE_S = 10.0  # that closing a client, the end of a loop and the end of the program wait for such work


class Work(Generic[_T]):
    """A function on a thread of its own, and what became of it."""

    def __init__(self, settings: Settings, work: Callable[[], _T], name: str) -> None:
        self._clock = settings.clock
        self._done = self._clock.event()
        self._work = work
        self._name = name
        self._context = contextvars.copy_context()  # what traces requests knows its caller by it
        self._value: _T | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._begun = False
        self._cancelled = False

    def begin(self) -> None:
        """Start the thread; harmless when repeated."""
        try:
            self._clock.start(self._run, self._name)
        except RuntimeError:  # the interpreter is ending, and starts no threads any more
            self._run()

    def cancel(self) -> bool:
        """Let it not begin any more; return whether it has not."""
        with self._lock:
            self._cancelled = True
            return not self._begun

    def wait(self, seconds: float) -> bool:
        """Wait until it is done; `False` if that took longer."""
        return self._clock.wait(self._done, seconds)

    def result(self) -> _T:
        """What it returned, or raised."""
        if self._error is not None:
            raise self._error
        return cast("_T", self._value)

    def _run(self) -> None:
        with self._lock:
            if self._cancelled or self._begun:
                return
            self._begun = True
        try:
            self._value = self._context.run(self._work)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self._error = error
        finally:
            self._done.set()


def hidden_task(work: Coroutine[Any, Any, _T], name: str) -> "asyncio.Task[_T]":
    """A task that the end of the loop does not cancel; whoever makes it must see it through.

    `asyncio.run` cancels all tasks that it knows of. A request that is cut then may open a session all the same.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    asyncio._unregister_task(task)  # noqa: SLF001 - documented, under "Extending"
    return task


async def see_through(work: "asyncio.Future[None]", on_left: Callable[[], None]) -> None:
    """Wait for something, also while the loop ends: then within a time limit, unless cancelled again.

    Args:
        work: What is waited for; cancelled if it does not come to its end.
        on_left: Called then.
    """
    try:
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            await asyncio.wait({work}, timeout=CLOSE_S)
    finally:
        # Here by a second cancellation, by the time limit, or because the loop was closed meanwhile.
        if not work.done():
            on_left()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                work.cancel()


async def to_the_end(make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Await a coroutine even while the caller is being cancelled; the cancellation is passed on afterwards.

    Args:
        make: Makes the coroutine, which must have a time limit of its own. The end of the loop waits for it, too.
    """
    cancelled: asyncio.CancelledError | None = None
    task = hidden_task(make(), "agenthuman to the end")
    while True:
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception as error:
            if cancelled is None:
                raise
            _log.error("Cleaning up after a cancellation failed: %s", error)
            raise cancelled from None
        else:
            if cancelled is not None:
                raise cancelled
            return result
