"""Sessions that end by themselves, in virtual time: hours take no time, and nothing is late.

The background loop of the toolkit is the test's own loop here; `test_loop.py` has that on its thread.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, AgentHumanError, AsyncAgentHuman, LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest
from agenthuman_plugins.langchain._limits import Limits
from agenthuman_plugins.langchain._loop import BackgroundLoop
from agenthuman_plugins.langchain._speech import Spoken, Wire
from tests.client.conftest import API_KEY, FakeService, Reply, Time
from tests.langchain.conftest import runtime
from tests.langchain.toolbox import CREATE, END, GET, LIST, SAY, by_name
from tests.virtual_time import in_virtual_time

LIMIT_S = 30.0  # hang limit
KINDS = pytest.mark.parametrize("kind", ["sync", "async", "async-client-alone"])


class Here(BackgroundLoop):
    """The background loop, on the loop of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.home = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[Any]] = set()

    @property
    def running(self) -> bool:
        return True

    def spawn(self, make: Callable[[], Coroutine[Any, Any, object]]) -> Any:
        self.home.call_soon_threadsafe(lambda: self.tasks.add(self.home.create_task(make())))

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(make(), self.home).result(LIMIT_S)

    async def arun(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await make()

    def close(self) -> None:
        for task in self.tasks:
            self.home.call_soon_threadsafe(task.cancel)

    async def aclose(self) -> None:
        self.close()


class Talk:
    """Speech without links: a text takes the seconds that the `tts` says, unless its session is hung up."""

    def __init__(self, tts: Any, _: Any, *, on_handed_over: Any) -> None:
        self._seconds = tts("")
        self._hung_up = asyncio.Event()

    def has_link(self, _: str) -> bool:
        return False

    def connect(self, _: Wire) -> None:
        pass

    def reopen(self, _: str) -> None:
        pass

    async def aspeak(self, _: Wire, text: str) -> Spoken:
        del text
        begin, now = asyncio.get_running_loop().time(), asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hung_up.wait(), self._seconds)
        return Spoken(self._seconds, now() - begin, interrupted=self._hung_up.is_set())

    async def afinish(self, _: str) -> None:
        pass

    def hang_up(self, _: str) -> None:
        self._hung_up.set()

    async def ahang_up(self, _: str) -> None:
        self._hung_up.set()


@pytest.fixture(autouse=True)
def _on_the_tests_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthuman_plugins.langchain._speech.Speech", Talk)
    monkeypatch.setattr(AgentHumanToolkit.__private_attributes__["_loop"], "default_factory", Here)


class User:
    """Who calls the tools of a toolkit with limits."""

    def __init__(
        self, service: FakeService, kind: str = "async", thread: str = "ada", **options: Any
    ) -> None:
        self._kind, self._thread = kind, thread
        self._calls = 0
        transport, clock = httpx.MockTransport(service.handle), Time().clock()
        clients: dict[str, Any] = {
            "async_client": AsyncAgentHuman(
                api_key=API_KEY, http_client=httpx.AsyncClient(transport=transport), _clock=clock
            )
        }
        if kind != "async-client-alone":
            clients["client"] = AgentHuman(
                api_key=API_KEY, http_client=httpx.Client(transport=transport), _clock=clock
            )
        self.toolkit = AgentHumanToolkit(**clients, **options)

    async def call(self, name: str, /, thread: str | None = None, **arguments: Any) -> str:
        """What a tool says."""
        self._calls += 1
        arguments["runtime"] = runtime(thread or self._thread, f"call_{self._calls}")
        tool = by_name(self.toolkit)[name]
        if self._kind == "sync":
            said = await asyncio.to_thread(tool.invoke, arguments)
        else:
            said = await tool.ainvoke(arguments)
        return str(said)


def takes(seconds: float) -> dict[str, Any]:
    """Options of a toolkit that speaks so long at each call."""
    return {"tts": lambda _: seconds}


def room(request: SessionRequest) -> LiveKitRoom:
    return LiveKitRoom.mint(
        "wss://rooms.example.com", "key", "s" * 32, "room", agent_identity=request.agent_identity
    )


def rest(what: str, session_id: str = "sess_1") -> str:
    return f"\nNote: session {session_id} was ended automatically: {what}."


LASTED = rest("a session may last at most 60 s")
IDLE = rest("it was not used for 60 s")


@KINDS
@in_virtual_time
async def test_session_ends_when_its_time_is_over(kind: str, service: FakeService) -> None:
    """It lasts as long as it may, however busy it is, and the model is told once, at its next call of any tool."""
    user = User(service, kind, max_session_secs=60)
    await user.call(CREATE)
    for _ in range(5):
        await asyncio.sleep(11)
        await user.call(GET, session_id="sess_1")
    await asyncio.sleep(4)
    assert service.running == ["sess_1"]
    await asyncio.sleep(2)
    assert service.ended == ["sess_1"]
    assert (await user.call(LIST)).endswith(LASTED)
    assert "Note" not in await user.call(LIST)


