"""`sessions.open(...)` ends the session on every way out."""

import asyncio
import inspect
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Self

import httpx
import pytest

from agenthuman_plugins.client import (
    AgentHuman,
    AsyncAgentHuman,
    AuthenticationError,
    SessionOutcomeUnknownError,
    _lease,
)
from agenthuman_plugins.client._background import to_the_end
from agenthuman_plugins.client._lease import Lease
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Reply, Time

LIMIT_S = 30.0  # hang limit only


class ProblemError(Exception):
    """What a block may raise."""


def opened(handle: Handle, body: object) -> object:
    """Run `body(session)` inside `sessions.open()` of either client."""

    def use(client: object) -> object:
        if handle.kind == "sync":
            with client.sessions.open(room=ROOM) as session:  # type: ignore[attr-defined]
                return body(session)  # type: ignore[operator]

        async def run() -> object:
            async with client.sessions.open(room=ROOM) as session:  # type: ignore[attr-defined]
                return body(session)  # type: ignore[operator]

        return run()

    return handle(use)


def fail(error: BaseException) -> object:
    def body(_: object) -> object:
        raise error

    return body


def test_return_ends_the_session(client: Handle, service: FakeService) -> None:
    """Leaving the block ends the session, once."""
    assert opened(client, lambda session: session.session_id) == "sess_1"
    assert service.ended == ["sess_1"]


@pytest.mark.parametrize("error", [ProblemError, KeyboardInterrupt, SystemExit])
def test_exception_ends_the_session(client: Handle, service: FakeService, error: type[BaseException]) -> None:
    """An exception, an exit and Ctrl-C in the block end the session and pass on."""
    with pytest.raises(error):
        opened(client, fail(error()))
    assert service.ended == ["sess_1"]


def test_nothing_to_end_when_the_create_failed(client: Handle, service: FakeService) -> None:
    """A refused create raises from the `with` line and asks for no end."""
    service.faults.append(Reply(401))
    with pytest.raises(AuthenticationError):
        opened(client, fail(ProblemError()))
    assert service.log == ["POST /v1/sessions"]


def test_failing_end_is_raised(client: Handle, service: FakeService) -> None:
    """A session that could not be ended is the caller's business."""

    def body(_: object) -> None:
        service.faults.append(Reply(401))

    with pytest.raises(AuthenticationError):
        opened(client, body)


def test_failing_end_does_not_hide_the_blocks_error(
    client: Handle, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """When block and end both fail, the block's error is raised and the end's is logged."""

    def body(_: object) -> None:
        service.faults.append(Reply(401))
        raise ProblemError

    with pytest.raises(ProblemError):
        opened(client, body)
    assert "sess_1 could not be ended" in caplog.text


def test_session_that_is_gone_counts_as_ended(client: Handle, service: FakeService) -> None:
    """A 404 from the end call is no error: there is nothing left to end."""
    opened(client, lambda _: service.sessions.clear())


async def test_cancel_ends_the_session(service: FakeService, time: Time) -> None:
    """A block that is cancelled, even twice, has its session ended before the cancellation passes on."""
    inside, ending, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/end"):
            ending.set()
            await go_on.wait()
        return service.handle(request)

    async with (
        asyncio.timeout(LIMIT_S),
        httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http,
    ):
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())

        async def run() -> None:
            async with client.sessions.open(room=ROOM):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(run())
        await inside.wait()
        task.cancel()
        await ending.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.ended == ["sess_1"]


async def test_clean_up_goes_on_while_the_loop_ends() -> None:
    """The loop's shutdown cancels every task that it knows of; a clean-up is not cut by it, and is waited for."""
    started, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def clean_up() -> None:
        started.set()
        await go_on.wait()
        done.set()

    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(to_the_end(clean_up))
        await started.wait()
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert done.is_set()


async def test_failure_of_a_clean_up_after_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The cancellation wins over the clean-up's own failure, which is not lost."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def clean_up() -> None:
        started.set()
        await go_on.wait()
        raise SessionOutcomeUnknownError("lost", client_ref="ref-1")

    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(to_the_end(clean_up))
        await started.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "lost" in caplog.text


class CtrlC:
    """Raises KeyboardInterrupt at the nth step of the client: before a line, or when a call has just returned.

    These are the places where Python itself looks for signals. It does not look between `__enter__` and the block,
    and it never looks on other threads.
    """

    def __init__(self, number: int, time: Time) -> None:
        self.place = ("", 0)
        self._left = number
        self._time = time
        self._folder = str(Path(_lease.__file__).parent)

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if self._time.in_thread or not frame.f_code.co_filename.startswith(self._folder):
            return None
        if self._time.in_thread:
            return self.trace
        if event == "line" or (event == "return" and frame.f_code is not Lease.__enter__.__code__):
            self._left -= 1
            if self._left == 0:
                self.place = (frame.f_code.co_filename, frame.f_lineno)
                raise KeyboardInterrupt
        return self.trace

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def test_ctrl_c_at_any_step_ends_the_session() -> None:
    """Wherever in our code Ctrl-C strikes, create and end included, no session stays open.

    But for one place that no `try` covers: the moment before the first line of `__exit__`.
    """
    source, first = inspect.getsourcelines(Lease.__exit__)
    try_line = first + next(number for number, line in enumerate(source) if line.strip() == "try:")
    before_try = {(inspect.getsourcefile(Lease), line) for line in range(first, try_line + 1)}
    interrupted = 0
    while True:
        service, time = FakeService(), Time()
        strike = CtrlC(interrupted + 1, time)
        with httpx.Client(transport=httpx.MockTransport(service.handle)) as http:
            client = AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
            try:
                with strike, client.sessions.open(room=ROOM):
                    pass
            except KeyboardInterrupt:
                interrupted += 1
            else:
                break
        assert service.running == [] or strike.place in before_try, strike.place
    assert interrupted > 200  # every step of a whole life was struck
