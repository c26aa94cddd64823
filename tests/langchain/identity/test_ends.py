"""What ends the sessions of a conversation or of a run, and whose it leaves alone."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import END as END_NODE
from langgraph.graph import START, MessagesState, StateGraph

from agenthuman_plugins.langchain import SessionCleanupMiddleware
from tests.langchain.conftest import ScriptedModel, call
from tests.langchain.identity.owners import HERE, OneProcess, Place
from tests.langchain.identity.ways import WAYS, Way, create_agent
from tests.langchain.toolbox import CREATE

LIMIT_S = 60.0  # hang limit only
BOTH = pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
IDS = (
    pytest.param("7", id="str"),
    pytest.param(7, id="int"),
    pytest.param(uuid.UUID(int=7), id="uuid"),
)


async def open_at(world: OneProcess, place: Place, way: Way, thread: object) -> str:
    told = await world.call(replace(place, thread=thread), way, CREATE, "call_1")
    assert told.status == "success"
    return str(told.artifact["session_id"])


async def end_thread(world: OneProcess, place: Place, thread: object, native: bool) -> None:
    toolkit = world.toolkit(place)
    if native:
        await toolkit.aend_sessions(thread)
    else:
        toolkit.end_sessions(thread)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thread", IDS)
@BOTH
async def test_conversation_is_ended_by_its_id(thread: object, way: str, native: bool) -> None:
    """Whatever type the id is of, in the agent's config and in the call, its sessions end and no others."""
    world = OneProcess()
    mine = await open_at(world, HERE, WAYS[way], thread)
    others = [await open_at(world, HERE, WAYS[way], other) for other in ("70", 8, None)]
    await end_thread(world, HERE, thread if native else str(thread), native)
    assert world.service.ended == [mine]
    assert world.service.running == others


@pytest.mark.parametrize("thread", IDS)
@BOTH
async def test_conversation_is_ended_by_a_worker_that_did_not_open_it(thread: object, native: bool) -> None:
    """With a namespace, the sessions of a conversation end wherever they were opened, a subagent's too."""
    world = OneProcess()
    way = WAYS["ToolNode in a graph of one's own"]
    mine = [await open_at(world, replace(HERE, agent=agent), way, thread) for agent in (None, "alice")]
    other_user = await open_at(world, HERE, way, "70")
    other_application = await open_at(world, replace(HERE, namespace="desk"), way, thread)
    await end_thread(world, replace(HERE, worker=2), thread, native)
    assert sorted(world.service.ended) == mine
    assert world.service.running == [other_user, other_application]


@BOTH
async def test_other_processes_are_left_alone_without_a_namespace(native: bool) -> None:
    """Without one, a process ends what it opened itself; another one's thread of the same name is a stranger's."""
    world = OneProcess()
    lonely = replace(HERE, namespace=None)
    theirs = await open_at(world, lonely, WAYS["create_agent"], "7")
    mine = await open_at(world, replace(lonely, worker=2), WAYS["create_agent"], "7")
    await end_thread(world, replace(lonely, worker=2), "7", native)
    assert (world.service.ended, world.service.running) == ([mine], [theirs])


@BOTH
async def test_what_is_of_no_conversation_is_ended_alone(native: bool) -> None:
    """`None` is the calls outside of any conversation, and not a conversation called None."""
    world = OneProcess()
    way = WAYS["hand-written node"]
    outside = await open_at(world, HERE, way, None)
    inside = await open_at(world, HERE, way, "None")
    await end_thread(world, HERE, None, native)
    assert (world.service.ended, world.service.running) == ([outside], [inside])


# --- the middleware


def agent_with(world: OneProcess, calls: list[Any], tools: Sequence[BaseTool] = (), **options: Any) -> Any:
    """An agent of the toolkit that makes these calls, with the middleware."""
    toolkit = world.toolkit(HERE)
    model = ScriptedModel(script=[*calls, AIMessage("Done.")])
    middleware = [SessionCleanupMiddleware(toolkit)]
    return create_agent(model, [*toolkit.get_tools(), *tools], middleware=middleware, **options)


async def run(agent: Any, native: bool, thread: object = "ada") -> None:
    config: Any = {"configurable": {"thread_id": thread}}
    ask: Any = {"messages": [HumanMessage("Go on.")]}
    async with asyncio.timeout(LIMIT_S):
        if native:
            await agent.ainvoke(ask, config)
        else:
            agent.invoke(ask, config)


def ask_subagent(sub: Any, fails: bool = False) -> BaseTool:
    """A tool of the agent above that runs a subagent, whose failure the agent above survives."""
    ask: Any = {"messages": [HumanMessage("Go on.")]}

    def func() -> str:
        try:
            sub.invoke(ask)
        except ConnectionError:
            if fails:
                return "It failed."
            raise
        return "Done."

    async def coroutine() -> str:
        try:
            await sub.ainvoke(ask)
        except ConnectionError:
            if fails:
                return "It failed."
            raise
        return "Done."

    return StructuredTool.from_function(func, coroutine=coroutine, name="ask", description="Ask a subagent.")


