"""A call is carried out once, however often its node runs; and another call is another one, whatever its id."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import MessagesState
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from agenthuman_plugins.client import Session
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._origin import SessionRequest
from tests.client.conftest import FakeService
from tests.langchain.conftest import ScriptedModel, call
from tests.langchain.identity.owners import own_room
from tests.langchain.identity.ways import (
    Scene,
    agent_of,
    ask,
    graph_of,
    hand_written,
    hand_written_async,
    newest,
    wanting,
)
from tests.langchain.toolbox import CREATE, END, SAY, all_tools

LIMIT_S = 60.0  # hang limit only
THREAD: Any = {"configurable": {"thread_id": "ada"}}
BOTH = pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
# Since LangGraph 1.1 or so, each fork has tasks of its own.
FORKS_DIFFER = "lc_agent_name" in inspect.getsource(create_agent)


class MortalSaver(InMemorySaver):
    """Keeps nothing that holds the answer of a tool: the process died between the two.

    What was made before the answer is kept whenever it comes: LangGraph keeps things in threads, in any order.
    """

    dead = False
    mortal = True

    def put(self, config: Any, checkpoint: Any, *args: Any) -> Any:
        if not self._dies_with(checkpoint["channel_values"]):
            return super().put(config, checkpoint, *args)
        return {"configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]}}

    def put_writes(self, config: Any, writes: Sequence[Any], *args: Any) -> None:
        if not self._dies_with(writes):
            super().put_writes(config, writes, *args)

    def _dies_with(self, kept: object) -> bool:
        dies = self.mortal and "ToolMessage" in repr(kept)
        self.dead = self.dead or dies
        return dies

    def revive(self) -> None:
        self.dead = self.mortal = False


Graph = Callable[[Scene, list[Any], list[ToolMessage]], tuple[Any, Any]]


def _functional(scene: Scene, calls: list[Any], found: list[ToolMessage]) -> tuple[Any, Any]:
    @entrypoint(checkpointer=scene.checkpointer)
    def workflow(wanted: list[Any]) -> list[ToolMessage]:
        found[:] = [scene.invoke(wish) for wish in wanted]
        return list(found)

    return workflow, calls


def _functional_async(scene: Scene, calls: list[Any], found: list[ToolMessage]) -> tuple[Any, Any]:
    @entrypoint(checkpointer=scene.checkpointer)
    async def workflow(wanted: list[Any]) -> list[ToolMessage]:
        found[:] = [await scene.ainvoke(wish) for wish in wanted]
        return list(found)

    return workflow, calls


def _agent(scene: Scene, calls: list[Any], found: list[ToolMessage]) -> tuple[Any, Any]:
    return agent_of(scene, calls, found), hello()


def _tool_node(scene: Scene, calls: list[Any], _: list[ToolMessage]) -> tuple[Any, Any]:
    return graph_of(scene, ToolNode(list(scene.tools))), ask(calls)


def _hand(scene: Scene, calls: list[Any], _: list[ToolMessage]) -> tuple[Any, Any]:
    return graph_of(scene, hand_written(scene)), ask(calls)


def _hand_async(scene: Scene, calls: list[Any], _: list[ToolMessage]) -> tuple[Any, Any]:
    return graph_of(scene, hand_written_async(scene)), ask(calls)


GRAPHS: dict[str, tuple[Graph, bool, str | None]] = {
    "create_agent": (_agent, False, None),
    "create_agent-async": (_agent, True, None),
    "create_agent-subagent": (_agent, False, "alice"),
    "create_agent-subagent-async": (_agent, True, "alice"),
    "ToolNode": (_tool_node, False, None),
    "ToolNode-async": (_tool_node, True, None),
    "ToolNode-subagent": (_tool_node, False, "alice"),
    "hand-written": (_hand, False, None),
    "hand-written-async": (_hand_async, True, None),
    "hand-written-subagent": (_hand, False, "alice"),
    "functional": (_functional, False, None),
    "functional-async": (_functional_async, True, None),
}
EVERYWHERE = pytest.mark.parametrize("name", GRAPHS)


class Conversation:
    """A thread of an application that is kept; each run is in a process of its own if the toolkit is new."""

    def __init__(self, name: str, saver: InMemorySaver | None = None, thread: object = "ada") -> None:
        self.saver = saver or InMemorySaver()
        self._graph, self._native, self._agent = GRAPHS[name]
        self._thread = thread

    async def run(
        self, toolkit: AgentHumanToolkit, *calls: dict[str, Any], resume: bool = False, at: Any = None
    ) -> list[ToolMessage]:
        """Carry calls out or, with `resume`, go on from where the checkpoints end, or from one of them."""
        scene = Scene(toolkit.get_tools(), self._thread, self._agent, self.saver)
        found: list[ToolMessage] = []
        graph, asked = self._graph(scene, list(calls), found)
        asked, config = None if resume else asked, at or scene.config
        async with asyncio.timeout(LIMIT_S):
            state = await graph.ainvoke(asked, config) if self._native else graph.invoke(asked, config)
        return found or newest(state["messages"], list(calls))

    def before_the_tools(self, toolkit: AgentHumanToolkit, *calls: dict[str, Any]) -> Any:
        """The checkpoint from which the first calls are carried out."""
        scene = Scene(toolkit.get_tools(), self._thread, self._agent, self.saver)
        graph, _ = self._graph(scene, list(calls), [])
        return [state for state in graph.get_state_history(scene.config) if state.next == ("tools",)][
            -1
        ].config


def wish(name: str, call_id: str = "call_1", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": call_id, "type": "tool_call"}


def hello() -> Any:
    """What the user says; a message of its own each time, since a graph keeps those of one id once."""
    return {"messages": [HumanMessage("Go on.")]}


def creates(service: FakeService) -> int:
    return service.log.count("POST /v1/sessions")


# --- once


@EVERYWHERE
@pytest.mark.parametrize("namespace", [None, "shop"])
@pytest.mark.parametrize("process", ["same-process", "new-process"])
async def test_crash_after_the_create(name: str, process: str, namespace: str | None) -> None:
    """The answer was not kept, so the call is made again: it returns the session that it has opened."""
    service, saver = FakeService(), MortalSaver()
    talk = Conversation(name, saver)
    toolkit = all_tools(service, namespace=namespace)
    (first,) = await talk.run(toolkit, wish(CREATE))
    assert saver.dead
    saver.revive()
    again = toolkit if process == "same-process" else all_tools(service, namespace=namespace)
    (second,) = await talk.run(again, wish(CREATE), resume=True)
    assert second.artifact["session_id"] == first.artifact["session_id"] == "sess_1"
    assert second.content == "Session sess_1 was opened by this call before and is still running."
    assert (creates(service), service.running) == (1, ["sess_1"])
    listed = [
        request.url.params["status"]
        for request in service.requests
        if request.method == "GET" and request.url.path == "/v1/sessions"
    ]
    assert listed == (["started"] if process == "same-process" else ["started"] * 2)


@EVERYWHERE
async def test_crash_and_an_end_elsewhere(name: str) -> None:
    """A session that ended before the call is made again is not given back: that opens a new one and says so."""
    service, saver = FakeService(), MortalSaver()
    talk = Conversation(name, saver)
    await talk.run(all_tools(service), wish(CREATE))
    saver.revive()
    service.sessions["sess_1"]["status"] = "ended"
    (again,) = await talk.run(all_tools(service), wish(CREATE), resume=True)
    assert again.content.startswith("Opened session sess_2")


@BOTH
async def test_interrupt_beside_the_create_in_a_node(native: bool) -> None:
    """A hand-written node that asks a human after the create runs again with the answer: one session."""
    service, saver = FakeService(), InMemorySaver()
    toolkit = all_tools(service)
    scene = Scene(toolkit.get_tools(), "ada", saver=saver)

    def node(state: MessagesState) -> Any:
        opened = [scene.invoke(each) for each in state["messages"][-1].tool_calls]
        interrupt("May I?")
        return {"messages": opened}

    async def anode(state: MessagesState) -> Any:
        opened = [await scene.ainvoke(each) for each in state["messages"][-1].tool_calls]
        interrupt("May I?")
        return {"messages": opened}

    graph = graph_of(scene, anode if native else node)
    for asked in (ask([wish(CREATE)]), Command(resume="yes")):
        state = await graph.ainvoke(asked, THREAD) if native else graph.invoke(asked, THREAD)
    assert "still running" in newest(state["messages"], [wish(CREATE)])[0].content
    assert (creates(service), service.running) == (1, ["sess_1"])


@BOTH
async def test_interrupt_in_a_tool_of_the_same_message(native: bool) -> None:
    """A message with a create and a tool that asks a human: one session, before and after the answer."""
    service = FakeService()
    toolkit = all_tools(service)

    def ask_human() -> str:
        """Ask a human."""
        return str(interrupt("May I?"))

    both = [wish(CREATE), wish("ask_human", "call_2")]
    agent = create_agent(
        ScriptedModel(script=[wanting(both)] * 9),
        [*toolkit.get_tools(), ask_human],
        checkpointer=InMemorySaver(),
    )
    for asked in (hello(), Command(resume="yes")):
        await agent.ainvoke(asked, THREAD) if native else agent.invoke(asked, THREAD)
        assert (creates(service), service.running) == (1, ["sess_1"])


@BOTH
@pytest.mark.parametrize("process", ["same-process", "new-process"])
async def test_interrupt_in_a_function_of_the_application(native: bool, process: str) -> None:
    """A human is asked in `room`, before anything is open: the answer opens one session, here or elsewhere."""
    service, saver = FakeService(), InMemorySaver()

    def room(request: SessionRequest) -> Any:
        interrupt("Which room?")
        return own_room(request)

    def new_agent() -> Any:
        tools = all_tools(service, room=room, namespace="shop").get_tools()
        return create_agent(ScriptedModel(script=[wanting([wish(CREATE)])] * 9), tools, checkpointer=saver)

    agent = new_agent()
    paused = await agent.ainvoke(hello(), THREAD) if native else agent.invoke(hello(), THREAD)
    assert paused["__interrupt__"]
    assert service.sessions == {}
    agent = agent if process == "same-process" else new_agent()
    answer: Any = Command(resume="this")
    await agent.ainvoke(answer, THREAD) if native else agent.invoke(answer, THREAD)
    assert (creates(service), service.running) == (1, ["sess_1"])


@BOTH
async def test_interrupt_in_on_session(native: bool) -> None:
    """A human is asked with the session open: it is ended while they think, and the answer opens another."""
    service = FakeService()

    def on_session(session: Session, request: SessionRequest) -> None:
        interrupt("Shall they join?")

    tools = all_tools(service, on_session=on_session).get_tools()
    agent = create_agent(
        ScriptedModel(script=[wanting([wish(CREATE)])] * 9), tools, checkpointer=InMemorySaver()
    )
    paused = await agent.ainvoke(hello(), THREAD) if native else agent.invoke(hello(), THREAD)
    assert paused["__interrupt__"]
    assert service.running == []
    answer: Any = Command(resume="yes")
    state = await agent.ainvoke(answer, THREAD) if native else agent.invoke(answer, THREAD)
    (opened,) = newest(state["messages"], [wish(CREATE)])
    assert opened.content.startswith("Opened session sess_2")
    assert (service.running, service.ended) == (["sess_2"], ["sess_1"])


@BOTH
async def test_tool_of_the_application_that_opens_a_session_by_its_own_call(native: bool) -> None:
    """A tool that calls ours with a call of its own, and then asks a human, opens one session."""
    service = FakeService()
    scene = Scene(all_tools(service).get_tools(), "ada")

    def show() -> str:
        """Show a face."""
        scene.invoke(wish(CREATE, "inner"))
        return str(interrupt("May I?"))

    async def ashow() -> str:
        """Show a face."""
        await scene.ainvoke(wish(CREATE, "inner"))
        return str(interrupt("May I?"))

    ashow.__name__ = "show"
    agent = create_agent(
        ScriptedModel(script=[wanting([wish("show", "call_1")])] * 9),
        [ashow if native else show],
        checkpointer=InMemorySaver(),
    )
    for asked in (hello(), Command(resume="yes")):
        await agent.ainvoke(asked, THREAD) if native else agent.invoke(asked, THREAD)
    assert (creates(service), service.running) == (1, ["sess_1"])


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_same_call_twice_at_once(native: bool) -> None:
    """A second call that comes while the first is on its way waits for it, and returns the same session."""
    service = FakeService()
    second_has_come = threading.Event()

    def room(request: SessionRequest) -> Any:
        assert second_has_come.wait(LIMIT_S)
        return own_room(request)

    toolkit = all_tools(service, room=room)
    opens, asked = toolkit._ledger.opens, []
    claim = opens.claim

    def claimed(key: str) -> Any:
        asked.append(claim(key))
        if len(asked) == 2:
            second_has_come.set()
        return asked[-1]

    opens.claim = claimed
    scene = Scene(toolkit.get_tools(), "ada")

    def node(state: MessagesState) -> Any:
        with ContextThreadPoolExecutor() as pool:
            return {"messages": list(pool.map(scene.invoke, [wish(CREATE), wish(CREATE)]))[:1]}

    async def anode(state: MessagesState) -> Any:
        both = await asyncio.gather(scene.ainvoke(wish(CREATE)), scene.ainvoke(wish(CREATE)))
        assert both[0].artifact["session_id"] == both[1].artifact["session_id"]
        return {"messages": both[:1]}

    graph = graph_of(scene, anode if native else node)
    async with asyncio.timeout(LIMIT_S):
        await graph.ainvoke(ask([wish(CREATE)]), THREAD) if native else graph.invoke(
            ask([wish(CREATE)]), THREAD
        )
    assert len(asked) >= 2
    assert (creates(service), service.running) == (1, ["sess_1"])


@BOTH
async def test_text_is_not_spoken_again_when_its_node_runs_again(native: bool) -> None:
    """A node that has spoken and then asks a human runs again with the answer: the user hears the text once."""
    service = FakeService()
    toolkit = all_tools(service)
    scene = Scene(toolkit.get_tools(), "ada")
    assert toolkit._speech is not None
    texts: list[str] = []
    voice = toolkit._speech._voice
    speech = voice.speech

    def noted(text: str) -> Any:
        texts.append(text)
        return speech(text)

    voice.speech = noted

    def node(state: MessagesState) -> Any:
        session_id = scene.invoke(wish(CREATE)).artifact["session_id"]
        said = scene.invoke(wish(SAY, "call_2", session_id=session_id, text="Hi."))
        interrupt("May I?")
        return {"messages": [said]}

    async def anode(state: MessagesState) -> Any:
        session_id = (await scene.ainvoke(wish(CREATE))).artifact["session_id"]
        said = await scene.ainvoke(wish(SAY, "call_2", session_id=session_id, text="Hi."))
        interrupt("May I?")
        return {"messages": [said]}

    graph = graph_of(scene, anode if native else node)
    for asked in (ask([]), Command(resume="yes")):
        state = await graph.ainvoke(asked, THREAD) if native else graph.invoke(asked, THREAD)
    assert texts == ["Hi."]
    assert state["messages"][-1].content == "Spoken: 0.0 s."
    await toolkit._speech.aclose()
    await toolkit._loop.aclose()


# --- but what is another call is carried out


@EVERYWHERE
@pytest.mark.parametrize("namespace", [None, "shop"])
async def test_model_that_numbers_its_calls_anew_in_each_turn(name: str, namespace: str | None) -> None:
    """The next turn's call with the same id is another call: a second session, told as opened."""
    service = FakeService()
    talk = Conversation(name)
    toolkit = all_tools(service, namespace=namespace)
    for number in (1, 2):
        (told,) = await talk.run(toolkit, wish(CREATE, "functions.create:0"))
        assert told.content.startswith(f"Opened session sess_{number}")
    assert service.running == ["sess_1", "sess_2"]


