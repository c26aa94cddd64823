"""The toolkit: settings, and no session that outlives its block."""

import asyncio
import copy
import gc
import logging
import os
import pickle
import subprocess
import sys
import weakref
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AsyncAgentHuman, AuthenticationError, ConfigurationError
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import API_KEY, ROOM, FakeService, Reply
from tests.langchain.conftest import runtime
from tests.langchain.toolbox import CREATE, END, GET, LIST, by_name

LIMIT_S = 10.0  # hang limit only


class ProblemError(Exception):
    """What a block may raise."""


class InterruptError(KeyboardInterrupt):
    """Ctrl-C during a request."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


@pytest.mark.parametrize("error", [None, ProblemError, KeyboardInterrupt, asyncio.CancelledError])
async def test_block_ends_what_its_tools_opened(
    error: type[BaseException] | None, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """On every way out, sync and async, all open sessions are ended, and the ended ones are left alone."""
    create, *_, end = toolkit.get_tools()

    async def run(*, native: bool) -> None:
        def body() -> None:
            create.invoke({})
            end.invoke({"session_id": create.invoke({}).split()[2].strip(";")})
            create.invoke({})
            if error is not None:
                raise error

        if native:
            async with toolkit:
                body()
        else:
            with toolkit:
                body()

    for native in (False, True):
        service.ended.clear()
        if error is None:
            await run(native=native)
        else:
            with pytest.raises(error):
                await run(native=native)
        assert service.running == []
        assert len(service.ended) == len(set(service.ended)) == 3
        assert all(session.has_ended for session in toolkit.sessions.values())


async def test_cancel_during_the_end_waits_for_it(toolkit: AgentHumanToolkit, service: FakeService) -> None:
    """A second cancellation, while sessions are being ended, does not leave them open."""
    inside = asyncio.Event()

    async def run() -> None:
        async with toolkit:
            await toolkit.get_tools()[0].ainvoke({})
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(LIMIT_S):
        task = asyncio.ensure_future(run())
        await inside.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.running == []


async def test_failing_end_is_raised_and_the_others_are_ended(
    toolkit: AgentHumanToolkit, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """One session that cannot be ended does not keep the next from it, and does not go unseen."""
    with pytest.raises(AuthenticationError), toolkit:  # noqa: PT012 - it is the block's end that raises
        for _ in range(2):
            toolkit.get_tools()[0].invoke({})
        service.faults.append(Reply(401))
    assert service.running == ["sess_1"]
    assert "sess_1 could not be ended" in caplog.text


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_defect_while_ending_does_not_keep_the_others_open(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """Whatever goes wrong with one session or its speech link, the block is left when all were ended."""

    class BrokenLinks:
        def hang_up(self, session_id: str) -> None:
            if session_id == "sess_2":
                raise LookupError("a defect")

        async def ahang_up(self, session_id: str) -> None:
            self.hang_up(session_id)

    toolkit._end._links = BrokenLinks()
    for _ in range(3):
        toolkit.get_tools()[0].invoke({})
    with pytest.raises(LookupError):
        await toolkit.aend_sessions(None) if native else toolkit.end_sessions(None)
    assert service.running == []


async def test_failing_end_does_not_hide_the_blocks_error(
    toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """The error of the run is the one that is raised."""
    with pytest.raises(ProblemError):  # noqa: PT012 - the block's end must not raise another
        async with toolkit:
            await toolkit.get_tools()[0].ainvoke({})
            service.faults.append(Reply(401))
            raise ProblemError


async def test_sessions_may_be_kept(client: Any, service: FakeService) -> None:
    """With `end_on_exit=False` a session outlives the block, for somebody who joins later."""
    with AgentHumanToolkit(client=client, room=ROOM, end_on_exit=False) as toolkit:
        toolkit.get_tools()[0].invoke({})
    assert service.running == ["sess_1"]
    assert list(toolkit.sessions) == ["sess_1"]


async def test_session_that_opens_after_the_block_is_ended_at_once(client: Any, service: FakeService) -> None:
    """A create that another thread finishes too late does not stay open."""
    toolkit = AgentHumanToolkit(client=client, room=lambda: toolkit._ledger.close() or None)
    assert "ended at once" in toolkit.get_tools()[0].invoke({})
    assert service.running == []


async def test_late_session_is_ended_although_its_call_is_cancelled(service: FakeService, time: Any) -> None:
    """A create that finishes after the block ends its session, also when its task is cancelled at that."""
    ending, go_on = asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/end"):
            ending.set()
            await go_on.wait()
        return service.handle(request)

    async with asyncio.timeout(LIMIT_S), httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        toolkit = AgentHumanToolkit(async_client=client, room=lambda: toolkit._ledger.close() or None)
        task = asyncio.ensure_future(toolkit.get_tools()[0].ainvoke({}))
        await ending.wait()
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.running == []


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_no_session_is_opened_after_the_block(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """A run that goes on after its block is told so, and nothing is billed."""
    with toolkit:
        pass
    create = toolkit.get_tools()[0]
    assert "run is over" in (await create.ainvoke({}) if native else create.invoke({}))
    assert service.requests == []


async def test_toolkit_can_be_used_again(toolkit: AgentHumanToolkit, service: FakeService) -> None:
    """A second block opens and ends its own sessions."""
    for _ in range(2):
        with toolkit:
            toolkit.get_tools()[0].invoke({})
    assert service.ended == ["sess_1", "sess_2"]


async def test_application_has_the_whole_session(toolkit: AgentHumanToolkit) -> None:
    """What the model must not see, the application finds under `sessions`."""
    toolkit.get_tools()[0].invoke({})
    token = toolkit.sessions["sess_1"].session_token
    assert token is not None
    assert token.get_secret_value() == "seeded-session-token"


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and address come from the environment; the key is a secret."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", API_KEY)
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", "http://127.0.0.1:8000")
    toolkit = AgentHumanToolkit()
    assert toolkit.api_key is not None
    assert toolkit.api_key.get_secret_value() == API_KEY
    assert toolkit.base_url == "http://127.0.0.1:8000"
    assert API_KEY not in repr(toolkit)


@pytest.mark.parametrize("value", [None, ""])
def test_missing_key_fails_at_construction(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is told to the programmer, not to a model later."""
    if value is not None:
        monkeypatch.setenv("AGENTHUMAN_API_KEY", value)
    with pytest.raises(ConfigurationError, match="AGENTHUMAN_API_KEY"):
        AgentHumanToolkit()


