"""Carries the steps of flows out: one driver for threads, one for event loops, and both keep the same promise.

A billed request is sent on its own, beside its caller: on a thread, or in a task that the end of the loop does not
cancel. Whoever gives up leaves at once. What was on its way goes on, and what it opens is ended; closing the client,
the end of the loop and the end of the program wait for that, for a while.
"""

import asyncio
import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, TypeVar, cast

from agenthuman_plugins.client._answers import NoAnswer, Outcome
from agenthuman_plugins.client._background import CLOSE_S, Work, hidden_task
from agenthuman_plugins.client._billed import AsyncWire, Calls, Guard, Wire, unsettled
from agenthuman_plugins.client._calls import Call
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Flows, Listen, Pause, Send, Steps
from agenthuman_plugins.client._http import AsyncHttp, Http, out_of_time
from agenthuman_plugins.client._opening import OpenedT, Opening, Openings, log_left
from agenthuman_plugins.client._pools import AsyncPools, Pool
from agenthuman_plugins.client.errors import AgentHumanError, SessionOutcomeUnknownError
from agenthuman_plugins.client.redaction import Secrets

_T = TypeVar("_T")

_CANCEL_S = 1.0  # for a task that was cancelled

# --- threads


class Driver:
    """Carries steps out, blocking; a billed request has a thread of its own."""

    def __init__(self, settings: Settings, pool: Pool, calls: Calls | None = None) -> None:
        self.settings: Final = settings
        self.flows: Final = Flows(settings)
        self._openings: Final = Openings(self.flows)
        self._pool: Final = pool
        self._http: Final = Http(settings, pool)
        self._calls: Final = calls or Calls()

    def with_settings(self, settings: Settings) -> "Driver":
        """A driver over the same connections, with other limits."""
        return Driver(settings, self._pool, self._calls)

    def call(self, call: Call[_T]) -> _T:
        """Carry out a call that opens no billed session."""
        return self.run(self.flows.call(call))

    def run(self, steps: Steps[_T], opening: Opening[Any] | None = None) -> _T:
        """Carry a flow out, and return its value."""
        outcome: Outcome | None = None
        error: AgentHumanError | None = None
        while True:
            try:
                step = steps.send(outcome) if error is None else steps.throw(error)
            except StopIteration as stop:
                return cast("_T", stop.value)
            outcome = error = None
            try:
                outcome = self._carry_out(step, opening)
            except AgentHumanError as caught:  # nothing was sent; what that means, the flow knows
                error = caught

    def open(self, opening: Opening[OpenedT]) -> OpenedT:
        """Carry out a billed call; what it opens is ended if the caller does not get it."""
        over = self.settings.clock.event()
        try:
            self._calls.under_way[opening] = threading.get_ident(), over
            _drivers.add(self)
            opened = self.run(self._openings.open(opening), opening)
        except BaseException as error:
            if _is_unsettled(opening, error):
                # Interrupted once more before this is done, the call stays under way, and settle finds it.
                self.abandon(opening)
            self._settled(opening)
            raise
        finally:
            over.set()
        self._settled(opening)
        return opened

    def abandon(self, opening: Opening[Any]) -> None:
        """End what a call may have opened, in the background: nobody waits for it any more."""
        if opening in self._calls.given_up or _never_left(opening):
            return
        work = Work(self.settings, lambda: self._clean_up(opening), "agenthuman clean-up")
        self._calls.given_up[opening] = work
        _drivers.add(self)
        work.begin()

    def close(self, timeout_s: float) -> None:
        """Wait for billed calls, then close the connections; Ctrl-C gives them up for good."""
        until = self.flows.deadline(timeout_s)
        try:
            for thread, over in list(self._calls.under_way.values()):
                if thread != threading.get_ident():  # closed from a signal handler, it would wait for itself
                    self.settings.clock.wait(over, self.flows.left(until))
            self.settle(self.flows.left(until))
        finally:
            self.give_up()
            self._pool.close()

    def settle(self, timeout_s: float) -> None:
        """Wait for what was given up, so long at most; it goes on afterwards."""
        until = self.flows.deadline(timeout_s)
        for opening, (_, over) in list(self._calls.under_way.items()):
            if over.is_set():  # its caller has gone before it was given up
                self.abandon(opening)
                self._settled(opening)
        for work in list(self._calls.given_up.values()):
            work.begin()  # a second Ctrl-C may have come before it was
            work.wait(self.flows.left(until))

    def give_up(self) -> None:
        """Name what is not settled, for good."""
        left = [opening for opening, (_, over) in list(self._calls.under_way.items()) if over.is_set()]
        for opening in (*left, *list(self._calls.given_up)):
            log_left(opening)
            self._calls.given_up.pop(opening, None)
            self._settled(opening)

    def abandon_all(self) -> None:
        """Give up every call: the program ends, and with it the threads that wait for them."""
        for opening in list(self._calls.under_way):
            self.abandon(opening)

    def forget(self) -> None:
        """Forget all calls: this is a forked process, and the one before answers for them."""
        self._calls.under_way.clear()
        self._calls.given_up.clear()

    def _clean_up(self, opening: Opening[Any]) -> None:
        try:
            self.run(self._openings.abandon(opening), opening)
        except Exception as error:  # noqa: BLE001 - there is nobody to raise it to
            log_left(opening, error)
        finally:
            self._calls.given_up.pop(opening, None)
            self._settled(opening)

    def _settled(self, opening: Opening[Any]) -> None:
        self._calls.under_way.pop(opening, None)
        if not (self._calls.under_way or self._calls.given_up):
            _drivers.discard(self)

    def _carry_out(self, step: Send | Pause | Listen, opening: Opening[Any] | None) -> Outcome | None:
        match step:
            case Send() if step.call.billed and opening is not None:
                return self._send_billed(step, opening)
            case Send():
                return self._http.send(step, self._key(step))
            case Listen(seconds) if opening is not None and opening.wire is not None:
                return self._listen(opening, seconds)
            case Listen(seconds) | Pause(seconds):
                if seconds > 0:
                    self.settings.clock.sleep(seconds)
        return None

    def _send_billed(self, step: Send, opening: Opening[Any]) -> Outcome:
        with _nothing_sent_unless_done(opening):
            key = self._key(step)
        opening.wire = wire = Wire(self.settings, lambda gate: self._http.send(step, key, gate))
        wire.work.begin()
        return self._listen(opening, step.limit_s) or _given_up(self.settings, opening)

    def _listen(self, opening: Opening[Any], seconds: float) -> Outcome | None:
        wire: Wire = opening.wire
        return _answered(opening, wire.work.result) if wire.work.wait(seconds) else None

    def _key(self, step: Send) -> Secrets | None:
        return None if step.call.keyless else Secrets((self.settings.api_key.get(),))