@EVERYWHERE
async def test_repeated_id_after_the_end_of_the_first(name: str) -> None:
    """The first turn's session was ended; the next turn's call with its id opens a new one."""
    service = FakeService()
    talk = Conversation(name)
    toolkit = all_tools(service)
    await talk.run(toolkit, wish(CREATE, "functions.create:0"))
    await talk.run(toolkit, wish(END, "functions.end:0", session_id="sess_1"))
    (told,) = await talk.run(toolkit, wish(CREATE, "functions.create:0"))
    assert told.content.startswith("Opened session sess_2")
    assert service.running == ["sess_2"]


@BOTH
async def test_repeated_id_in_one_turn(native: bool) -> None:
    """A model that wants a second session in the same turn, under the same id, gets one."""
    service = FakeService()
    script = [call(CREATE, "functions.create:0"), call(CREATE, "functions.create:0"), AIMessage("Done.")]
    tools = all_tools(service).get_tools()
    agent = create_agent(ScriptedModel(script=script), tools, checkpointer=InMemorySaver())
    await agent.ainvoke(hello(), THREAD) if native else agent.invoke(hello(), THREAD)
    assert service.running == ["sess_1", "sess_2"]


@BOTH
@pytest.mark.parametrize("crash", [False, True], ids=["next-turn", "crash"])
async def test_history_that_was_summarised(native: bool, crash: bool) -> None:
    """Calls are not counted by messages: with the history gone, a replay is one and another turn's call is none."""
    service, saver = FakeService(), MortalSaver()
    saver.mortal = False
    toolkit = all_tools(service)
    agent = create_agent(
        ScriptedModel(script=[wanting([wish(CREATE, "functions.create:0")])] * 9),
        toolkit.get_tools(),
        checkpointer=saver,
    )
    await agent.ainvoke(hello(), THREAD) if native else agent.invoke(hello(), THREAD)
    agent.update_state(
        THREAD, {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), AIMessage("They have met.")]}
    )
    saver.mortal = crash
    await agent.ainvoke(hello(), THREAD) if native else agent.invoke(hello(), THREAD)
    assert saver.dead is crash
    if crash:
        saver.revive()
        await agent.ainvoke(None, THREAD) if native else agent.invoke(None, THREAD)
    assert service.running == ["sess_1", "sess_2"]


