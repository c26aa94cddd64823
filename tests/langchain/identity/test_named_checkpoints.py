"""A run may name the checkpoint that it goes on from, to resume it or to fork it; a resume opens no second session."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import FakeService
from tests.langchain.conftest import ScriptedModel
from tests.langchain.identity.test_exactly_once import FORKS_DIFFER
from tests.langchain.toolbox import CREATE

THREAD: Any = {"configurable": {"thread_id": "thread-1"}}
ASK = {"messages": [HumanMessage("Show yourself.")]}
DONE = AIMessage("Done.")

Graph = Any  # CompiledStateGraph, whose type parameters differ between the versions
Build = Callable[..., Graph]


def calls(*names: str) -> AIMessage:
    """One message with a call of each tool; the ids are those of any other message."""
    wishes = [
        {"name": name, "args": {}, "id": f"call_{at}", "type": "tool_call"} for at, name in enumerate(names)
    ]
    return AIMessage("", tool_calls=wishes)


def scripted(script: Sequence[AIMessage]) -> ScriptedModel:
    """A model of its own messages: a graph gives each an id."""
    return ScriptedModel(script=[message.model_copy(deep=True) for message in script])


def by_agent(script: Sequence[AIMessage], tools: Sequence[BaseTool], **options: Any) -> Graph:
    return create_agent(scripted(script), list(tools), **options)


def by_hand(script: Sequence[AIMessage], tools: Sequence[BaseTool], **options: Any) -> Graph:
    """The same with a tool node of one's own, which injects nothing and repeats all calls of a message."""
    model, named = scripted(script), {each.name: each for each in tools}

    def act(state: MessagesState) -> dict[str, Any]:
        return {"messages": [named[wish["name"]].invoke(wish) for wish in state["messages"][-1].tool_calls]}  # type: ignore[union-attr]

    async def aact(state: MessagesState) -> dict[str, Any]:
        wishes = state["messages"][-1].tool_calls  # type: ignore[union-attr]
        return {"messages": [await named[wish["name"]].ainvoke(wish) for wish in wishes]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", RunnableLambda(act, aact))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    graph.add_edge("tools", "model")
    return graph.compile(**options)


@tool
def ask_a_human() -> str:
    """Ask a human."""
    return str(interrupt("May I?"))


@pytest.fixture(params=[by_agent, by_hand], ids=["agent", "by hand"])
def build(request: pytest.FixtureRequest) -> Build:
    build: Build = request.param
    return build


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a graph on one of the two paths."""

    async def run(graph: Graph, wish: Any, config: Any = THREAD) -> Any:
        return graph.invoke(wish, config) if request.param == "sync" else await graph.ainvoke(wish, config)

    return run


@pytest.fixture
def tools(toolkit: AgentHumanToolkit) -> list[BaseTool]:
    return toolkit.get_tools()


@pytest.mark.parametrize(
    "names_it",
    [
        pytest.param(False, id="by thread"),
        pytest.param(
            True,
            id="by checkpoint",
            marks=pytest.mark.xfail(
                not FORKS_DIFFER, reason="older LangGraph shows a fork and such a resume alike", strict=False
            ),
        ),
    ],
)
async def test_interrupt_beside_the_create(
    build: Build, run: Any, tools: list[BaseTool], service: FakeService, names_it: bool
) -> None:
    """A message that waited for a human opens one session, whether the answer names its checkpoint or the thread."""
    graph = build([calls(CREATE, "ask_a_human"), DONE], [*tools, ask_a_human], checkpointer=InMemorySaver())
    await run(graph, ASK)
    await run(graph, Command(resume="yes"), graph.get_state(THREAD).config if names_it else THREAD)
    assert list(service.sessions) == ["sess_1"]


async def test_interrupted_fork(build: Build, run: Any, tools: list[BaseTool], service: FakeService) -> None:
    """A fork that waited for a human and goes on by its thread opens one session besides that of the first run."""
    script = [calls(CREATE, "ask_a_human"), DONE, DONE]
    graph = build(script, [*tools, ask_a_human], checkpointer=InMemorySaver())
    await run(graph, ASK)
    await run(graph, Command(resume="yes"))
    [before] = [state for state in graph.get_state_history(THREAD) if "tools" in state.next]
    await run(graph, None, before.config)
    await run(graph, Command(resume="yes"))
    assert list(service.sessions) == ["sess_1", "sess_2"]
