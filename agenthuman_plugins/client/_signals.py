"""SIGTERM leaves a block, in programs that ask for it.

Python's own answer to SIGTERM is to end on the spot: no `finally` runs and no session is ended. Inside a `Watch` it
leaves the block like an exception instead: the task that entered is cancelled or, without an event loop,
`SystemExit` is raised. The program's own handler is called when the last block was left and its session ended.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Self

from agenthuman_plugins.client.errors import ConfigurationError

_EXIT_BASE = 128  # the exit status of a process ended by a signal, as shells count

_Handler = Callable[[int, FrameType | None], Any]


class Terminations:
    """SIGTERM of this process, shared by all blocks that watch it."""

    def __init__(self) -> None:
        self._blocks: set[Watch] = set()
        self._before: _Handler | int | None = None
        self._received = False

    def enter(self, block: "Watch") -> None:
        """Take the signal, if this is the first block.

        Raises:
            ConfigurationError: Not in the main thread, where alone Python handles signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError(
                "handle_signals=True works in the main thread only: Python handles signals nowhere else."
            )
        self._blocks.add(block)
        try:
            if len(self._blocks) == 1:
                self._take()
        except BaseException:
            self.leave(block)
            raise

    def leave(self, block: "Watch") -> bool:
        """Give the signal back after the last block, and hand on what was held up.

        Returns:
            Whether all blocks with a task have been left.
        """
        before = self._give_back() if self._blocks == {block} else None
        self._blocks.discard(block)
        if self._received and callable(before):
            before(signal.SIGTERM, None)
        return all(other.task is None for other in self._blocks)

    def forget(self) -> None:
        """Give the signal back in a forked process: the blocks, and the loop that would be woken, are its parent's."""
        self._give_back()
        self._blocks.clear()

    def _take(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        if before is None:
            raise ConfigurationError(
                "handle_signals=True cannot chain the SIGTERM handler of this program: it was not set by Python."
            )
        self._before, self._received = before, False
        if before is not signal.SIG_IGN:  # who ignores it wants the program to go on
            signal.signal(signal.SIGTERM, self._handle)

    def _give_back(self) -> _Handler | int | None:
        before, self._before = self._before, None
        # Not if somebody took the signal after us.
        if before is not None and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, before)
        return before

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._received:
            return  # on the way out already; cutting that short would leave a session open
        self._received = True
        # Tasks first: leaving their loop by an exception would cut them off.
        tasks = [block for block in self._blocks if block.task is not None]
        for block in tasks or self._blocks:
            block.received = True
        for block in tasks:
            block.cancel()
        if not tasks:
            raise SystemExit(_EXIT_BASE + signal.SIGTERM)


class Watch:
    """One block that SIGTERM shall leave. Made where the block is entered."""

    def __init__(self, terminations: Terminations, task: "asyncio.Task[Any] | None" = None) -> None:
        self.task: Final = task
        self.received = False
        self._terminations = terminations
        self._loop = None if task is None else task.get_loop()
        self._held: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        self._terminations.enter(self)
        self._held = self._handlers_of_loop().pop(signal.SIGTERM, None)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        is_last = self._terminations.leave(self)
        self._hand_back()
        # The last task alone says so: SystemExit leaves the loop at once, and the others are still ending sessions.
        if is_last and self.task is not None and self.received and _is_way_out(error):
            self.task.uncancel()
            raise SystemExit(_EXIT_BASE + signal.SIGTERM) from None

    def _handlers_of_loop(self) -> dict[int, asyncio.Handle]:
        """What the program gave to `loop.add_signal_handler`, which the loop calls beside whatever Python calls.

        No public name tells it; a loop that keeps it elsewhere calls it at once, before the session has ended.
        """
        handlers = getattr(self._loop, "_signal_handlers", None)
        return handlers if isinstance(handlers, dict) else {}

    def _hand_back(self) -> None:
        held, self._held = self._held, None
        if held is None or self._loop is None:
            return
        self._handlers_of_loop().setdefault(signal.SIGTERM, held)
        if self.received:
            self._loop.call_soon(held._run)  # noqa: SLF001 - as the loop itself would

    def cancel(self) -> None:
        """Cancel the block's task, from within a signal handler."""
        assert self.task is not None  # noqa: S101 - asked before
        assert self._loop is not None  # noqa: S101 - comes with the task
        self._loop.call_soon_threadsafe(self.task.cancel)


def _is_way_out(error: BaseException | None) -> bool:
    return error is None or isinstance(error, asyncio.CancelledError)


terminations: Final = Terminations()

# `Process.terminate` of multiprocessing sends SIGTERM.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=terminations.forget)