@pytest.mark.parametrize(
    "name", [name for name in GRAPHS if "subagent" not in name and "functional" not in name]
)
async def test_fork_is_another_run(name: str) -> None:
    """Going on from an older checkpoint is another course of the conversation: its create opens a session."""
    service = FakeService()
    talk = Conversation(name)
    toolkit = all_tools(service)
    await talk.run(toolkit, wish(CREATE))
    at = talk.before_the_tools(toolkit, wish(CREATE))
    (told,) = await talk.run(toolkit, wish(CREATE), resume=True, at=at)
    assert told.content.startswith("Opened session sess_2")
    (again,) = await talk.run(toolkit, wish(CREATE), resume=True, at=at)
    # Older versions do not tell two forks of one checkpoint apart.
    assert again.content.startswith("Opened session sess_3") is FORKS_DIFFER
    assert creates(service) == (3 if FORKS_DIFFER else 2)


@pytest.mark.skipif(not FORKS_DIFFER, reason="a fork that is resumed is not told from what it began with")
@pytest.mark.parametrize("name", ["create_agent", "ToolNode-async", "hand-written"])
@pytest.mark.parametrize("process", ["same-process", "new-process"])
async def test_crash_in_a_fork(name: str, process: str) -> None:
    """A fork that is resumed after a crash has the session that it opened, not that of the run before, nor a third."""
    service, saver = FakeService(), MortalSaver()
    saver.mortal = False
    talk = Conversation(name, saver)
    toolkit = all_tools(service)
    await talk.run(toolkit, wish(CREATE))
    at = talk.before_the_tools(toolkit, wish(CREATE))
    saver.mortal = True
    await talk.run(toolkit, wish(CREATE), resume=True, at=at)
    assert saver.dead
    saver.revive()
    again = toolkit if process == "same-process" else all_tools(service)
    (told,) = await talk.run(again, wish(CREATE), resume=True)
    assert told.content == "Session sess_2 was opened by this call before and is still running."
    assert creates(service) == 2


