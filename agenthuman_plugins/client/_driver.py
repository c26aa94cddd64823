"""Carries the steps of flows out: one driver for threads, one for event loops, and both keep the same promise.

A billed request is sent on its own, beside its caller: on a thread, or in a task that the end of the loop does not
cancel. Whoever gives up leaves at once. What was on its way goes on, and what it opens is ended; closing the client,
the end of the loop and the end of the program wait for that, for a while.
"""

import asyncio
import atexit
import contextlib
import os
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar, cast

from agenthuman_plugins.client._answers import NoAnswer, Outcome
from agenthuman_plugins.client._background import CLOSE_S, Work, hidden_task, see_through
from agenthuman_plugins.client._calls import Call
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Flows, Listen, Pause, Send, Steps
from agenthuman_plugins.client._http import AsyncHttp, Gate, Http, out_of_time
from agenthuman_plugins.client._opening import OpenedT, Opening, Openings, log_left
from agenthuman_plugins.client._pools import AsyncPools, Pool
from agenthuman_plugins.client.errors import AgentHumanError
from agenthuman_plugins.client.redaction import Secrets

_T = TypeVar("_T")

_CANCEL_S = 1.0  # for a task that was cancelled

# --- threads


class _Wire:
    """A billed request on its way, on a thread."""

    def __init__(self, settings: Settings, send: Callable[[Gate], Outcome]) -> None:
        self._gate = Gate()
        self.work = Work(settings, lambda: send(self._gate), "agenthuman billed request")

    def leave(self) -> bool:
        """Nobody waits for it any more; return whether it surely has not left and never will."""
        return self.work.cancel() or self._gate.close()


class Driver:
    """Carries steps out, blocking; a billed request has a thread of its own."""

    def __init__(
        self, settings: Settings, pool: Pool, left: "dict[Opening[Any], Work[None]] | None" = None
    ) -> None:
        self.settings: Final = settings
        self.flows: Final = Flows(settings)
        self._openings: Final = Openings(self.flows)
        self._pool: Final = pool
        self._http: Final = Http(settings, pool)
        # Calls that were given up, and are cleaned up behind.
        self._left: Final = {} if left is None else left

    def with_settings(self, settings: Settings) -> "Driver":
        """A driver over the same connections, with other limits."""
        return Driver(settings, self._pool, self._left)

    def call(self, call: Call[_T]) -> _T:
        """Carry out a call that opens no billed session."""
        return self.run(self.flows.call(call))

    def run(self, steps: Steps[_T], opening: Opening[Any] | None = None) -> _T:
        """Carry a flow out, and return its value."""
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return cast("_T", stop.value)
            match step:
                case Send() if step.call.billed and opening is not None:
                    outcome = self._send_billed(step, opening)
                case Send():
                    outcome = self._http.send(step, self._key(step))
                case Listen(seconds) if opening is not None and opening.wire is not None:
                    outcome = self._listen(opening, seconds)
                case Listen(seconds) | Pause(seconds):
                    if seconds > 0:
                        self.settings.clock.sleep(seconds)
                    outcome = None

    def open(self, opening: Opening[OpenedT]) -> OpenedT:
        """Carry out a billed call; what it opens is ended if the caller does not get it."""
        try:
            return self.run(self._openings.open(opening), opening)
        except BaseException as error:
            if not isinstance(error, AgentHumanError) or opening.wire is not None:
                self.abandon(opening)
            raise

    def abandon(self, opening: Opening[Any]) -> None:
        """End what a call may have opened, in the background: nobody waits for it any more."""
        if opening in self._left or _never_left(opening):
            return
        work = self._left[opening] = Work(
            self.settings, lambda: self._clean_up(opening), "agenthuman clean-up"
        )
        _with_something_left.add(self)
        work.begin()

    def close(self, timeout_s: float) -> None:
        """Wait for what was given up, then close the connections; Ctrl-C gives it up for good."""
        try:
            self.settle(timeout_s)
        finally:
            self.give_up()
            self._pool.close()

    def settle(self, timeout_s: float) -> None:
        """Wait for what was given up, so long at most; it goes on afterwards."""
        until = self.flows.deadline(timeout_s)
        for work in list(self._left.values()):
            work.wait(self.flows.left(until))

    def give_up(self) -> None:
        """Name what is not settled, for good."""
        for opening in list(self._left):
            log_left(opening)
        self._left.clear()

    def forget(self) -> None:
        """Forget what was given up: this is a forked process, and the one before cleans up."""
        self._left.clear()

    def _clean_up(self, opening: Opening[Any]) -> None:
        try:
            self.run(self._openings.abandon(opening), opening)
        except Exception as error:  # noqa: BLE001 - there is nobody to raise it to
            log_left(opening, error)
        finally:
            self._left.pop(opening, None)

    def _send_billed(self, step: Send, opening: Opening[Any]) -> Outcome:
        with _nothing_sent_unless_done(opening):
            key = self._key(step)
        opening.wire = wire = _Wire(self.settings, lambda gate: self._http.send(step, key, gate))
        wire.work.begin()
        return self._listen(opening, step.limit_s) or _given_up(self.settings, opening)

    def _listen(self, opening: Opening[Any], seconds: float) -> Outcome | None:
        wire: _Wire = opening.wire
        if not wire.work.wait(seconds):
            return None
        opening.wire = None
        return wire.work.result()

    def _key(self, step: Send) -> Secrets | None:
        return None if step.call.keyless else Secrets((self.settings.api_key.get(),))


