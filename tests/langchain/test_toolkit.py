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

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, AuthenticationError, ConfigurationError
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain.tools import NAMES
from tests.client.conftest import API_KEY, ROOM, FakeService, Reply
from tests.langchain.conftest import runtime
from tests.langchain.toolbox import AVATARS, CREATE, END, GET, LIST, SAY, USAGE, by_name, silence

LIMIT_S = 30.0  # hang limit only


class ProblemError(Exception):
    """What a block may raise."""


class InterruptError(KeyboardInterrupt):
    """Ctrl-C during a request."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


async def enter(toolkit: AgentHumanToolkit, *, native: bool) -> None:
    """Begin a block."""
    if native:
        await toolkit.__aenter__()
    else:
        toolkit.__enter__()


def leave(toolkit: AgentHumanToolkit) -> None:
    """What the end of the block does first, while a call goes on."""
    toolkit._ledger.close()


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

    class BrokenSpeech:
        def has_link(self, session_id: str) -> bool:
            return False

        def hang_up(self, session_id: str) -> None:
            if session_id == "sess_2":
                raise LookupError("a defect")

        async def ahang_up(self, session_id: str) -> None:
            self.hang_up(session_id)

    toolkit._sessions._speech = BrokenSpeech()  # type: ignore[assignment]
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
    toolkit = AgentHumanToolkit(client=client, room=lambda _: leave(toolkit))
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
        toolkit = AgentHumanToolkit(async_client=client, room=lambda _: leave(toolkit))
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


@pytest.mark.parametrize("given", ["client", "async_client"])
async def test_client_of_the_other_kind_is_asked_for(
    given: str, client: AgentHuman, async_client: AsyncAgentHuman
) -> None:
    """With one kind of client alone, a call of the other kind says what to pass, to the programmer."""
    only: Any = {given: client if given == "client" else async_client}
    toolkit = AgentHumanToolkit(scope="account", tools=NAMES, tts=silence, **only)
    missing = "async_client" if given == "client" else "client"
    of_one_session = {"session_id": "sess_1"}
    for name, arguments in (
        (CREATE, {}),
        (GET, of_one_session),
        (LIST, {}),
        (END, of_one_session),
        (SAY, {**of_one_session, "text": "Hi."}),
        (AVATARS, {}),
        (USAGE, {}),
    ):
        tool = by_name(toolkit)[name]
        with pytest.raises(ConfigurationError, match=f"pass {missing}, too"):
            await tool.ainvoke(arguments) if given == "client" else tool.invoke(arguments)


@pytest.mark.parametrize("given", ["client", "async_client"])
async def test_block_of_the_other_kind_is_refused_at_its_begin(
    given: str, client: AgentHuman, async_client: AsyncAgentHuman, service: FakeService
) -> None:
    """A block that could not end its sessions is not entered, so none is opened in it; one of the right kind is."""
    only: Any = {given: client if given == "client" else async_client}
    toolkit = AgentHumanToolkit(**only)
    with pytest.raises(ConfigurationError, match="client for the other kind only"):
        await enter(toolkit, native=given == "client")
    if given == "client":
        with toolkit:
            toolkit.get_tools()[0].invoke({})
    else:
        async with toolkit:
            await toolkit.get_tools()[0].ainvoke({})
    assert service.ended == ["sess_1"]


def test_client_in_the_others_place_is_refused(client: AgentHuman, async_client: AsyncAgentHuman) -> None:
    """A client that is given under the other's name is told at construction."""
    with pytest.raises(ConfigurationError, match="pass this one as async_client"):
        AgentHumanToolkit(client=async_client)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="pass this one as client"):
        AgentHumanToolkit(async_client=client)  # type: ignore[arg-type]


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_two_blocks_at_a_time_are_refused(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """A second block, which would end the sessions of the first, is not entered; the first goes on."""
    with toolkit:
        toolkit.get_tools()[0].invoke({})
        with pytest.raises(ConfigurationError, match="in use by another block"):
            await enter(toolkit, native=native)
        assert service.running == ["sess_1"]
    assert service.ended == ["sess_1"]
    with toolkit:  # one after the other is right
        pass


def test_block_that_is_still_ending_is_one(client: AgentHuman) -> None:
    """While a block ends its sessions, another one is not entered: its sessions would lose what ends them."""
    told: list[str] = []

    class Voice:
        def close(self) -> None:
            with pytest.raises(ConfigurationError) as caught:
                toolkit.__enter__()
            told.append(str(caught.value))

    toolkit = AgentHumanToolkit(client=client)
    toolkit._speech = Voice()  # type: ignore[assignment]
    with toolkit:
        pass
    assert "in use by another block" in told[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_session", lambda session, request: None),
        ("room", None),
        ("scope", "account"),
        ("namespace", "shop"),
    ],
)
def test_fields_are_frozen(name: str, value: Any, toolkit: AgentHumanToolkit) -> None:
    """What the tools were made with cannot be changed later, which they would not learn of."""
    with pytest.raises(
        ConfigurationError, match=rf"{name} .* cannot be changed.* AgentHumanToolkit\({name}="
    ):
        setattr(toolkit, name, value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            {"aspect_ratio": "16:9"}, "aspect_ratio must be one of 4:3, 3:4, 1:1, not '16:9'", id="ratio"
        ),
        pytest.param(
            {"room": "wss://rooms.example.com"}, "room must be a LiveKitRoom, a DailyRoom or", id="room"
        ),
        pytest.param({"metadata": ["a"]}, "metadata must be a dict, or a function", id="metadata"),
        pytest.param({"metadata": {"client_ref": "1"}}, "must not hold 'client_ref'", id="reserved-metadata"),
        pytest.param(
            {"namespace": " "}, "namespace must be the name of your application", id="empty-namespace"
        ),
        pytest.param({"namespace": 7}, "namespace must be the name of your application", id="namespace"),
        pytest.param(
            {"max_session_secs": 0}, "max_session_secs must be a number of seconds above 0", id="no-time"
        ),
        pytest.param({"max_idle_secs": "60"}, "max_idle_secs must be a number of seconds above 0", id="text"),
        pytest.param({"max_idle_secs": float("inf")}, "None for no limit", id="infinite"),
        pytest.param({"tts": 7}, "tts", id="tts"),
        pytest.param({"avatar": 7}, "avatar: ", id="avatar"),
        # Forms of the first edition.
        pytest.param({"read_only": True}, "read_only is gone: .*tools=", id="read-only"),
        pytest.param({"scope": "toolkit"}, "scope='agent' now", id="scope"),
        pytest.param({"room": lambda: ROOM}, "room is called as room\\(request\\) now", id="old-room"),
        pytest.param(
            {"metadata": lambda: {"tenant": "t1"}},
            "metadata is called as metadata\\(request\\)",
            id="old-metadata",
        ),
        pytest.param(
            {"on_session": lambda session: None},
            "on_session is called as on_session\\(session, request\\) now",
            id="old-on-session",
        ),
    ],
)
def test_wrong_settings_are_told_at_once(options: dict[str, Any], sentence: str) -> None:
    """What cannot work is one error at construction, which says what to write instead."""
    with pytest.raises(ConfigurationError, match=sentence):
        AgentHumanToolkit(api_key=API_KEY, **options)


def test_unknown_argument_is_an_error_of_python() -> None:
    """A misspelt argument is refused as by any function."""
    with pytest.raises(TypeError, match="no argument 'avatr'"):
        AgentHumanToolkit(api_key=API_KEY, avatr="avat_1")  # type: ignore[call-arg]


def test_client_of_a_closed_loop_is_given_up() -> None:
    """A program that runs each request in an event loop of its own keeps the connections of none of them."""
    toolkit = AgentHumanToolkit(api_key=API_KEY, base_url="http://127.0.0.1:9")
    loops = []  # kept, as a client's connections would

    async def client_of_this_loop() -> Any:
        loops.append(asyncio.get_running_loop())
        return weakref.ref(toolkit._clients.async_driver().client)

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
        # Each version of Python words it in its own way.
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError), match=r"pickle|local object"):
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