@KINDS
@in_virtual_time
async def test_session_ends_when_nobody_uses_it(kind: str, service: FakeService) -> None:
    """Each call that names it gives it the whole time again; a list and other sessions' calls do not."""
    user = User(service, kind, max_idle_secs=60)
    await user.call(CREATE)
    await user.call(CREATE)
    for _ in range(4):
        await asyncio.sleep(50)
        await user.call(GET, session_id="sess_1")
        await user.call(LIST)
    assert service.ended == ["sess_2"]
    await asyncio.sleep(59)
    assert service.running == ["sess_1"]
    await asyncio.sleep(2)
    assert service.running == []
    assert IDLE in await user.call(LIST)


@in_virtual_time
async def test_both_limits_count(service: FakeService) -> None:
    """Whichever is reached first ends the session, and is the one that the model is told of."""
    user = User(service, max_idle_secs=60, max_session_secs=100)
    await user.call(CREATE)
    await user.call(CREATE)
    await asyncio.sleep(50)
    await user.call(GET, session_id="sess_2")
    await asyncio.sleep(51)
    assert service.running == []
    told = await user.call(LIST)
    assert rest("it was not used for 60 s", "sess_1") in told
    assert rest("a session may last at most 100 s", "sess_2") in told


@pytest.mark.parametrize("name", [GET, END, SAY])
@in_virtual_time
async def test_model_is_told_in_an_error_too(name: str, service: FakeService) -> None:
    """A call that fails, or is refused, brings the news as well."""
    user = User(service, max_session_secs=60, **takes(1))
    await user.call(CREATE)
    await asyncio.sleep(61)
    others = {"text": "Hi."} if name == SAY else {}
    told = await user.call(name, session_id="sess_7", **others)
    assert "sess_7 is not known here" in told
    assert told.endswith(LASTED)


@in_virtual_time
async def test_nobody_else_is_told(service: FakeService) -> None:
    """The news is for the conversation whose session it was."""
    user = User(service, max_session_secs=60)
    await user.call(CREATE)
    await asyncio.sleep(61)
    assert "Note" not in await user.call(LIST, thread="bob")
    assert LASTED in await user.call(LIST)


@in_virtual_time
async def test_speaking_is_no_idleness(service: FakeService) -> None:
    """A text that takes longer than the limit is heard to its end, and the time counts from there."""
    user = User(service, max_idle_secs=60, **takes(100))
    await user.call(CREATE)
    assert await user.call(SAY, session_id="sess_1", text="Long.") == "Spoken: 100.0 s."
    await asyncio.sleep(59)
    assert service.running == ["sess_1"]
    await asyncio.sleep(2)
    assert service.ended == ["sess_1"]


@in_virtual_time
async def test_the_longest_life_ends_a_text_too(service: FakeService) -> None:
    """What is being spoken when the time is over is cut short; its call says so, and why."""
    user = User(service, max_session_secs=60, **takes(100))
    await user.call(CREATE)
    told = await user.call(SAY, session_id="sess_1", text="Long.")
    assert told.startswith("Interrupted after 60.0 of ")
    assert told.endswith(LASTED)
    assert service.ended == ["sess_1"]


@in_virtual_time
async def test_use_that_never_ends_is_use(service: FakeService) -> None:
    """While a call uses a session it is not idle, however long that takes."""
    user = User(service, max_idle_secs=60)
    await user.call(CREATE)
    with user.toolkit._limits.used("sess_1"), user.toolkit._limits.used("sess_1"):
        await asyncio.sleep(1_000)
    assert service.running == ["sess_1"]
    await asyncio.sleep(61)
    assert service.ended == ["sess_1"]


@in_virtual_time
async def test_guest_ends_nothing(service: FakeService) -> None:
    """A worker that only looked at another one's session does not end it, whatever its limits are."""
    owner = User(service, namespace="shop")
    guest = User(service, namespace="shop", max_idle_secs=60, max_session_secs=60)
    await owner.call(CREATE)
    assert "sess_1 is running" in await guest.call(LIST)
    await asyncio.sleep(1_000)
    assert service.running == ["sess_1"]


@in_virtual_time
async def test_worker_that_was_replaced_ends_nothing(service: FakeService) -> None:
    """After a hand-over the limits are the other worker's, until the conversation comes back."""
    voice: Any = {**takes(1), "room": room, "namespace": "shop"}
    user = User(service, max_idle_secs=60, **voice)
    await user.call(CREATE)
    user.toolkit._handed_over("sess_1")
    await asyncio.sleep(1_000)
    assert service.running == ["sess_1"]
    assert (await user.call(SAY, session_id="sess_1", text="Back again.")).startswith("Spoken")
    await asyncio.sleep(59)
    assert service.running == ["sess_1"]
    await asyncio.sleep(2)
    assert service.ended == ["sess_1"]