_with_something_left: "weakref.WeakSet[Driver]" = weakref.WeakSet()


@atexit.register
def _settle_at_exit() -> None:
    until = time.monotonic() + CLOSE_S  # for all of them
    try:
        for driver in list(_with_something_left):
            driver.settle(max(0.0, until - time.monotonic()))
    except KeyboardInterrupt:
        pass
    finally:
        for driver in list(_with_something_left):
            driver.give_up()


def _forget_after_fork() -> None:
    for driver in list(_with_something_left):
        driver.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


# --- event loops


class _AsyncWire:
    """A billed request on its way, in a task of its own."""

    def __init__(self, send: Callable[[Gate], Coroutine[Any, Any, Outcome]]) -> None:
        self._gate = Gate()
        self.task = hidden_task(send(self._gate), "agenthuman billed request")

    def leave(self) -> bool:
        """Nobody waits for it any more; return whether it surely has not left and never will."""
        if never_left := self._gate.close():
            self.task.cancel()
        return never_left

    def cut(self) -> None:
        """Its answer is not wanted any more."""
        self.task.cancel()


@dataclass(frozen=True, slots=True)
class _CleanUp:
    """What ends what a call may have opened.

    Attributes:
        opening: The call.
        work: Does it; the end of the loop leaves it alone.
        guard: Waits for it; the end of the loop waits for this.
    """

    opening: Opening[Any]
    work: "asyncio.Task[None]"
    guard: "asyncio.Task[None]"


# What cleans up behind calls that were given up.
_LeftBehind: TypeAlias = "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, set[_CleanUp]]"