@BOTH
@pytest.mark.parametrize("by_hand", [False, True], ids=["create_agent", "hand-written"])
async def test_runs_that_are_not_kept(native: bool, by_hand: bool) -> None:
    """Without a checkpointer nothing is replayed: each run's call opens a session, with one request each."""
    service = FakeService()
    toolkit = all_tools(service)
    scene = Scene(toolkit.get_tools(), None)
    for _ in range(2):
        if by_hand:
            graph, asked = (
                graph_of(scene, (hand_written_async if native else hand_written)(scene)),
                ask([wish(CREATE)]),
            )
        else:
            graph, asked = agent_of(scene, [wish(CREATE)], []), hello()
        await graph.ainvoke(asked, THREAD) if native else graph.invoke(asked, THREAD)
    assert service.log == ["POST /v1/sessions"] * 2
    assert service.running == ["sess_1", "sess_2"]


@BOTH
async def test_subagent_that_is_asked_twice(native: bool) -> None:
    """Each time that the agent above asks its subagent is a run of its own, whatever the ids."""
    service = FakeService()
    toolkit = all_tools(service)
    sub = create_agent(ScriptedModel(script=[wanting([wish(CREATE)])] * 9), toolkit.get_tools())

    def ask_alice() -> str:
        """Ask."""
        sub.invoke(hello())
        return "Done."

    async def aask_alice() -> str:
        """Ask."""
        await sub.ainvoke(hello())
        return "Done."

    aask_alice.__name__ = "ask_alice"
    script = [call("ask_alice"), call("ask_alice"), AIMessage("Done.")]
    agent = create_agent(
        ScriptedModel(script=script), [aask_alice if native else ask_alice], checkpointer=InMemorySaver()
    )
    await agent.ainvoke(hello(), THREAD) if native else agent.invoke(hello(), THREAD)
    assert service.running == ["sess_1", "sess_2"]


@EVERYWHERE
async def test_what_was_asked_before_a_create(name: str) -> None:
    """Where a replay is possible, one list of what runs, never of what has ended; the history is not read."""
    service = FakeService()
    await Conversation(name).run(all_tools(service), wish(CREATE))
    asked = [
        (request.method, request.url.path, request.url.params.get("status")) for request in service.requests
    ]
    assert asked == [("GET", "/v1/sessions", "started"), ("POST", "/v1/sessions", None)]