@in_virtual_time
async def test_who_speaks_through_it_takes_over_its_age(service: FakeService) -> None:
    """A session does not begin anew with the worker that speaks through it: its age counts from its start."""
    voice: Any = {**takes(1), "room": room, "namespace": "shop"}
    first, second = User(service, **voice), User(service, max_session_secs=100, **voice)
    await first.call(CREATE)
    started_at = datetime.fromtimestamp(time.time() - 70, UTC)
    service.sessions["sess_1"]["started_at"] = started_at.isoformat()
    assert (await second.call(SAY, session_id="sess_1", text="Hello.")).startswith("Spoken")
    await asyncio.sleep(27)
    assert service.running == ["sess_1"]
    await asyncio.sleep(3)
    assert service.ended == ["sess_1"]


@in_virtual_time
async def test_end_that_fails_is_tried_again(service: FakeService, caplog: pytest.LogCaptureFixture) -> None:
    """A session that cannot be ended at its limit is not told as ended; it is tried again half a minute later."""
    user = User(service, max_session_secs=60)
    await user.call(CREATE)
    service.faults.append(Reply(401))
    await asyncio.sleep(61)
    assert service.running == ["sess_1"]
    assert "Session sess_1 could not be ended at its limit" in caplog.text
    assert "Note" not in await user.call(END, session_id="sess_1")
    assert service.ended == ["sess_1"]
    await user.call(CREATE)
    service.faults.append(Reply(401))
    await asyncio.sleep(61)
    await asyncio.sleep(30)
    assert service.running == []
    assert rest("a session may last at most 60 s", "sess_2") in await user.call(LIST)


@in_virtual_time
async def test_session_that_ended_is_not_ended_again(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """What the model ended is over: no limit asks for it, and nothing is told."""
    caplog.set_level(logging.INFO)
    user = User(service, max_session_secs=60, max_idle_secs=60)
    await user.call(CREATE)
    await user.call(END, session_id="sess_1")
    before = len(service.log)
    await asyncio.sleep(1_000)
    assert service.log[before:] == []
    assert "Note" not in await user.call(LIST)
    assert user.toolkit._limits._watches == {}


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
@in_virtual_time
async def test_limits_outlive_the_block_with_its_sessions(native: bool, service: FakeService) -> None:
    """Sessions that the block's end leaves running still end at their limit."""
    user = User(service, max_session_secs=60, end_on_exit=False)
    if native:
        async with user.toolkit:
            await user.call(CREATE)
    else:
        with user.toolkit:
            await user.call(CREATE)
    assert service.running == ["sess_1"]
    await asyncio.sleep(61)
    assert service.ended == ["sess_1"]


@in_virtual_time
async def test_limits_end_with_the_block(service: FakeService) -> None:
    """The block ends its sessions itself; then nothing of the toolkit runs on."""
    user = User(service, max_session_secs=60)
    async with user.toolkit:
        await user.call(CREATE)
    loop = user.toolkit._loop
    assert isinstance(loop, Here)
    await asyncio.wait(loop.tasks)
    assert all(task.cancelled() for task in loop.tasks)
    assert service.ended == ["sess_1"]


def test_no_limits_no_watch() -> None:
    """A toolkit without limits starts no thread."""

    class NoLoop:
        def spawn(self, make: object) -> None:
            raise AssertionError("watched")

    limits = Limits(None, None, loop=NoLoop(), ledger=None, end=None)  # type: ignore[arg-type]
    limits.watch(None)  # type: ignore[arg-type]


async def test_loop_of_the_client_that_is_gone_is_told(service: FakeService) -> None:
    """An async client works on its own loop alone; if that is closed, the session cannot be ended, which is told."""
    user = User(service, "async-client-alone", max_session_secs=60)
    closed = asyncio.new_event_loop()
    closed.close()
    user.toolkit._home = closed
    with pytest.raises(AgentHumanError, match="loop of async_client is closed"):
        await user.toolkit._end_by_itself("sess_1")


def test_limit_on_the_real_loop(
    client: AgentHuman, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own thread the watch ends a session, too, with nobody else doing anything."""
    monkeypatch.setattr(AgentHumanToolkit.__private_attributes__["_loop"], "default_factory", BackgroundLoop)
    ended = threading.Event()
    process = service._process

    def noticed(request: httpx.Request) -> httpx.Response:
        response = process(request)
        if request.url.path.endswith("/end"):
            ended.set()
        return response

    service._process = noticed  # type: ignore[method-assign]
    with AgentHumanToolkit(client=client, max_session_secs=0.01) as toolkit:
        toolkit.get_tools()[0].invoke({})
        assert ended.wait(LIMIT_S)
        assert service.running == []
