"""The application learns of each session before the model does, or there is no session."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException
from pydantic import BaseModel

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, ConfigurationError, Session
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest
from tests.client.conftest import ROOM, FakeService, Reply
from tests.langchain.conftest import Caller, runtime
from tests.langchain.toolbox import all_tools

CREATE = "agent_human_create_session"
LIMIT_S = 30.0  # hang limit only

Create = Callable[..., Awaitable[ToolMessage]]
MakeCreate = Callable[..., Create]


class ProblemError(Exception):
    """What an application's function may raise."""


@pytest.fixture
def make(caller: Caller, client: AgentHuman, async_client: AsyncAgentHuman) -> MakeCreate:
    """Make the create tool of a toolkit with these settings."""

    def make(**options: Any) -> Create:
        use = caller.of(AgentHumanToolkit(client=client, async_client=async_client, **options))
        return lambda **arguments: use(CREATE, **arguments)

    return make


async def test_application_gets_the_whole_session_once(make: MakeCreate) -> None:
    """The function gets the session, tokens included, and who asked for it; not again for a replayed call."""
    told: list[tuple[Session, SessionRequest]] = []
    create = make(room=ROOM, on_session=lambda *both: told.append(both), metadata={"tenant": "t1"})
    for _ in range(2):
        await create(context=runtime("thread-1"))
    ((session, request),) = told
    assert session.session_id == "sess_1"
    assert session.session_token is not None
    assert request == SessionRequest("thread-1", "call_1", metadata={"tenant": "t1"})


async def test_session_is_known_to_the_toolkit_before(caller: Caller, client: Any, async_client: Any) -> None:
    """Within the function, the session is already among the toolkit's own."""
    known: list[bool] = []

    def note(session: Session, _: SessionRequest) -> None:
        known.append(session.session_id in toolkit.sessions)

    toolkit = AgentHumanToolkit(client=client, async_client=async_client, on_session=note)
    await caller.of(toolkit)(CREATE)
    assert known == [True]


async def test_session_that_the_function_ends_is_not_told_as_open(
    caller: Caller, service: FakeService
) -> None:
    """The model is not told that a session runs that the application ended when it heard of it."""
    toolkit = all_tools(service, on_session=lambda *_: toolkit.end_sessions(None))
    told = await caller.of(toolkit)(CREATE)
    assert (told.status, told.content) == (
        "error",
        "Session sess_1 was opened, and the application ended it at once: no avatar is running.",
    )


@pytest.mark.parametrize("error", [ProblemError, ConfigurationError])
async def test_failing_function_costs_no_session(
    error: type[Exception], make: MakeCreate, service: FakeService
) -> None:
    """If the application cannot take the session, it is ended, and the application's error is raised."""

    def refuse(session: Session, _: SessionRequest) -> None:
        raise error("no viewer")

    with pytest.raises(error, match="no viewer"):
        await make(on_session=refuse)()
    assert service.ended == ["sess_1"]


async def test_failing_end_is_tried_again_at_the_end_of_the_block(
    caller: Caller, client: AgentHuman, async_client: AsyncAgentHuman, service: FakeService
) -> None:
    """If the session of a failing function cannot be ended at once, the block ends it."""

    def refuse(session: Session, _: SessionRequest) -> None:
        service.faults.append(Reply(401))
        raise ProblemError

    with pytest.raises(ProblemError):
        async with AgentHumanToolkit(client=client, async_client=async_client, on_session=refuse) as toolkit:
            await caller.of(toolkit)(CREATE)
    assert service.ended == ["sess_1"]


async def test_ctrl_c_in_the_function_costs_no_session(client: AgentHuman, service: FakeService) -> None:
    """Ctrl-C while the application is being told ends the session."""

    def interrupted(session: Session, _: SessionRequest) -> None:
        raise KeyboardInterrupt

    toolkit = AgentHumanToolkit(client=client, on_session=interrupted)
    with pytest.raises(KeyboardInterrupt):
        toolkit.get_tools()[0].invoke({})
    assert service.ended == ["sess_1"]
    assert toolkit.sessions["sess_1"].has_ended


async def test_cancelled_function_costs_no_session(
    async_client: AsyncAgentHuman, service: FakeService
) -> None:
    """A call that is cancelled while the application is being told ends its session."""
    reached = asyncio.Event()

    async def wait(session: Session, _: SessionRequest) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(LIMIT_S):
        toolkit = AgentHumanToolkit(async_client=async_client, on_session=wait)
        task = asyncio.ensure_future(toolkit.get_tools()[0].ainvoke({}))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.ended == ["sess_1"]
    assert toolkit.sessions["sess_1"].has_ended


async def test_async_function_is_awaited(async_client: AsyncAgentHuman) -> None:
    """In async calls an async function, or an object that is called like one, is awaited."""
    told: list[str] = []

    class Note:
        async def __call__(self, session: Session, _: SessionRequest) -> None:
            told.append(session.session_id)

    for on_session in (Note(), Note().__call__):
        toolkit = AgentHumanToolkit(async_client=async_client, on_session=on_session)
        await toolkit.get_tools()[0].ainvoke({})
    assert told == ["sess_1", "sess_2"]


async def test_async_function_opens_no_session_in_a_sync_call(
    client: AgentHuman, service: FakeService
) -> None:
    """A sync call says what is wrong to the application, before a session is billed; or it ends that."""

    async def note(session: Session, _: SessionRequest) -> None:
        pass

    with pytest.raises(ConfigurationError, match="use ainvoke"):
        AgentHumanToolkit(client=client, on_session=note).get_tools()[0].invoke({})
    assert service.requests == []
    with pytest.raises(ConfigurationError, match="use ainvoke"):
        # Not known to be async before it is called.
        AgentHumanToolkit(client=client, on_session=lambda *both: note(*both)).get_tools()[0].invoke({})  # noqa: PLW0108
    assert service.running == []


async def test_plain_functions_do_not_block_the_loop(async_client: AsyncAgentHuman) -> None:
    """In async calls plain functions, which may block, run in a thread."""
    threads: list[int] = []
    toolkit = AgentHumanToolkit(
        async_client=async_client,
        room=lambda _: threads.append(threading.get_ident()),
        on_session=lambda *_: threads.append(threading.get_ident()),
    )
    create = toolkit.get_tools()[0]
    await create.ainvoke({})  # imports and caches of the libraries
    with blockbuster_ctx():
        await create.ainvoke({})
    assert len(threads) == 4
    assert threading.get_ident() not in threads


class Number(BaseModel):
    value: int


@pytest.mark.parametrize("place", ["room", "metadata", "on_session"])
async def test_validation_error_of_the_application_is_its_own(
    place: str, make: MakeCreate, service: FakeService
) -> None:
    """LangChain takes any `ValidationError` for wrong arguments; one of the application's models is none."""

    def wrong(*_: Any) -> None:
        Number(value="seven")  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match=f"{place} raised a pydantic.ValidationError"):
        await make(**{place: wrong})()
    assert service.running == []


async def test_application_may_tell_the_model_no(make: MakeCreate, service: FakeService) -> None:
    """A `ToolException` of the application is its word to the model."""

    def full(_: SessionRequest) -> None:
        raise ToolException("No room is free. Try again in an hour.")

    told = await make(room=full)()
    assert (told.status, told.content) == ("error", "No room is free. Try again in an hour.")
    assert service.requests == []
