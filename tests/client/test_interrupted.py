"""A create that is interrupted on its way leaves no session behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from tests.client.conftest import API_KEY, ROOM, FakeService, Reply, Time

LIMIT_S = 10.0  # hang limit only


class Gate:
    """A transport that stops at a create, before or after the service has processed it."""

    def __init__(self, service: FakeService, *, processed: bool) -> None:
        self.service = service
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self._processed = processed

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/sessions" or request.method != "POST":
            return self.service.handle(request)
        response = self.service.handle(request) if self._processed else None
        self.reached.set()
        await self.opened.wait()
        return response or self.service.handle(request)


Connect = Callable[[Callable[[httpx.Request], Awaitable[httpx.Response]]], AsyncAgentHuman]


@pytest.fixture
async def connect(time: Time) -> AsyncIterator[Connect]:
    opened: list[httpx.AsyncClient] = []

    def connect(handler: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> AsyncAgentHuman:
        http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
        opened.append(http)
        return AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())

    yield connect
    for http in opened:
        await http.aclose()


@pytest.mark.parametrize("processed", [pytest.param(False, id="before"), pytest.param(True, id="after")])
async def test_cancelled_create_ends_its_session(
    connect: Connect, service: FakeService, *, processed: bool
) -> None:
    """A create cancelled while on the wire is waited for, and the session that it opened is ended."""
    gate = Gate(service, processed=processed)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await gate.reached.wait()
        task.cancel()
        asyncio.get_running_loop().call_soon(gate.opened.set)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.ended == ["sess_1"]
    assert service.running == []


async def test_second_cancel_waits_for_the_end_too(connect: Connect, service: FakeService) -> None:
    """Cancelling again while the session is being ended does not leave it open."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await gate.reached.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.running == []


async def test_create_cut_off_by_the_loops_shutdown_is_looked_up(
    connect: Connect, service: FakeService
) -> None:
    """When every task is cancelled, the one with the request too, the session is found by its reference."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await gate.reached.wait()
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.log == ["POST /v1/sessions", "GET /v1/sessions", "POST /v1/sessions/sess_1/end"]
    assert service.running == []


async def test_create_that_never_answers_is_given_up(
    connect: Connect, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled create whose answer does not come is cut off after a limit and looked up."""
    monkeypatch.setattr("agenthuman_plugins.client._async._ABANDON_S", 0.01)
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.running == []


async def test_create_cancelled_before_it_was_sent_sends_nothing(
    connect: Connect, service: FakeService
) -> None:
    """A create that has not begun asks the service for nothing."""
    client = connect(Gate(service, processed=True))
    task = asyncio.ensure_future(client.sessions.create(room=ROOM))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert service.requests == []


async def test_create_cancelled_between_attempts_sends_nothing_more(service: FakeService, time: Time) -> None:
    """While a create waits after a rate limit no session can exist, so cancelling looks for none."""
    waiting = asyncio.Event()

    async def wait_for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    time.asleep = wait_for_ever  # type: ignore[method-assign]
    service.faults.append(Reply(429))
    async with (
        asyncio.timeout(LIMIT_S),
        httpx.AsyncClient(transport=httpx.MockTransport(service.handle)) as http,
    ):
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.log == ["POST /v1/sessions"]


async def test_time_limit_around_a_create_ends_its_session(connect: Connect, service: FakeService) -> None:
    """`asyncio.timeout` around a create is a cancellation like any other and stays a TimeoutError."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    limit = asyncio.timeout(None)
    with pytest.raises(TimeoutError):  # noqa: PT012 - the block is the time limit
        async with limit:
            task = asyncio.ensure_future(gate.reached.wait())
            task.add_done_callback(lambda _: limit.reschedule(0))
            task.add_done_callback(lambda _: asyncio.get_running_loop().call_later(0.01, gate.opened.set))
            await client.sessions.create(room=ROOM)
    assert service.running == []


async def test_unexpected_error_while_sending_reaches_the_caller(
    connect: Connect, service: FakeService
) -> None:
    """What is not a transport error passes through, after the session was looked for."""

    async def broken(request: httpx.Request) -> httpx.Response:
        response = service.handle(request)
        if request.method == "POST" and request.url.path == "/v1/sessions":
            raise LookupError("not ours")
        return response

    with pytest.raises(LookupError, match="not ours"):
        await connect(broken).sessions.create(room=ROOM)
    assert service.running == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, InterruptedError])
def test_interrupted_sync_create_ends_its_session(
    interruption: type[BaseException], service: FakeService, time: Time
) -> None:
    """Ctrl-C, exit or a time limit's exception in the middle of a blocking create ends what it opened."""

    def interrupted(request: httpx.Request) -> httpx.Response:
        response = service.handle(request)
        if request.method == "POST" and request.url.path == "/v1/sessions":
            raise interruption
        return response

    with httpx.Client(transport=httpx.MockTransport(interrupted)) as http:
        client = AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        with pytest.raises(interruption):
            client.sessions.create(room=ROOM)
    assert service.ended == ["sess_1"]


def test_failing_clean_up_does_not_hide_the_interruption(
    service: FakeService, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """When the session cannot be looked for either, the interruption still arrives, with a line in the log."""

    def interrupted(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            raise KeyboardInterrupt
        return service.handle(request)

    service.faults.extend([Reply(401)] * 3)
    with httpx.Client(transport=httpx.MockTransport(interrupted)) as http:
        client = AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        with pytest.raises(KeyboardInterrupt):
            client.sessions.create(room=ROOM)
    assert "'ref-1'" in caplog.text