async def test_client_of_the_other_kind_is_asked_for(client: Any) -> None:
    """With a sync client alone, an async call says what to pass, to the programmer."""
    toolkit = AgentHumanToolkit(client=client, scope="account")
    for name, arguments in (
        (CREATE, {}),
        (GET, {"session_id": "sess_1"}),
        (LIST, {}),
        (END, {"session_id": "sess_1"}),
    ):
        with pytest.raises(ConfigurationError, match="pass async_client too"):
            await by_name(toolkit)[name].ainvoke(arguments)


def test_client_of_a_closed_loop_is_given_up() -> None:
    """A program that runs each request in an event loop of its own keeps the connections of none of them."""
    toolkit = AgentHumanToolkit(api_key=API_KEY, base_url="http://127.0.0.1:9")
    loops = []  # kept, as a client's connections would

    async def client_of_this_loop() -> Any:
        loops.append(asyncio.get_running_loop())
        return weakref.ref(toolkit._clients.async_client())

    clients = [asyncio.run(client_of_this_loop()) for _ in range(3)]
    gc.collect()
    assert [client() is None for client in clients] == [True, True, False]


def test_repr_holds_no_room_token(client: Any) -> None:
    """A toolkit that is printed shows no credential."""
    assert "seeded" not in repr(AgentHumanToolkit(client=client, room=ROOM))


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, pickle.dumps, lambda toolkit: toolkit.model_copy()],
    ids=["copy", "deepcopy", "pickle", "model-copy"],
)
def test_toolkit_is_not_duplicated(duplicate: Any) -> None:
    """Sessions have one owner and a key stays where it is: neither is copied or written down."""
    toolkit = AgentHumanToolkit(api_key=API_KEY, room=ROOM)
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(toolkit)
    for tool in toolkit.get_tools():
        with pytest.raises(TypeError):
            pickle.dumps(tool)


def test_dumps_hold_no_secret() -> None:
    """What pydantic makes of a toolkit, for whom it may concern, holds neither key nor token."""
    toolkit = AgentHumanToolkit(api_key=API_KEY, room=ROOM)
    for shown in (
        repr(toolkit),
        str(toolkit.model_dump()),
        toolkit.model_dump_json(),
        repr(toolkit.get_tools()),
    ):
        assert API_KEY not in shown
        assert "seeded" not in shown


def test_sessions_are_read_only(toolkit: AgentHumanToolkit) -> None:
    """What the application is shown cannot change what the toolkit ends."""
    toolkit.get_tools()[0].invoke({})
    with pytest.raises(TypeError):
        del toolkit.sessions["sess_1"]  # type: ignore[attr-defined]
    assert list(toolkit.sessions) == ["sess_1"]


def test_ctrl_c_during_the_end_ends_all_the_same(toolkit: AgentHumanToolkit, service: FakeService) -> None:
    """An interrupt while sessions are being ended is raised when all of them are."""
    with pytest.raises(KeyboardInterrupt), toolkit:  # noqa: PT012 - it is the block's end that raises
        for _ in range(3):
            toolkit.get_tools()[0].invoke({})
        service.faults.extend([None, InterruptError])  # type: ignore[list-item]
    assert service.running == []


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_conversation_is_ended_when_it_is_over(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """The sessions of one thread, or those of none, are ended; the others run on."""
    for thread in ("ada", "bob", None):
        await toolkit.get_tools()[0].ainvoke({"runtime": runtime(thread)})
    for thread, running in (("ada", ["sess_2", "sess_3"]), (None, ["sess_2"])):
        if native:
            await toolkit.aend_sessions(thread)
        else:
            toolkit.end_sessions(thread)
        assert service.running == running


def test_nothing_secret_is_logged(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    """At no level does a key or a token reach the log."""
    caplog.set_level(logging.NOTSET)
    with AgentHumanToolkit(client=client, room=ROOM) as toolkit:
        toolkit.get_tools()[0].invoke({})
    assert "seeded" not in caplog.text


def test_import_needs_langchain_core_alone() -> None:
    """Neither langchain nor langgraph is loaded, and none of the media packages."""
    script = (
        "import sys, agenthuman_plugins.langchain; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=dict(os.environ),
    )
    loaded = set(done.stdout.split())
    assert "langchain_core" in loaded
    assert not loaded & {"langchain", "langgraph", "livekit", "pipecat", "numpy", "fastapi"}
