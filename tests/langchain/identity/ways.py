"""The ways in which applications let an agent call tools. Each carries out the calls of one message.

A subagent is an agent of its own that a node or tool of the conversation's agent runs.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, ensure_config
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from tests.langchain.conftest import ScriptedModel, call

Calls: TypeAlias = list[dict[str, Any]]
Carry: TypeAlias = Callable[["Scene", Calls], Awaitable[list[ToolMessage]]]


@dataclass
class Scene:
    """Where calls are made.

    Attributes:
        tools: The tools of the application.
        thread: The conversation; `None` outside of one.
        agent: The subagent that makes the calls; `None` for the agent of the conversation.
        saver: Checkpoints of the application.
    """

    tools: Sequence[BaseTool]
    thread: object
    agent: str | None = None
    saver: InMemorySaver = field(default_factory=InMemorySaver)

    @property
    def config(self) -> Any:
        return {} if self.thread is None else {"configurable": {"thread_id": self.thread}}

    @property
    def checkpointer(self) -> InMemorySaver | None:
        return None if self.thread is None else self.saver

    @property
    def by_name(self) -> Mapping[str, BaseTool]:
        return {tool.name: tool for tool in self.tools}

    def invoke(self, wish: dict[str, Any], config: RunnableConfig | None = None) -> ToolMessage:
        return self.by_name[wish["name"]].invoke({**wish, "type": "tool_call"}, config)

    async def ainvoke(self, wish: dict[str, Any], config: RunnableConfig | None = None) -> ToolMessage:
        return await self.by_name[wish["name"]].ainvoke({**wish, "type": "tool_call"}, config)


@dataclass(frozen=True)
class Way:
    """One of them.

    Attributes:
        name: For people.
        carry: Carries calls out.
        has_agents: Whether there are agents, and so subagents.
    """

    name: str
    carry: Carry
    has_agents: bool = True


def newest(messages: Sequence[Any], calls: Calls) -> list[ToolMessage]:
    """The answers to these calls, in their order."""
    answers = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    return [answers[wish["id"]] for wish in calls]


def ask(calls: Calls) -> dict[str, Any]:
    return {"messages": [HumanMessage("Go on."), AIMessage("", tool_calls=calls, id=uuid.uuid4().hex)]}


# --- create_agent


def wanting(calls: Sequence[Any]) -> Callable[[Sequence[Any]], AIMessage]:
    """A model that wants these calls when the user has spoken, also if it is asked in the middle of a run."""

    def answer(messages: Sequence[Any]) -> AIMessage:
        asked = isinstance(messages[-1], HumanMessage)
        return AIMessage("", tool_calls=list(calls)) if asked else AIMessage("Done.")

    return answer


def agent_of(scene: Scene, calls: Calls, found: list[ToolMessage], middleware: Sequence[Any] = ()) -> Any:
    """An agent whose model wants these calls or, for a subagent, one with a tool that runs such an agent."""
    model, tools = ScriptedModel(script=[wanting(calls)] * 9), list(scene.tools)
    if scene.agent is None:
        return create_agent(model, tools, checkpointer=scene.checkpointer, middleware=list(middleware))
    sub = create_agent(model, tools, name=scene.agent, middleware=list(middleware))
    name = f"ask_{scene.agent}"

    def run() -> str:
        found.extend(newest(sub.invoke({"messages": [HumanMessage("Go on.")]})["messages"], calls))
        return "Done."

    async def arun() -> str:
        found.extend(newest((await sub.ainvoke({"messages": [HumanMessage("Go on.")]}))["messages"], calls))
        return "Done."

    tool = StructuredTool.from_function(run, coroutine=arun, name=name, description="Ask a subagent.")
    outer = ScriptedModel(script=[wanting(call(name, "ask").tool_calls)] * 9)
    return create_agent(outer, [tool], checkpointer=scene.checkpointer)


async def _create_agent(scene: Scene, calls: Calls) -> list[ToolMessage]:
    found: list[ToolMessage] = []
    state = agent_of(scene, calls, found).invoke({"messages": [HumanMessage("Go on.")]}, scene.config)
    return found or newest(state["messages"], calls)


async def _create_agent_async(scene: Scene, calls: Calls) -> list[ToolMessage]:
    found: list[ToolMessage] = []
    agent = agent_of(scene, calls, found)
    state = await agent.ainvoke({"messages": [HumanMessage("Go on.")]}, scene.config)
    return found or newest(state["messages"], calls)


async def _agents_in_threads(scene: Scene, calls: Calls) -> list[ToolMessage]:
    """Every run in a thread of a pool, as a web server without a loop has them."""
    found: list[ToolMessage] = []
    agent = agent_of(scene, calls, found)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(agent.invoke, {"messages": [HumanMessage("Go on.")]}, scene.config)
    return found or newest(running.result()["messages"], calls)


# --- graphs of one's own


def graph_of(scene: Scene, node: Any) -> Any:
    """A graph with one node for tools; for a subagent, that graph is a node of another."""
    inner = StateGraph(MessagesState)
    inner.add_node("tools", node)
    inner.add_edge(START, "tools")
    inner.add_edge("tools", END)
    if scene.agent is None:
        return inner.compile(checkpointer=scene.checkpointer)
    outer = StateGraph(MessagesState)
    outer.add_node(scene.agent, inner.compile())
    outer.add_edge(START, scene.agent)
    outer.add_edge(scene.agent, END)
    return outer.compile(checkpointer=scene.checkpointer)


def _graph(node: Callable[[Scene], Any]) -> Carry:
    async def carry(scene: Scene, calls: Calls) -> list[ToolMessage]:
        return newest(graph_of(scene, node(scene)).invoke(ask(calls), scene.config)["messages"], calls)

    return carry


def _agraph(node: Callable[[Scene], Any]) -> Carry:
    async def carry(scene: Scene, calls: Calls) -> list[ToolMessage]:
        state = await graph_of(scene, node(scene)).ainvoke(ask(calls), scene.config)
        return newest(state["messages"], calls)

    return carry


def _tool_node(scene: Scene) -> Any:
    return ToolNode(list(scene.tools))


def hand_written(scene: Scene) -> Any:
    """A node that calls the tools one after the other."""

    def node(state: MessagesState) -> Any:
        return {"messages": [scene.invoke(wish) for wish in state["messages"][-1].tool_calls]}

    return node


def hand_written_async(scene: Scene) -> Any:
    """The same in an async node."""

    async def node(state: MessagesState) -> Any:
        return {"messages": [await scene.ainvoke(wish) for wish in state["messages"][-1].tool_calls]}

    return node


def _gathering(scene: Scene) -> Any:
    async def node(state: MessagesState) -> Any:
        calls = state["messages"][-1].tool_calls
        return {"messages": await asyncio.gather(*[scene.ainvoke(wish) for wish in calls])}

    return node


def _in_threads(scene: Scene) -> Any:
    def node(state: MessagesState) -> Any:
        with ContextThreadPoolExecutor() as pool:  # LangChain's own, which takes the context along
            return {"messages": list(pool.map(scene.invoke, state["messages"][-1].tool_calls))}

    return node


def _in_threads_given_the_config(scene: Scene) -> Any:
    def node(state: MessagesState, config: RunnableConfig) -> Any:
        with ThreadPoolExecutor() as pool:  # takes nothing along
            work = [pool.submit(scene.invoke, wish, config) for wish in state["messages"][-1].tool_calls]
            return {"messages": [each.result() for each in work]}

    return node


def _in_batch(scene: Scene) -> Any:
    def node(state: MessagesState) -> Any:
        (wish,) = state["messages"][-1].tool_calls
        return {"messages": scene.by_name[wish["name"]].batch([{**wish, "type": "tool_call"}])}

    return node


def _in_batch_async(scene: Scene) -> Any:
    async def node(state: MessagesState) -> Any:
        (wish,) = state["messages"][-1].tool_calls
        return {"messages": await scene.by_name[wish["name"]].abatch([{**wish, "type": "tool_call"}])}

    return node


# --- the functional API


async def _functional(scene: Scene, calls: Calls) -> list[ToolMessage]:
    """Creates in the body of the workflow, all else in tasks of it: both are the same agent's."""

    @task
    def carry_out(wish: dict[str, Any]) -> ToolMessage:
        return scene.invoke(wish)

    def workflow(wanted: Calls) -> list[ToolMessage]:
        return [
            scene.invoke(wish) if "create" in wish["name"] else carry_out(wish).result() for wish in wanted
        ]

    if scene.agent is None:
        return entrypoint(checkpointer=scene.checkpointer)(workflow).invoke(calls, scene.config)
    inner = entrypoint()(workflow)

    def run(wanted: Calls) -> list[ToolMessage]:
        return inner.invoke(wanted)

    run.__name__ = scene.agent
    agent = task(run)

    @entrypoint(checkpointer=scene.checkpointer)
    def conversation(wanted: Calls) -> list[ToolMessage]:
        return agent(wanted).result()

    return conversation.invoke(calls, scene.config)


