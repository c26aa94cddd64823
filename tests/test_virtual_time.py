"""The event loop with virtual time does what tests rely on."""

import asyncio
import contextlib
import threading
import time

import pytest

from tests import virtual_time
from tests.virtual_time import HangError, in_virtual_time

_monotonic, _sleep = time.monotonic, time.sleep  # the machine's


@in_virtual_time
async def test_waiting_costs_no_time() -> None:
    """An hour passes at once, and everybody's clock tells it."""
    began, loop = _monotonic(), asyncio.get_running_loop()
    clocks = (loop.time, time.monotonic, time.perf_counter, time.time, lambda: time.monotonic_ns() / 1e9)
    before = [clock() for clock in clocks]
    await asyncio.sleep(3600)
    passed = [clock() - at for clock, at in zip(clocks, before, strict=True)]
    assert passed == pytest.approx([3600] * len(clocks))
    assert _monotonic() - began < 5


@in_virtual_time
async def test_timers_go_off_in_their_order() -> None:
    """Whatever is due first happens first, at its time."""
    loop = asyncio.get_running_loop()
    start, rang = loop.time(), []

    async def ring(after_s: float) -> None:
        await asyncio.sleep(after_s)
        rang.append((after_s, round(loop.time() - start, 6)))

    await asyncio.gather(*map(ring, (3.0, 0.5, 60.0, 0.0)))
    assert rang == [(at, at) for at in (0.0, 0.5, 3.0, 60.0)]


@in_virtual_time
async def test_time_stands_while_a_thread_works() -> None:
    """A job on a thread is not overtaken by a time-out."""
    before = asyncio.get_running_loop().time()
    async with asyncio.timeout(0.001):
        await asyncio.to_thread(threading.Event().wait, 0.05)
    assert asyncio.get_running_loop().time() == before


@in_virtual_time
async def test_another_thread_is_heard() -> None:
    """What a thread of its own hands to the loop is taken, also when the loop has nothing else to do."""
    heard, loop = asyncio.Event(), asyncio.get_running_loop()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(heard.set,))
    loop.call_soon(thread.start)
    await heard.wait()
    thread.join()


def test_a_hang_fails_and_names_who_waits() -> None:
    """With nothing ready and nothing scheduled the test fails at once, and says who waits where."""

    async def wait_for_nobody() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        waiting = asyncio.create_task(wait_for_nobody(), name="the one that waits")
        await waiting

    with pytest.raises(
        HangError, match=r"the one that waits: tests\.test_virtual_time, .* in wait_for_nobody"
    ):
        virtual_time.run(main())


def test_a_hang_cannot_be_swallowed() -> None:
    """A test that goes on after its cancellation fails all the same."""

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    with pytest.raises(HangError, match="Nothing is ready"):
        virtual_time.run(main())


def test_a_test_that_only_polls_ends() -> None:
    """Where something always is scheduled, the limit of virtual time ends the test."""

    async def main() -> None:
        while True:  # noqa: ASYNC110 - that is the test
            await asyncio.sleep(1)

    with pytest.raises(HangError, match="not over after"):
        virtual_time.run(main(), limit_s=100)


def test_blocking_the_loop_fails() -> None:
    """A sleep that would stop the whole program fails the test, also where its error would be caught."""

    async def main() -> None:
        with contextlib.suppress(Exception):
            time.sleep(0.001)  # noqa: ASYNC251 - the defect that is looked for

    with pytest.raises(HangError, match=r"time\.sleep\(0\.001\) blocks the loop"):
        virtual_time.run(main())


@in_virtual_time
async def test_a_thread_may_sleep() -> None:
    """Away from the loop a sleep takes the machine's time."""
    began = _monotonic()
    await asyncio.to_thread(time.sleep, 0.01)
    assert _monotonic() - began >= 0.01


def test_the_time_is_the_machines_again() -> None:
    """After a run in virtual time, also a failed one, clocks tell the machine's time."""

    async def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - ours
        virtual_time.run(fail())
    assert (time.monotonic, time.sleep) == (_monotonic, _sleep)
