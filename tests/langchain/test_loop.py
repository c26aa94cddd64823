"""The loop on a thread of its own: results, cancellation, and no thread that is left."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator

import pytest

from agenthuman_plugins.langchain._loop import BackgroundLoop, FromLoop, LoopClosedError
from tests.langchain.conftest import own_threads

LIMIT_S = 30.0  # hang limit


def threads() -> list[threading.Thread]:
    return own_threads()


async def test_results_and_errors_come_out() -> None:
    """What a coroutine returns or raises is what its caller gets, sync and async, all on one thread."""
    background = BackgroundLoop()

    async def work(fail: bool) -> int | None:
        if fail:
            raise ZeroDivisionError
        return threading.current_thread().ident

    async with asyncio.timeout(LIMIT_S):
        first = await asyncio.to_thread(background.run, lambda: work(fail=False))
        assert await background.arun(lambda: work(fail=False)) == first == threads()[0].ident
        with pytest.raises(ZeroDivisionError):
            await background.arun(lambda: work(fail=True))
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(background.run, lambda: work(fail=True))
        await background.aclose()
    assert not threads()


async def test_cancelled_call_comes_back_when_it_is_in_order() -> None:
    """A cancelled call waits for the clean-up of its coroutine, also when it is cancelled twice."""
    background = BackgroundLoop()
    started, cleaning, go_on, cleaned = (threading.Event() for _ in range(4))

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.to_thread(go_on.wait, LIMIT_S)
            cleaned.set()

    async with asyncio.timeout(LIMIT_S):
        call = asyncio.ensure_future(background.arun(work))
        await asyncio.to_thread(started.wait, LIMIT_S)
        call.cancel()
        await asyncio.to_thread(cleaning.wait, LIMIT_S)
        call.cancel()
        await asyncio.sleep(0)
        assert not call.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert cleaned.is_set()
        await background.aclose()


async def test_closing_ends_what_is_under_way() -> None:
    """A call that runs when the loop is stopped is told, and the loop can be used again."""
    background = BackgroundLoop()
    started = threading.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    async def nothing() -> None:
        pass

    async with asyncio.timeout(LIMIT_S):
        call = asyncio.ensure_future(background.arun(hang))
        await asyncio.to_thread(started.wait, LIMIT_S)
        await background.aclose()
        with pytest.raises(LoopClosedError):
            await call
        assert not background.running
        await background.arun(nothing)
        background.close()
        background.close()
    assert not threads()


async def test_loop_does_not_wait_for_itself() -> None:
    """On the loop's own thread a blocking call is an error instead of a deadlock; an awaited one works."""
    background = BackgroundLoop()

    async def inner() -> str:
        return "done"

    async def outer() -> str:
        with pytest.raises(RuntimeError, match=r"await arun\(\)"):
            background.run(inner)
        return await background.arun(inner)

    async with asyncio.timeout(LIMIT_S):
        assert await background.arun(outer) == "done"
        await background.aclose()


async def test_spawned_work_is_not_waited_for() -> None:
    """Work that was spawned goes on by itself, also when nobody keeps its handle and memory is collected."""
    background = BackgroundLoop()
    begun, done = threading.Event(), threading.Event()
    steps: list[asyncio.Event] = []

    async def work() -> None:
        steps.append(asyncio.Event())
        begun.set()
        await steps[0].wait()
        done.set()

    async def go_on() -> None:
        steps[0].set()

    async with asyncio.timeout(LIMIT_S):
        background.spawn(work)
        assert await asyncio.to_thread(begun.wait, LIMIT_S)
        gc.collect()
        assert not done.is_set()
        await background.arun(go_on)
        assert await asyncio.to_thread(done.wait, LIMIT_S)
        await background.aclose()
    assert background._spawned == set()


async def test_spawned_work_is_held() -> None:
    """Work that waits for something that nobody else knows is not collected as garbage, so that `close` finds it."""
    background = BackgroundLoop()
    begun, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with asyncio.timeout(LIMIT_S):
        background.spawn(work)
        assert await asyncio.to_thread(begun.wait, LIMIT_S)
        gc.collect()
        await background.aclose()
    assert cancelled.is_set()


