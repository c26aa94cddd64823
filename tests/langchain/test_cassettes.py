"""What the tools send and read over the wire, replayed from cassettes with the network blocked."""

import inspect
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._origin import Origin
from tests.client.conftest import ROOM, Time
from tests.langchain.conftest import Caller, CrashError, DiesOnce, ScriptedModel, call, opened_id
from tests.langchain.toolbox import AVATARS, CREATE, END, GET, LIST, USAGE, told
from tests.vcr_support import *  # noqa: F403 - fixtures
from tests.vcr_support import CASSETTES, RecordedService, interactions

FOLDER = CASSETTES / "langchain" / "test_cassettes"
KINDS = ["sync", "async"]
ASK: Any = {"messages": [HumanMessage("Show me your face.")]}
# With a thread the reference of a create follows from the call, so that a recording can hold it.
THREAD: Any = {"configurable": {"thread_id": "thread-1"}}
UNKNOWN = "sess_01H3Z8G9YR3K2N5M6P7Q8W4T"

Start = Callable[..., RecordedService]


class Agent:
    """An agent with the tools, on the recorded service."""

    def __init__(self, caller: Caller, service: RecordedService) -> None:
        self._service = service
        self._caller = caller
        self._clients = AsyncExitStack()

    async def aclose(self) -> None:
        await self._clients.aclose()

    def toolkit(self, **options: Any) -> AgentHumanToolkit:
        """A toolkit that waits for nothing."""
        api_key = options.pop("api_key", self._service.api_key)
        reach: Any = {"api_key": api_key, "base_url": self._service.base_url, "_clock": Time().clock()}
        client, async_client = AgentHuman(**reach), AsyncAgentHuman(**reach)
        self._clients.callback(client.close)
        self._clients.push_async_callback(async_client.aclose)
        return AgentHumanToolkit(client=client, async_client=async_client, **{"room": ROOM, **options})

    async def run(
        self,
        toolkit: AgentHumanToolkit,
        *script: Any,
        saver: Any = None,
        ask: Any = ASK,
        middleware: Sequence[Any] = (),
    ) -> list[ToolMessage]:
        """What the tools said in a run that follows the script, in a block of the toolkit."""
        agent = create_agent(
            ScriptedModel(script=[*script, AIMessage("Done.")]),
            toolkit.get_tools(),
            checkpointer=saver,
            middleware=middleware,
        )
        if self._caller.kind == "async":
            async with toolkit:
                return told((await agent.ainvoke(ask, THREAD))["messages"])
        with toolkit:
            return told(agent.invoke(ask, THREAD)["messages"])


@pytest.fixture(autouse=True)
def _tasks_have_no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangGraph's tasks have new ids in each run, and with them the references, which no recording could match."""
    monkeypatch.setattr(Origin, "key", property(lambda origin: origin.tool_call_id))


@pytest.fixture
async def agent(caller: Caller, recorded_service: Start) -> AsyncIterator[Agent]:
    agent = Agent(caller, recorded_service())
    yield agent
    await agent.aclose()


def opened(name: str, call_id: str) -> Callable[[Any], AIMessage]:
    """The wish to use a tool on the session that was opened."""
    return lambda messages: call(name, call_id, session_id=opened_id(messages))


@pytest.mark.vcr
@pytest.mark.block_network
async def test_life_of_a_session(agent: Agent) -> None:
    """An agent opens a session, reads it, lists it, ends it, and reads its bill; the block has nothing to end."""
    created, read, listed, ended, bill, left = await agent.run(
        agent.toolkit(),
        call(CREATE, "c1", aspect_ratio="1:1"),
        opened(GET, "c2"),
        call(LIST, "c3"),
        lambda messages: call(END, "c4", session_id=messages[2].artifact["session_id"]),
        lambda messages: call(GET, "c5", session_id=messages[2].artifact["session_id"]),
        call(LIST, "c6"),
    )
    session_id = created.artifact["session_id"]
    assert created.content.startswith(f"Opened session {session_id}")
    assert read.artifact["status"] == "started"
    assert session_id in listed.content
    assert ended.artifact["status"] == "ended"
    assert bill.artifact["duration"] is not None
    assert session_id not in left.content


@pytest.mark.vcr
@pytest.mark.block_network
async def test_forgotten_session_is_ended_by_the_block(agent: Agent) -> None:
    """In a room of the service, and with nobody to end it: the block's own end is on the wire."""
    toolkit = agent.toolkit(room=None)
    (created,) = await agent.run(toolkit, call(CREATE, "c1"))
    session = toolkit.sessions[created.artifact["session_id"]]
    assert session.has_ended
    assert session.room is not None
    assert session.room.url not in created.content


