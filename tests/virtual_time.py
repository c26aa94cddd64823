"""An event loop whose time costs nothing: it jumps to the next timer as soon as nothing is ready to run.

A test of ten minutes takes as long as its work does, and two runs of it order their timers alike. While it runs, the
`time` module tells the loop's time too: `time.monotonic`, `monotonic_ns`, `perf_counter` and `time.time`. A
`time.sleep` on the loop's own thread fails the test: it stops everything in a program, and would cost nothing here.

What it leaves out: the time that code takes to run is zero, so nothing is ever late because the machine is busy.
Time stands while an executor's job runs; any other thread may use `call_soon_threadsafe`, but time does not wait for
it. Real sockets and programs answer in real time and belong into other tests. A function that was bound to
`time.monotonic` before (a default argument) tells the machine's time and must be given the loop's.
"""

import asyncio
import contextlib
import functools
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar
from unittest import mock

T = TypeVar("T")
P = ParamSpec("P")

LIMIT_S = 24 * 3600.0  # virtual; a test that only polls would go on for ever
_PATIENCE_S = 20.0  # real; for an executor's job
_GRACE_S = 0.05  # real; for a thread that nobody knows of
_START_S = 1_000.0
_START_WALL_S = 1_800_000_000.0


class HangError(AssertionError):
    """Raised when whoever still waits would wait for ever, or when somebody made everybody else wait."""


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  # it differs by platform
    """Waits for nothing but other threads."""

    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.jobs:
            if not (ready := super().select(_PATIENCE_S)):
                self.loop.give_up(f"A thread of an executor has not come back in {_PATIENCE_S:g} s.")
        elif timeout is not None:
            self.loop.jump(timeout)
        elif not (ready := super().select(_GRACE_S)):
            self.loop.give_up("Nothing is ready, and nothing is scheduled.")
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop; see the module, and `run`.

    Attributes:
        jobs: Executors' jobs that are waited for.
        main: The task that is cancelled by a hang.
        hang: Who waited for what, once there was a hang.
    """

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        selector = _Selector()
        selector.loop = self
        self._now = _START_S
        self._end = _START_S + limit_s
        self.jobs = 0
        self.main: asyncio.Task[Any] | None = None
        self.hang: str | None = None
        super().__init__(selector)

    def time(self) -> float:
        """Seconds, from a start that is always the same."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        if self._now > self._end:
            self._end += _START_S  # for the ends of all that is still running
            self.give_up(f"The test is not over after {self._now - _START_S:.0f} s of virtual time.")

    def give_up(self, reason: str) -> None:
        """End the test: its task is cancelled, and when that does not help, the loop itself fails."""
        told_before, self.hang = self.hang, self.hang or f"{reason}\n{self._waiting()}"
        if told_before or self.main is None or self.main.done():
            raise HangError(self.hang)
        self.main.cancel()

    @contextlib.contextmanager
    def tells_the_time(self) -> Iterator[None]:
        """Let the `time` module tell this loop's time."""
        told: dict[str, Callable[[], float | int]] = {
            "monotonic": self.time,
            "perf_counter": self.time,
            "monotonic_ns": lambda: round(self._now * 1e9),
            "time": lambda: _START_WALL_S + self._now,
            "time_ns": lambda: round((_START_WALL_S + self._now) * 1e9),
        }
        sleep = time.sleep

        def sleep_elsewhere(seconds: float) -> None:
            if asyncio._get_running_loop() is self:
                self.give_up(f"time.sleep({seconds}) blocks the loop.")
            else:
                sleep(seconds)

        with mock.patch.multiple(time, sleep=sleep_elsewhere, **told):
            yield

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Run a job on a thread; time stands until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self.jobs += 1
        future.add_done_callback(self._job_done)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Join the default executor's threads; time stands meanwhile."""
        self.jobs += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self.jobs -= 1

    def _job_done(self, _: object) -> None:
        self.jobs -= 1

    def _waiting(self) -> str:
        return "\n".join(f"- {_describe(task)}" for task in sorted(asyncio.all_tasks(self), key=_describe))


def run(main: Coroutine[Any, Any, T], *, limit_s: float = LIMIT_S) -> T:
    """Run a coroutine in virtual time, and all that it leaves running to its end.

    Raises:
        HangError: Nothing could happen any more, `limit_s` of virtual time have passed, or somebody has blocked the loop.
    """
    loop = VirtualTimeLoop(limit_s=limit_s)

    async def noted() -> T:
        loop.main = asyncio.current_task()
        return await main

    try:
        with loop.tells_the_time(), asyncio.Runner(loop_factory=lambda: loop) as runner:
            result = runner.run(noted())
    except (asyncio.CancelledError, Exception) as error:
        if loop.hang is not None and not isinstance(error, HangError):
            raise HangError(loop.hang) from error
        raise
    if loop.hang is not None:
        raise HangError(loop.hang)
    return result


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Make a test of a coroutine function, run in virtual time; fixtures work, unless they are async."""

    @functools.wraps(test)
    def run_test(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        run(main())

    return run_test


def _describe(task: "asyncio.Task[Any]") -> str:
    """Name a task and where it waits: the innermost line that is not asyncio's own."""
    places = list(_places(task.get_coro())) or ["nowhere"]
    ours = [place for place in places if not place.startswith("asyncio.")]
    return f"{task.get_name()}: {(ours or places)[-1]}"


def _places(awaited: Any) -> Iterator[str]:
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            yield f"{frame.f_globals.get('__name__')}, line {frame.f_lineno}, in {frame.f_code.co_name}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