_drivers: set[Driver] = (
    set()
)  # those with billed calls; kept here, since an interrupted program keeps nothing


def _forget_after_fork() -> None:
    for driver in list(_drivers):
        driver.forget()
    _drivers.clear()
    unsettled.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


# --- event loops


# By loop: the billed calls of a client and all its views.
_Guards: TypeAlias = "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, set[Guard]]"


class AsyncDriver:
    """Carries steps out on the event loop."""

    def __init__(self, settings: Settings, pools: AsyncPools, guards: "_Guards | None" = None) -> None:
        self.settings: Final = settings
        self.flows: Final = Flows(settings)
        self._openings: Final = Openings(self.flows)
        self._pools: Final = pools
        self._http: Final = AsyncHttp(settings, pools)
        self._guards: Final[_Guards] = weakref.WeakKeyDictionary() if guards is None else guards

    def with_settings(self, settings: Settings) -> "AsyncDriver":
        """A driver over the same connections, with other limits."""
        return AsyncDriver(settings, self._pools, self._guards)

    async def call(self, call: Call[_T]) -> _T:
        """Carry out a call that opens no billed session."""
        return await self.run(self.flows.call(call))

    async def run(self, steps: Steps[_T], opening: Opening[Any] | None = None) -> _T:
        """Carry a flow out, and return its value."""
        outcome: Outcome | None = None
        error: AgentHumanError | None = None
        while True:
            try:
                step = steps.send(outcome) if error is None else steps.throw(error)
            except StopIteration as stop:
                return cast("_T", stop.value)
            outcome = error = None
            try:
                outcome = await self._carry_out(step, opening)
            except AgentHumanError as caught:  # nothing was sent; what that means, the flow knows
                error = caught

    async def open(self, opening: Opening[OpenedT]) -> OpenedT:
        """Carry out a billed call; what it opens is ended if the caller does not get it."""
        guard = Guard(opening)
        guards = self._guards.setdefault(asyncio.get_running_loop(), set())
        guards.add(guard)
        guard.task.add_done_callback(lambda _: guards.discard(guard))
        try:
            opened = await self.run(self._openings.open(opening), opening)
        except BaseException as error:
            self._abandon(guard) if _is_unsettled(opening, error) else guard.release()
            raise
        guard.release()
        return opened

    async def aclose(self, timeout_s: float) -> None:
        """Wait for billed calls, then close the connections, those of every loop that runs."""
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
        if given_up := [guard.task for guard in self._guards_here() if guard.work is not None]:
            await asyncio.wait(given_up, timeout=timeout_s)

    async def _close_here(self, timeout_s: float) -> None:
        try:
            if guards := self._guards_here():
                await asyncio.wait([guard.task for guard in guards], timeout=timeout_s)
        finally:
            if guards := self._guards_here():
                for guard in guards:
                    guard.give_up()
                await asyncio.wait([guard.task for guard in guards], timeout=_CANCEL_S)
            await self._pools.aclose()

    def _guards_here(self) -> list[Guard]:
        return list(self._guards.get(asyncio.get_running_loop(), ()))

    def _abandon(self, guard: Guard) -> None:
        """End what a call may have opened, in the background: nobody waits for it any more."""
        if _never_left(guard.opening):
            guard.release()
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # the loop was closed meanwhile
            log_left(guard.opening)
        else:
            guard.follow(hidden_task(self._clean_up(guard.opening), "agenthuman clean-up"))

    async def _clean_up(self, opening: Opening[Any]) -> None:
        try:
            await self.run(self._openings.abandon(opening), opening)
        except Exception as error:  # noqa: BLE001 - there is nobody to raise it to
            log_left(opening, error)
        if opening.wire is not None:  # found by its reference and ended, so that its answer would be no news
            opening.wire.cut()

    async def _carry_out(self, step: Send | Pause | Listen, opening: Opening[Any] | None) -> Outcome | None:
        match step:
            case Send() if step.call.billed and opening is not None:
                return await self._send_billed(step, opening)
            case Send():
                return await self._http.send(step, await self._key(step))
            case Listen(seconds) if opening is not None and opening.wire is not None:
                return await self._listen(opening, seconds)
            case Listen(seconds) | Pause(seconds):
                if seconds > 0:
                    await self.settings.clock.asleep(seconds)
        return None

    async def _send_billed(self, step: Send, opening: Opening[Any]) -> Outcome:
        with _nothing_sent_unless_done(opening):
            key = await self._key(step)
        opening.wire = AsyncWire(lambda gate: self._http.send(step, key, gate))
        return await self._listen(opening, step.limit_s) or _given_up(self.settings, opening)

    async def _listen(self, opening: Opening[Any], seconds: float) -> Outcome | None:
        wire: AsyncWire = opening.wire
        await asyncio.wait({wire.task}, timeout=seconds)
        return _answered(opening, wire.task.result) if wire.task.done() else None

    async def _key(self, step: Send) -> Secrets | None:
        return None if step.call.keyless else Secrets((await self.settings.api_key.aget(),))


# --- both


@atexit.register
def _settle_at_exit() -> None:
    until = time.monotonic() + CLOSE_S  # for all of them
    try:
        for driver in list(_drivers):
            driver.abandon_all()
        for driver in list(_drivers):
            driver.settle(max(0.0, until - time.monotonic()))
    except KeyboardInterrupt:
        pass
    finally:
        for driver in list(_drivers):
            driver.give_up()
        for opening in list(unsettled):
            log_left(opening)


def _is_unsettled(opening: Opening[Any], error: BaseException) -> bool:
    """Whether a call that failed may have opened a session that its caller has not been told of."""
    told = isinstance(error, SessionOutcomeUnknownError) and opening.wire is None
    return opening.may_exist and not told


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


def _answered(opening: Opening[Any], result: Callable[[], Outcome]) -> Outcome:
    """Take what became of the request, and keep it: an interruption may come before the caller has it."""
    try:
        opening.answer = result()
    except AgentHumanError:  # the client itself refused it
        opening.may_exist = False
        raise
    finally:
        opening.wire = None
    return opening.answer


@contextlib.contextmanager
def _nothing_sent_unless_done(opening: Opening[Any]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opening.may_exist = False
        raise