@pytest.mark.parametrize("by", ["handle", "close"])
async def test_spawned_work_that_is_cancelled(by: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handle cancels its work, harmlessly so when repeated; `close` cancels it, too, and waits for its clean-up."""
    background = BackgroundLoop()
    begun, cleaned = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    async with asyncio.timeout(LIMIT_S):
        handle = background.spawn(work)
        assert await asyncio.to_thread(begun.wait, LIMIT_S)
        if by == "handle":
            handle.cancel()
            assert await asyncio.to_thread(cleaned.wait, LIMIT_S)
            handle.cancel()
        await background.aclose()
        assert cleaned.is_set()
        handle.cancel()
    assert not caplog.records
    assert not threads()


async def test_spawned_work_that_is_cancelled_before_it_begins() -> None:
    """Work that is cancelled at once never begins."""
    background = BackgroundLoop()

    async def nothing() -> None:
        pass

    async with asyncio.timeout(LIMIT_S):
        go_on = threading.Event()

        async def block() -> None:
            assert go_on.wait(LIMIT_S)

        background.spawn(block)
        background.spawn(lambda: pytest.fail("it began")).cancel()
        go_on.set()
        await background.arun(nothing)
        await background.aclose()


async def test_spawned_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody waits for is logged by its type: of its text, nobody knows what it holds."""
    background = BackgroundLoop()
    caplog.set_level(logging.DEBUG, "agenthuman_plugins")

    async def fail() -> None:
        raise ZeroDivisionError("seeded")

    async def nothing() -> None:
        pass

    async with asyncio.timeout(LIMIT_S):
        background.spawn(fail)
        await background.arun(nothing)
        await background.aclose()
    assert [record.message for record in caplog.records] == [
        "Work in the background failed: ZeroDivisionError"
    ]


def test_forgotten_loop_ends_its_thread() -> None:
    """A loop that nobody closes goes with its last reference."""
    background = BackgroundLoop()

    async def nothing() -> None:
        pass

    async def wait() -> None:
        await asyncio.Event().wait()

    background.run(nothing)
    background.spawn(wait)
    del background
    gc.collect()
    assert not threads()


def test_program_ends_although_nothing_was_closed() -> None:
    """A program that forgets to close ends at once and without complaint."""
    script = (
        "import asyncio\n"
        "from agenthuman_plugins.langchain._loop import BackgroundLoop\n"
        "async def start(): tasks.append(asyncio.ensure_future(asyncio.sleep(1000)))\n"
        "tasks = []\n"
        "loop = BackgroundLoop()\n"
        "loop.run(start)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_process_has_a_thread_of_its_own() -> None:
    """The thread stays in the parent: a child, and its child, start their own, and the parent's goes on."""
    script = (
        "import contextlib, os, signal\n"
        "from agenthuman_plugins.langchain._loop import BackgroundLoop\n"
        "async def process(): return os.getpid()\n"
        "def carry_out():\n"
        "    signal.alarm(20)\n"  # ends a child that would wait for ever
        "    own = loop.run(lambda: process()) == os.getpid()\n"
        "    os.write(1, b'own\\n' if own else b'of another\\n')\n"  # at once, whoever else writes
        "loop = BackgroundLoop()\n"
        "carry_out()\n"
        "os.fork(), os.fork()\n"
        "carry_out()\n"
        "with contextlib.suppress(ChildProcessError):\n"
        "    while True: os.wait()\n"
        "loop.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["own"] * 5, "")


async def test_pieces_are_made_on_their_own_loop() -> None:
    """Another loop reads them, and ends them before their time."""
    ended = asyncio.Event()
    home = asyncio.get_running_loop()

    async def make() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                assert asyncio.get_running_loop() is home
                yield b"x"
        finally:
            ended.set()

    pieces = FromLoop(make())

    async def read() -> list[bytes]:
        first = [await anext(pieces), await anext(pieces)]
        await pieces.aclose()
        return [*first, *[piece async for piece in pieces]]

    background = BackgroundLoop()
    async with asyncio.timeout(LIMIT_S):
        assert await background.arun(read) == [b"x", b"x"]
        assert ended.is_set()
        await background.aclose()


async def test_pieces_of_a_closed_loop_are_an_error() -> None:
    """Pieces whose loop is gone are no silence without end."""

    async def make() -> AsyncGenerator[bytes, None]:
        yield b"x"

    async def pieces() -> FromLoop:
        return FromLoop(make())

    gone = await asyncio.to_thread(asyncio.run, pieces())
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(RuntimeError, match="closed"):
            await anext(gone)