class Looking:
    """A tool of the agent above that looks which sessions run, and the sessions of another user."""

    def __init__(self, world: OneProcess) -> None:
        self.seen: list[list[str]] = []

        def look() -> str:
            self.seen.append(list(world.service.running))
            return "Looked."

        self.tool = StructuredTool.from_function(look, name="look", description="Look.")


@BOTH
@pytest.mark.parametrize("fails", [False, True], ids=["at-its-end", "when-its-model-fails"])
async def test_subagents_middleware_ends_what_that_run_of_it_opened(native: bool, fails: bool) -> None:
    """Neither the session of the agent above, nor that of another subagent, nor of another user is ended."""
    world = OneProcess()
    stranger = await open_at(world, HERE, WAYS["create_agent"], "bob")
    look = Looking(world)
    failure = [ConnectionError("the model is down")] if fails else []
    sub = agent_with(world, [call(CREATE, "sub_1"), *failure], name="alice")
    toolkit = world.toolkit(HERE)
    script = [call(CREATE, "up_1"), call("ask", "up_2"), call("look", "up_3"), AIMessage("Done.")]
    above = create_agent(
        ScriptedModel(script=script), [*toolkit.get_tools(), ask_subagent(sub, fails), look.tool]
    )
    await run(above, native)
    assert look.seen == [[stranger, "sess_2"]]
    assert world.service.ended == ["sess_3"]


@BOTH
async def test_middleware_of_an_agent_that_is_a_node_ends_its_own(native: bool) -> None:
    """The same where the subagent is a node of a graph, and so its nodes have other names."""
    world = OneProcess()
    toolkit = world.toolkit(HERE)
    first = create_agent(
        ScriptedModel(script=[call(CREATE), AIMessage("Done.")]), toolkit.get_tools(), name="alice"
    )
    graph = StateGraph(MessagesState)
    graph.add_node("alice", first)
    graph.add_node("bob", agent_with(world, [call(CREATE)], name="bob"))
    graph.add_edge(START, "alice")
    graph.add_edge("alice", "bob")
    graph.add_edge("bob", END_NODE)
    await run(graph.compile(), native)
    assert (world.service.running, world.service.ended) == (["sess_1"], ["sess_2"])


@BOTH
async def test_middleware_of_the_conversations_agent_ends_all_of_it(native: bool) -> None:
    """At the end of the run above, the sessions of its subagents end, too, and no other user's."""
    world = OneProcess()
    stranger = await open_at(world, HERE, WAYS["create_agent"], "bob")
    toolkit = world.toolkit(HERE)
    sub = create_agent(
        ScriptedModel(script=[call(CREATE), AIMessage("Done.")]), toolkit.get_tools(), name="alice"
    )
    above = agent_with(world, [call(CREATE), call("ask", "call_2")], [ask_subagent(sub)])
    await run(above, native)
    assert sorted(world.service.ended) == ["sess_2", "sess_3"]
    assert world.service.running == [stranger]


@BOTH
async def test_middleware_of_a_thread_with_an_id_of_another_type(native: bool) -> None:
    """A conversation whose id is a UUID is ended, too."""
    world = OneProcess()
    await run(agent_with(world, [call(CREATE)]), native, uuid.UUID(int=7))
    assert world.service.ended == ["sess_1"]


@BOTH
async def test_middleware_leaves_a_subagents_earlier_run_alone(native: bool) -> None:
    """A subagent that is asked twice ends what its second run opened; the first run had no middleware."""
    world = OneProcess()
    toolkit = world.toolkit(HERE)
    first = create_agent(
        ScriptedModel(script=[call(CREATE), AIMessage("Done.")]), toolkit.get_tools(), name="alice"
    )
    second = agent_with(world, [call(CREATE)], name="alice")
    agents = iter([first, second])
    ask: Any = {"messages": [HumanMessage("Go on.")]}

    def func() -> str:
        next(agents).invoke(ask)
        return "Done."

    async def coroutine() -> str:
        await next(agents).ainvoke(ask)
        return "Done."

    tool = StructuredTool.from_function(func, coroutine=coroutine, name="ask", description="Ask.")
    script = [call("ask", "call_1"), call("ask", "call_2"), AIMessage("Done.")]
    await run(create_agent(ScriptedModel(script=script), [tool]), native)
    assert (world.service.running, world.service.ended) == (["sess_1"], ["sess_2"])


async def test_tool_that_fails_in_a_subagent_ends_that_run_alone() -> None:
    """An error of a tool of the subagent ends the subagent's session, not the one of the agent above."""
    world = OneProcess()

    def fail() -> str:
        raise ConnectionError("a tool is down")

    broken = StructuredTool.from_function(fail, name="broken", description="Fail.")
    sub = agent_with(world, [call(CREATE), call("broken", "call_2")], [broken], name="alice")
    script = [call(CREATE), call("ask", "call_2"), AIMessage("Done.")]
    tools = [*world.toolkit(HERE).get_tools(), ask_subagent(sub, fails=True)]
    await run(create_agent(ScriptedModel(script=script), tools), native=True)
    assert (world.service.running, world.service.ended) == (["sess_1"], ["sess_2"])