async def _functional_async(scene: Scene, calls: Calls) -> list[ToolMessage]:
    @task
    async def carry_out(wish: dict[str, Any]) -> ToolMessage:
        return await scene.ainvoke(wish)

    async def workflow(wanted: Calls) -> list[ToolMessage]:
        return [
            await scene.ainvoke(wish) if "create" in wish["name"] else await carry_out(wish)
            for wish in wanted
        ]

    if scene.agent is None:
        return await entrypoint(checkpointer=scene.checkpointer)(workflow).ainvoke(calls, scene.config)
    inner = entrypoint()(workflow)

    async def run(wanted: Calls) -> list[ToolMessage]:
        return await inner.ainvoke(wanted)

    run.__name__ = scene.agent
    agent = task(run)

    @entrypoint(checkpointer=scene.checkpointer)
    async def conversation(wanted: Calls) -> list[ToolMessage]:
        return await agent(wanted)

    return await conversation.ainvoke(calls, scene.config)


# --- without a graph


async def _plain(scene: Scene, calls: Calls) -> list[ToolMessage]:
    return [scene.invoke(wish, scene.config) for wish in calls]


async def _plain_async(scene: Scene, calls: Calls) -> list[ToolMessage]:
    return [await scene.ainvoke(wish, ensure_config(scene.config)) for wish in calls]


