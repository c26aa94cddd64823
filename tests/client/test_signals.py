"""`handle_signals=True` makes SIGTERM a way out of the block that ends the session."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, ConfigurationError
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Time

LIMIT_S = 30.0  # hang limit only

# Opens a session in memory and waits to be terminated; tells what happens, line by line.
PROGRAM = """
import asyncio, signal, sys, threading
import httpx
from agenthuman_plugins import AgentHuman, AsyncAgentHuman

def handle(request):
    if request.url.path.endswith("/end"):
        print("ended", flush=True)
    return httpx.Response(200, json={"session": {"session_id": "sess_1", "status": "started"}})

kind, before = sys.argv[1:]
if before == "handler":
    signal.signal(signal.SIGTERM, lambda *_: print("handler", flush=True))
transport = httpx.MockTransport(handle)

def sync():
    client = AgentHuman(api_key="seeded-key", http_client=httpx.Client(transport=transport))
    with client.sessions.open(handle_signals=True):
        print("open", flush=True)
        threading.Event().wait()

async def main():
    if before == "loop":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: print("handler", flush=True))
    client = AsyncAgentHuman(api_key="seeded-key", http_client=httpx.AsyncClient(transport=transport))
    async with client.sessions.open(handle_signals=True):
        print("open", flush=True)
        await asyncio.Event().wait()

sync() if kind == "sync" else asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def handler() -> Iterator[list[int]]:
    """A SIGTERM handler of the program, which must be in place again afterwards."""
    calls: list[int] = []

    def note(number: int, _: object) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, note)
    yield calls
    assert signal.signal(signal.SIGTERM, before) is note


def opened(handle: Handle, body: Callable[[], Any], **options: Any) -> Any:
    """Run `body()` inside `sessions.open(handle_signals=True)` of either client."""

    def use(client: Any) -> Any:
        if handle.kind == "sync":
            with client.sessions.open(room=ROOM, handle_signals=True, **options):
                return body()

        async def run() -> Any:
            async with client.sessions.open(room=ROOM, handle_signals=True, **options):
                result = body()
                await asyncio.sleep(0)  # a cancellation arrives at the second turn of the loop
                await asyncio.sleep(0)
                return result

        return run()

    return handle(use)


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        ("sync", "default"),
        ("sync", "handler"),
        ("async", "default"),
        ("async", "handler"),
        ("async", "loop"),
    ],
)
def test_terminated_program_ends_its_session(kind: str, before: str) -> None:
    """A real SIGTERM ends the session, calls the program's own handler after that, and exits with 143."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, before],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        program.terminate()
        said, errors = program.communicate(timeout=LIMIT_S)
    assert said.split() == ["ended"] + ["handler"] * (before != "default")
    assert program.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors


FORKED = """
import asyncio, os, signal, sys, time
import httpx
from agenthuman_plugins import AgentHuman, AsyncAgentHuman

def handle(request):
    if request.url.path.endswith("/end"):
        print("ended", flush=True)
    return httpx.Response(200, json={"session": {"session_id": "sess_1", "status": "started"}})

transport = httpx.MockTransport(handle)

def terminate_a_child():
    started, starts = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(starts, b".")
        time.sleep(5)  # a limit only
        os._exit(0)
    os.read(started, 1)
    os.kill(pid, signal.SIGTERM)
    print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

def sync():
    client = AgentHuman(api_key="seeded-key", http_client=httpx.Client(transport=transport))
    with client.sessions.open(handle_signals=True):
        terminate_a_child()
        os.kill(os.getpid(), signal.SIGTERM)

async def main():
    client = AsyncAgentHuman(api_key="seeded-key", http_client=httpx.AsyncClient(transport=transport))
    async with client.sessions.open(handle_signals=True):
        terminate_a_child()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

sync() if sys.argv[1] == "sync" else asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_terminated_child_of_a_program_just_ends(kind: str) -> None:
    """A process that was forked inside the block ends by SIGTERM as everywhere, and the block is its parent's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.stdout.splitlines() == [f"child {-signal.SIGTERM}", "ended"]
    assert done.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_interrupted_program_ends_its_session(kind: str) -> None:
    """A real Ctrl-C ends the session too, with the default handling of Python and asyncio."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, "default"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        program.send_signal(signal.SIGINT)
        said, errors = program.communicate(timeout=LIMIT_S)
    assert said.split() == ["ended"]
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_signal_in_the_block_ends_the_session(
    client: Handle, service: FakeService, handler: list[int]
) -> None:
    """SIGTERM leaves the block as SystemExit, once the session was ended and the old handler called."""
    with pytest.raises(SystemExit) as caught:
        opened(client, terminate)
    assert caught.value.code == 128 + signal.SIGTERM
    assert service.ended == ["sess_1"]
    assert handler == [signal.SIGTERM]


def test_no_signal_changes_nothing(client: Handle, service: FakeService, handler: list[int]) -> None:
    """Without a signal the block is left as ever, and the handler is as it was."""
    assert opened(client, lambda: "done") == "done"
    assert service.ended == ["sess_1"]
    assert handler == []


