"""A billed call that is given up returns at once, and leaves no session behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, SessionOutcomeUnknownError
from tests.client.conftest import API_KEY, ROOM, FakeService, Lost, Reply, Time

LIMIT_S = 30.0  # hang limit only


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


async def cancelled(client: AsyncAgentHuman, gate: Gate) -> None:
    """Cancel a create while it is on the wire."""
    task = asyncio.ensure_future(client.sessions.create(room=ROOM))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("processed", [pytest.param(False, id="before"), pytest.param(True, id="after")])
async def test_cancelled_create_ends_its_session(
    connect: Connect, service: FakeService, *, processed: bool
) -> None:
    """A create cancelled while on the wire returns at once; closing waits until what it opened has ended."""
    gate = Gate(service, processed=processed)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        await cancelled(client, gate)
        assert service.ended == []
        gate.opened.set()
        await client.aclose()
    assert service.ended == ["sess_1"]
    assert service.running == []


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {}])
async def test_refused_create_that_nobody_waits_for_is_not_sent_again(
    headers: dict[str, str], service: FakeService, connect: Connect
) -> None:
    """A 429 after the caller has gone opens nothing, and is no reason to try again."""
    go_on = asyncio.Event()
    reached = asyncio.Event()

    async def limited(request: httpx.Request) -> httpx.Response:
        service.requests.append(request)
        reached.set()
        await go_on.wait()
        return Reply(429, None, headers).response()

    client = connect(limited)
    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await client.aclose()
    assert service.log == ["POST /v1/sessions"]


async def test_closing_waits_no_longer_than_told_and_names_what_is_left(
    connect: Connect, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """A create that is still not answered when the time to close is up is in the log by its reference."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        await cancelled(client, gate)
        await client.aclose(timeout=0.01)
    assert "'ref-1'" in caplog.text


async def test_cancelled_closing_gives_up_at_once(
    connect: Connect, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is cancelled while closing waits no longer; the log names what may still run."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        await cancelled(client, gate)
        closing = asyncio.ensure_future(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert "'ref-1'" in caplog.text


def test_end_of_the_loop_waits_for_what_was_given_up(service: FakeService, time: Time) -> None:
    """`asyncio.run` cancels every task; a request on its way is not cut by that, and its session is ended."""

    async def main() -> None:
        gate = Gate(service, processed=False)
        http = httpx.AsyncClient(transport=httpx.MockTransport(gate))
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        await cancelled(client, gate)
        asyncio.get_running_loop().call_later(0.05, gate.opened.set)  # after the loop was told to end

    asyncio.run(asyncio.wait_for(main(), LIMIT_S))
    assert service.ended == ["sess_1"]


def test_end_of_the_loop_waits_for_a_create_in_a_task_of_its_own(service: FakeService, time: Time) -> None:
    """A create that nobody awaits is cancelled by the end of the loop itself, which then waits for its clean-up."""

    async def main() -> None:
        gate = Gate(service, processed=False)
        http = httpx.AsyncClient(transport=httpx.MockTransport(gate))
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        tasks.append(asyncio.ensure_future(client.sessions.create(room=ROOM)))
        await gate.reached.wait()
        asyncio.get_running_loop().call_later(0.05, gate.opened.set)

    tasks: list[asyncio.Future[object]] = []
    asyncio.run(asyncio.wait_for(main(), LIMIT_S))
    assert tasks[0].cancelled()
    assert service.ended == ["sess_1"]


async def test_closing_waits_for_a_create_under_way(service: FakeService, connect: Connect) -> None:
    """A create whose caller waits gets its session, though another task closes the client meanwhile."""
    gate = Gate(service, processed=False)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await gate.reached.wait()
        closing = asyncio.ensure_future(client.aclose())
        await asyncio.sleep(0)
        gate.opened.set()
        assert (await task).session_id == "sess_1"
        await closing


async def test_key_that_fails_during_the_look_up_hides_no_session(service: FakeService) -> None:
    """When there is no key any more to look for a lost session, the outcome is unknown, not a wrong setting."""
    keys = iter([API_KEY, "", "", ""])
    service.faults.append(Lost(httpx.ReadError))
    async with httpx.AsyncClient(transport=httpx.MockTransport(service.handle)) as http:
        client = AsyncAgentHuman(api_key=lambda: next(keys), http_client=http, _clock=Time().clock())
        with pytest.raises(SessionOutcomeUnknownError, match="'ref-1'"):
            await client.sessions.create(room=ROOM)


async def test_end_in_the_background_is_repeated_whatever_the_caller_wanted(
    service: FakeService, time: Time
) -> None:
    """Nobody else will end the session, so a passing failure is no reason to leave it, with `max_retries=0` either."""
    gate = Gate(service, processed=True)
    async with asyncio.timeout(LIMIT_S), httpx.AsyncClient(transport=httpx.MockTransport(gate)) as http:
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, max_retries=0, _clock=time.clock())
        await cancelled(client, gate)
        service.faults.extend([Reply(503)] * 5)
        gate.opened.set()
        await client.aclose()
    assert service.ended == ["sess_1"]


async def test_second_cancellation_of_the_clean_up_gives_up(
    connect: Connect, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of a loop cancels the clean-up, which hurries; cancelled once more it stops, and says what is left."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        await cancelled(client, gate)
        (clean_up,) = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.sleep(0)
        for _ in range(2):
            assert not clean_up.done()
            clean_up.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([clean_up])
    assert "'ref-1'" in caplog.text


async def test_lost_answer_of_a_given_up_create_is_looked_up(service: FakeService, connect: Connect) -> None:
    """When the answer gets lost after the caller has gone, the session is found by its reference, and ended."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def cut(request: httpx.Request) -> httpx.Response:
        response = service.handle(request)
        if request.method == "POST" and request.url.path == "/v1/sessions":
            reached.set()
            await go_on.wait()
            raise httpx.ReadError("cut", request=request)
        return response

    client = connect(cut)
    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(client.sessions.create(room=ROOM))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await client.aclose()
    assert service.log == ["POST /v1/sessions", "GET /v1/sessions", "POST /v1/sessions/sess_1/end"]


async def test_answer_after_the_callers_time_is_ended(service: FakeService, connect: Connect) -> None:
    """A create that answers after its time limit was reported as lost; its session is ended when it comes."""
    gate = Gate(service, processed=False)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SessionOutcomeUnknownError, match="still on its way, and what it opens is ended"):
            await client.sessions.create(room=ROOM, timeout=0.01)
        gate.opened.set()
        await client.aclose()
    assert service.ended == ["sess_1"]


async def test_session_that_is_listed_before_its_answer_is_ended_early(
    service: FakeService, connect: Connect
) -> None:
    """While the answer to a given-up create is awaited its session is looked for, too, and ended when it shows."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        await cancelled(client, gate)
        await client.aclose()  # the answer never comes
    assert service.ended == ["sess_1"]


async def test_answer_shortly_after_the_time_is_returned_whole(
    service: FakeService, connect: Connect
) -> None:
    """An answer that comes while the session is being looked for is the better find: it has the tokens."""
    gate = Gate(service, processed=True)
    client = connect(gate)
    async with asyncio.timeout(LIMIT_S):
        asyncio.get_running_loop().call_later(0.05, gate.opened.set)
        session = await client.sessions.create(room=ROOM, timeout=0.01)
    assert session.session_token.get_secret_value() == "seeded-session-token"


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
            await client.sessions.create(room=ROOM)
    gate.opened.set()
    await client.aclose()
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

    client = connect(broken)
    with pytest.raises(LookupError, match="not ours"):
        await client.sessions.create(room=ROOM)
    await client.aclose()
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