class AsyncDriver:
    """Carries steps out on the event loop."""

    def __init__(self, settings: Settings, pools: AsyncPools, left: "_LeftBehind | None" = None) -> None:
        self.settings: Final = settings
        self.flows: Final = Flows(settings)
        self._openings: Final = Openings(self.flows)
        self._pools: Final = pools
        self._http: Final = AsyncHttp(settings, pools)
        self._left: Final[_LeftBehind] = weakref.WeakKeyDictionary() if left is None else left

    def with_settings(self, settings: Settings) -> "AsyncDriver":
        """A driver over the same connections, with other limits."""
        return AsyncDriver(settings, self._pools, self._left)

    async def call(self, call: Call[_T]) -> _T:
        """Carry out a call that opens no billed session."""
        return await self.run(self.flows.call(call))

    async def run(self, steps: Steps[_T], opening: Opening[Any] | None = None) -> _T:
        """Carry a flow out, and return its value."""
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return cast("_T", stop.value)
            match step:
                case Send() if step.call.billed and opening is not None:
                    outcome = await self._send_billed(step, opening)
                case Send():
                    outcome = await self._http.send(step, await self._key(step))
                case Listen(seconds) if opening is not None and opening.wire is not None:
                    outcome = await self._listen(opening, seconds)
                case Listen(seconds) | Pause(seconds):
                    if seconds > 0:
                        await self.settings.clock.asleep(seconds)
                    outcome = None

    async def open(self, opening: Opening[OpenedT]) -> OpenedT:
        """Carry out a billed call; what it opens is ended if the caller does not get it."""
        try:
            opened = await self.run(self._openings.open(opening), opening)
        except BaseException as error:
            if not isinstance(error, AgentHumanError) or opening.wire is not None:
                self.abandon(opening)
            raise
        if opening.wire is not None:  # found by its reference, so that its answer would not be news
            opening.wire.cut()
        return opened

    def abandon(self, opening: Opening[Any]) -> None:
        """End what a call may have opened, in the background: nobody waits for it any more."""
        if _never_left(opening):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the loop was closed over our head
            log_left(opening)
            return
        work = hidden_task(self._clean_up(opening), "agenthuman clean-up")
        guard = asyncio.ensure_future(see_through(work, lambda: log_left(opening)))
        clean_up = _CleanUp(opening, work, guard)
        left = self._left.setdefault(loop, set())
        left.add(clean_up)
        guard.add_done_callback(lambda _: left.discard(clean_up))

    async def aclose(self, timeout_s: float) -> None:
        """Wait for what was given up, then close the connections, those of every loop that runs."""
        elsewhere = [
            asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close_here(timeout_s), loop))
            for loop in self._pools.other_loops()
        ]
        try:
            await self._close_here(timeout_s)
            if elsewhere:
                await asyncio.wait(elsewhere, timeout=timeout_s)
        finally:
            self._pools.refuse_calls()

    async def settle(self, timeout_s: float) -> None:
        """Wait for what was given up on this loop, so long at most; it goes on afterwards."""
        if left := self._left.get(asyncio.get_running_loop()):
            await asyncio.wait([each.guard for each in left], timeout=timeout_s)

    async def _close_here(self, timeout_s: float) -> None:
        try:
            await self.settle(timeout_s)
        finally:
            given_up = list(self._left.get(asyncio.get_running_loop(), ()))
            for each in given_up:
                log_left(each.opening)
                each.work.cancel()
            if given_up:
                await asyncio.wait([each.guard for each in given_up], timeout=_CANCEL_S)
            await self._pools.aclose()

    async def _clean_up(self, opening: Opening[Any]) -> None:
        try:
            await self.run(self._openings.abandon(opening), opening)
        except Exception as error:  # noqa: BLE001 - there is nobody to raise it to
            log_left(opening, error)

    async def _send_billed(self, step: Send, opening: Opening[Any]) -> Outcome:
        with _nothing_sent_unless_done(opening):
            key = await self._key(step)
        opening.wire = _AsyncWire(lambda gate: self._http.send(step, key, gate))
        return await self._listen(opening, step.limit_s) or _given_up(self.settings, opening)

    async def _listen(self, opening: Opening[Any], seconds: float) -> Outcome | None:
        wire: _AsyncWire = opening.wire
        await asyncio.wait({wire.task}, timeout=seconds)
        if not wire.task.done():
            return None
        opening.wire = None
        return wire.task.result()

    async def _key(self, step: Send) -> Secrets | None:
        return None if step.call.keyless else Secrets((await self.settings.api_key.aget(),))


# --- both


def _never_left(opening: Opening[Any]) -> bool:
    """Whether a call that is given up surely opened nothing; it never will then."""
    if opening.wire is not None and opening.wire.leave():
        opening.wire, opening.may_exist = None, False
    return not opening.may_exist


def _given_up(settings: Settings, opening: Opening[Any]) -> NoAnswer:
    """The caller's time is up: the request goes on by itself, unless it never left."""
    if opening.wire.leave():
        opening.wire = None
        return out_of_time(settings, may_have_arrived=False)
    return out_of_time(settings)


@contextlib.contextmanager
def _nothing_sent_unless_done(opening: Opening[Any]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opening.may_exist = False
        raise