def test_signal_during_the_create_ends_what_it_opened(time: Time, service: FakeService) -> None:
    """SIGTERM while the create is on the wire leaves no session, and the block is not entered."""

    def handle(request: httpx.Request) -> httpx.Response:
        response = service.handle(request)
        if request.url.path == "/v1/sessions" and request.method == "POST":
            terminate()
        return response

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        client = AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        with pytest.raises(SystemExit), client.sessions.open(room=ROOM, handle_signals=True):
            raise AssertionError
    assert service.ended == ["sess_1"]


def test_second_signal_does_not_cut_the_end_short(
    time: Time, service: FakeService, handler: list[int]
) -> None:
    """While a session is being ended, further signals wait."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/end"):
            terminate()
        return service.handle(request)

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        client = AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        with pytest.raises(SystemExit), client.sessions.open(room=ROOM, handle_signals=True):
            terminate()
    assert service.log.count("POST /v1/sessions/sess_1/end") == 1
    assert handler == [signal.SIGTERM]


def test_signal_while_leaving_ends_the_session(time: Time, service: FakeService, handler: list[int]) -> None:
    """A first signal in the middle of the end is an interruption: the end is made sure, then the program left."""
    signals = iter([terminate])

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/end"):
            next(signals, lambda: None)()
        return service.handle(request)

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        client = AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        with pytest.raises(SystemExit), client.sessions.open(room=ROOM, handle_signals=True):
            pass
    assert service.ended == ["sess_1"]
    assert handler == [signal.SIGTERM]


@asynccontextmanager
async def a_client(service: FakeService, time: Time) -> AsyncIterator[AsyncAgentHuman]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(service.handle)) as http:
        yield AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())


def test_every_watching_task_is_cancelled(service: FakeService, time: Time, handler: list[int]) -> None:
    """Blocks of several tasks are all left; the old handler is called once, after the last of them."""

    async def hold(client: AsyncAgentHuman, inside: asyncio.Semaphore) -> None:
        async with client.sessions.open(room=ROOM, handle_signals=True):
            inside.release()
            await asyncio.Event().wait()

    async def main() -> None:
        inside = asyncio.Semaphore(0)
        async with asyncio.timeout(LIMIT_S), a_client(service, time) as client, asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(hold(client, inside))
            for _ in range(3):
                await inside.acquire()
            terminate()

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert sorted(service.ended) == ["sess_1", "sess_2", "sess_3"]
    assert handler == [signal.SIGTERM]


def test_cancellation_stays_a_cancellation(service: FakeService, time: Time, handler: list[int]) -> None:
    """Without a signal, a cancelled block raises CancelledError as ever."""

    async def main() -> None:
        async with a_client(service, time) as client:
            inside = asyncio.Event()

            async def hold() -> None:
                async with client.sessions.open(room=ROOM, handle_signals=True):
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.ensure_future(hold())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert service.ended == ["sess_1"]
    assert handler == []


def test_error_of_the_block_is_not_hidden(service: FakeService, time: Time, handler: list[int]) -> None:
    """What a block raises while it is being terminated reaches the caller."""

    async def main() -> None:
        async with a_client(service, time) as client, client.sessions.open(room=ROOM, handle_signals=True):
            terminate()
            try:
                await asyncio.Event().wait()
            finally:
                raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(main())
    assert service.ended == ["sess_1"]
    assert handler == [signal.SIGTERM]


def test_ignored_signal_stays_ignored(client: Handle, service: FakeService) -> None:
    """A program that ignores SIGTERM wants to go on."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert opened(client, lambda: terminate() or "went on") == "went on"  # type: ignore[func-returns-value]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handler_that_was_set_inside_the_block_stays(client: Handle, handler: list[int]) -> None:
    """Whoever takes the signal over later keeps it."""
    before = signal.getsignal(signal.SIGTERM)

    def later(_: int, __: object) -> None:
        """Take the signal over."""

    opened(client, lambda: signal.signal(signal.SIGTERM, later))
    assert signal.signal(signal.SIGTERM, before) is later


def test_other_threads_are_refused(client: Handle, service: FakeService) -> None:
    """Python handles signals in the main thread alone; elsewhere the option is an error before anything is sent."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            opened(client, lambda: None)
        except ConfigurationError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT_S)
    assert "main thread" in str(raised[0])
    assert service.requests == []


def test_handler_from_outside_python_cannot_be_chained(
    client: Handle, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that could not be put back is not replaced; the option is an error before anything is sent."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    with pytest.raises(ConfigurationError, match="cannot chain"):
        opened(client, lambda: None)
    assert service.requests == []


def test_no_handler_without_being_asked(client: Handle, service: FakeService) -> None:
    """By default no signal handler is touched: it belongs to the program."""
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def use(c: Any) -> Any:
        if client.kind == "sync":
            with c.sessions.open(room=ROOM):
                return seen.append(signal.getsignal(signal.SIGTERM))

        async def run() -> Any:
            async with c.sessions.open(room=ROOM):
                return seen.append(signal.getsignal(signal.SIGTERM))

        return run()

    client(use)
    assert seen == [before]