async def _batch(scene: Scene, calls: Calls) -> list[ToolMessage]:
    (wish,) = calls
    return scene.by_name[wish["name"]].batch([{**wish, "type": "tool_call"}], scene.config)


async def _abatch(scene: Scene, calls: Calls) -> list[ToolMessage]:
    (wish,) = calls
    return await scene.by_name[wish["name"]].abatch([{**wish, "type": "tool_call"}], scene.config)


WAYS = {
    way.name: way
    for way in (
        Way("create_agent", _create_agent),
        Way("create_agent, async", _create_agent_async),
        Way("create_agent in a thread of a pool", _agents_in_threads),
        Way("ToolNode in a graph of one's own", _graph(_tool_node)),
        Way("ToolNode, async", _agraph(_tool_node)),
        Way("hand-written node", _graph(hand_written)),
        Way("hand-written node, async", _agraph(hand_written_async)),
        Way("hand-written node that gathers", _agraph(_gathering)),
        Way("hand-written node with threads", _graph(_in_threads)),
        Way("hand-written node, threads given the config", _graph(_in_threads_given_the_config)),
        Way("hand-written node, batch", _graph(_in_batch)),
        Way("hand-written node, abatch", _agraph(_in_batch_async)),
        Way("functional API", _functional),
        Way("functional API, async", _functional_async),
        Way("plain call under a config", _plain, has_agents=False),
        Way("plain call under a config, async", _plain_async, has_agents=False),
        Way("batch under a config", _batch, has_agents=False),
        Way("abatch under a config", _abatch, has_agents=False),
    )
}