@pytest.mark.vcr
@pytest.mark.block_network
async def test_second_session_beyond_the_plan(agent: Agent) -> None:
    """The model is told that its sessions are used up; nothing is tried again."""
    first, second = await agent.run(agent.toolkit(), call(CREATE, "c1"), call(CREATE, "c2"))
    assert first.status == "success"
    assert second.status == "error"
    assert "Do not retry before a session is ended" in second.content
    assert first.artifact["session_id"] in second.content


@pytest.mark.vcr
@pytest.mark.block_network
async def test_wrong_key(agent: Agent) -> None:
    """The model is told that only the operator can help."""
    (refused,) = await agent.run(agent.toolkit(api_key="ah_test_wrong"), call(CREATE, "c1"))
    assert refused.status == "error"
    assert "operator" in refused.content
    assert "ah_test_wrong" not in refused.content


@pytest.mark.vcr
@pytest.mark.block_network
async def test_unknown_session_of_the_account(agent: Agent) -> None:
    """Where any session may be named, one that is not there is told as such."""
    read, ended = await agent.run(
        agent.toolkit(scope="account"),
        call(GET, "c1", session_id=UNKNOWN),
        call(END, "c2", session_id=UNKNOWN),
    )
    for refused in (read, ended):
        assert refused.status == "error"
        assert "Session not found" in refused.content


@pytest.mark.vcr
@pytest.mark.block_network
async def test_replay_in_a_new_toolkit(agent: Agent) -> None:
    """A run that died and is resumed without memory looks for its session before it would open one."""
    saver = InMemorySaver()
    died = agent.toolkit(end_on_exit=False)
    with pytest.raises(CrashError):
        await agent.run(died, call(CREATE, "c1"), saver=saver, middleware=[DiesOnce()])
    (again,) = await agent.run(agent.toolkit(), saver=saver, ask=None)
    assert again.artifact["session_id"] in died.sessions
    assert "was opened by this call before" in again.content


@pytest.mark.vcr
@pytest.mark.block_network
async def test_another_worker(agent: Agent) -> None:
    """A worker that did not open the session finds it by its thread, looks at it and ends it."""
    (opened_there,) = await agent.run(
        agent.toolkit(end_on_exit=False, namespace="shop", metadata={"tenant": "t1"}), call(CREATE, "c1")
    )
    session_id = opened_there.artifact["session_id"]
    listed, ended = await agent.run(
        agent.toolkit(namespace="shop"), call(LIST, "c2"), call(END, "c3", session_id=session_id)
    )
    assert session_id in listed.content
    assert ended.artifact["status"] == "ended"


@pytest.mark.vcr
@pytest.mark.block_network
async def test_avatars_and_what_is_left(agent: Agent) -> None:
    """The two tools that are off by default read their lists, with one request each."""
    avatars, left = await agent.run(
        agent.toolkit(tools=[AVATARS, USAGE]), call(AVATARS, "c1"), call(USAGE, "c2")
    )
    assert avatars.artifact["avatars"]
    assert "minutes are left" in left.content


def test_no_cassette_is_orphaned() -> None:
    """Every recording belongs to a test of this module, and every test has its recording."""
    module = inspect.getmodule(test_no_cassette_is_orphaned)
    names = [
        name
        for name, item in vars(module).items()
        if any(mark.name == "vcr" for mark in getattr(item, "pytestmark", []))
    ]
    owned = {f"{name}[{kind}].yaml" for name in names for kind in KINDS}
    assert {path.name for path in FOLDER.iterdir()} == owned


def test_both_ways_send_the_same() -> None:
    """A tool that is called sync and one that is called async make the same requests, in the same order."""
    for path in FOLDER.glob("*[[]sync].yaml"):
        twin = path.with_name(path.name.replace("[sync]", "[async]"))
        sync, native = ([_plain(request) for request, _ in interactions(each)] for each in (path, twin))
        assert sync == native, path.name


def _plain(request: Any) -> Any:
    """A request without what the service made up."""
    path = "/".join("ID" if part.startswith("sess_") else part for part in request.path.split("/"))
    return request.method, path, request.query, json.loads(request.body or "null")


def test_one_create_each() -> None:
    """No recording holds two creates with one reference: the second would be billed."""
    for path in FOLDER.iterdir():
        creates = [
            json.loads(request.body)["metadata"]["client_ref"]
            for request, _ in interactions(path)
            if (request.method, request.path) == ("POST", "/v1/sessions")
        ]
        assert len(creates) == len(set(creates)), path.name
