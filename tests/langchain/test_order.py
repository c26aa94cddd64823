"""The order of one message: a goodbye before the end is heard, and one after it is refused at once."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._calls import Once, Order
from agenthuman_plugins.langchain._drivers import AsyncDriver
from agenthuman_plugins.langchain._origin import Origin, Sibling
from tests.client.conftest import FakeService
from tests.langchain.conftest import Caller, CrashError, ScriptedModel, call
from tests.langchain.toolbox import CREATE, END, SAY, all_tools, by_name, told

LIMIT_S = 20.0  # hang limit only
GOODBYE = "Goodbye, and thank you for your visit."  # 0.4 s of speech
THREAD: Any = {"configurable": {"thread_id": "thread-1"}}

Carry = Callable[[AgentHumanToolkit, AIMessage, str], Awaitable[list[ToolMessage]]]


def message(*names: str) -> AIMessage:
    """A model's message that speaks and ends, in some order."""
    wishes = [
        call(
            name, f"call_{number}", session_id="sess_1", **({"text": GOODBYE} if name == SAY else {})
        ).tool_calls[0]
        for number, name in enumerate(names, 2)
    ]
    return AIMessage("", tool_calls=wishes)


async def in_an_agent(toolkit: AgentHumanToolkit, wish: AIMessage, kind: str) -> list[ToolMessage]:
    model = ScriptedModel(script=[wish, AIMessage("Done.")])
    agent = create_agent(model, toolkit.get_tools())
    ask: Any = {"messages": [HumanMessage("Leave.")]}
    state = (
        await agent.ainvoke(ask, THREAD)
        if kind == "async"
        else await asyncio.to_thread(agent.invoke, ask, THREAD)
    )
    return told(state["messages"])


async def in_a_tool_node(toolkit: AgentHumanToolkit, wish: AIMessage, kind: str) -> list[ToolMessage]:
    """All calls of the message in one task, as in graphs of LangGraph's own."""
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(toolkit.get_tools()))
    builder.set_entry_point("tools")
    graph = builder.compile()
    ask: Any = {"messages": [wish]}
    state = (
        await graph.ainvoke(ask, THREAD)
        if kind == "async"
        else await asyncio.to_thread(graph.invoke, ask, THREAD)
    )
    return told(state["messages"])


async def by_hand(toolkit: AgentHumanToolkit, wish: AIMessage, kind: str) -> list[ToolMessage]:
    """One call after the other, as the simplest loop does it."""
    tools = by_name(toolkit)
    answers = []
    for each in wish.tool_calls:
        wanted: Any = {**each, "type": "tool_call"}
        tool = tools[each["name"]]
        answers.append(
            await tool.ainvoke(wanted, THREAD)
            if kind == "async"
            else await asyncio.to_thread(tool.invoke, wanted, THREAD)
        )
    return answers


async def by_hand_at_once(toolkit: AgentHumanToolkit, wish: AIMessage, kind: str) -> list[ToolMessage]:
    """All calls at the same time, in the order of the message, with nothing injected."""
    tools = by_name(toolkit)
    wishes: list[Any] = [{**each, "type": "tool_call"} for each in wish.tool_calls]
    if kind == "async":
        return await asyncio.gather(*(tools[each["name"]].ainvoke(each, THREAD) for each in wishes))
    saying = asyncio.Event()
    loop = asyncio.get_running_loop()
    speech = toolkit._speech
    assert speech is not None
    speak = speech.speak

    def note(*both: Any) -> Any:  # threads begin in any order, so the end waits for the say to have begun
        loop.call_soon_threadsafe(saying.set)
        return speak(*both)

    speech.speak = note  # type: ignore[method-assign]
    with ThreadPoolExecutor() as pool:
        futures = []
        for each in wishes:
            futures.append(
                loop.run_in_executor(pool, lambda each=each: tools[each["name"]].invoke(each, THREAD))
            )
            if each["name"] == SAY:
                await saying.wait()
        return await asyncio.gather(*futures)


WAYS = pytest.mark.parametrize("way", [in_an_agent, in_a_tool_node, by_hand, by_hand_at_once])


async def carried_out(
    way: Carry, caller: Caller, service: FakeService, *names: str
) -> tuple[list[str], list[str]]:
    """What the tools said, and what they asked of the service after the create."""
    toolkit = all_tools(service)
    async with asyncio.timeout(LIMIT_S), toolkit:
        wish: Any = {"name": CREATE, "args": {}, "id": "call_1", "type": "tool_call"}
        await by_name(toolkit)[CREATE].ainvoke(wish, THREAD)
        before = len(service.log)
        answers = await way(toolkit, message(*names), caller.kind)
        return [answer.text for answer in answers], service.log[before:]


@WAYS
async def test_goodbye_before_the_end_is_heard(way: Carry, caller: Caller, service: FakeService) -> None:
    """`say` and then `end` in one message: the session ends when all of it was played."""
    (said, ended), _ = await carried_out(way, caller, service, SAY, END)
    assert said == "Spoken: 0.4 s."
    assert "has ended and is no longer billed" in ended
    assert service.ended == ["sess_1"]


@WAYS
async def test_several_texts_before_the_end_are_heard(
    way: Carry, caller: Caller, service: FakeService
) -> None:
    """The end waits for every text before it, not for the first alone."""
    (*said, ended), _ = await carried_out(way, caller, service, SAY, SAY, END)
    assert said == ["Spoken: 0.4 s."] * 2
    assert "has ended and is no longer billed" in ended


@pytest.mark.parametrize("way", [in_an_agent, in_a_tool_node, by_hand])
async def test_goodbye_after_the_end_is_answered_at_once(
    way: Carry, caller: Caller, service: FakeService
) -> None:
    """`end` and then `say`: the text is not spoken, which is said without a request and without a connection."""
    (ended, said), asked = await carried_out(way, caller, service, END, SAY)
    assert "has ended and is no longer billed" in ended
    assert "nothing was spoken" in said.lower()
    assert asked == ["POST /v1/sessions/sess_1/end"]


async def test_goodbye_after_the_end_says_what_to_do(service: FakeService) -> None:
    """The model learns the right order from the answer."""
    (_, said), _ = await carried_out(in_an_agent, Caller("async"), service, END, SAY)
    assert said == (
        "Nothing was spoken, because the same message ends session sess_1 first. To say goodbye, call "
        f"{SAY} before {END}."
    )


def origin(call_id: str, *message: str) -> Origin:
    siblings = tuple(Sibling(name, f"call_{number}", "sess_1") for number, name in enumerate(message, 1))
    return Origin("thread-1", tool_call_id=call_id, message=siblings, message_id="message-1")


def test_calls_before_one_in_its_message() -> None:
    """Only calls of the same tool for the same session that stand before it count."""
    end = origin("call_3", SAY, SAY, END, SAY)
    assert end.before(SAY, "sess_1") == ["call_1", "call_2"]
    assert end.before(SAY, "sess_2") == []
    assert origin("call_1", SAY, END).before(END, "sess_1") == []
    assert origin("call_9", SAY, END).before(SAY, "sess_1") == []  # of another message


async def test_a_call_that_never_begins_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `say` that a person or a middleware held back does not keep a session open."""
    monkeypatch.setattr("agenthuman_plugins.langchain._calls._BEGIN_LIMIT_S", 0.01)
    async with asyncio.timeout(LIMIT_S):
        await Order().wait(AsyncDriver(None), origin("call_2", SAY, END), "sess_1", ["call_1"])  # type: ignore[arg-type]


@pytest.mark.parametrize("message", [(SAY, END), ()], ids=["message-known", "by-hand"])
async def test_what_died_is_waited_for_when_it_is_made_again(message: tuple[str, ...]) -> None:
    """A `say` that died with its run and is made again is waited for again, though it was over once."""
    order, say, end = Order(), origin("call_1", *message), origin("call_2", *message)
    earlier = end.before(SAY, "sess_1")
    with pytest.raises(CrashError), order.carried_out(say, "sess_1"):
        raise CrashError
    with order.carried_out(say, "sess_1"):
        waiting = asyncio.create_task(order.wait(AsyncDriver(None), end, "sess_1", earlier))  # type: ignore[arg-type]
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
    async with asyncio.timeout(LIMIT_S):
        await waiting


def test_a_call_may_be_carried_out_again() -> None:
    """A call that is over and is made again, as when a checkpoint is replayed, begins anew."""
    order, say = Order(), origin("call_1", SAY, END)
    for _ in range(2):
        with order.carried_out(say, "sess_1"):
            assert not order._call(say, "call_1").over.done()


def test_a_result_is_made_anew_only_by_who_saw_it() -> None:
    """Of two that find a session ended, the slower one does not forget what the faster one has opened since."""
    once: Once[str] = Once()
    assert once.claim("call") is None
    once.done("call", "sess_1")
    assert once.claim("call") == "sess_1"  # both see it, and that it has ended
    once.forget("call", "sess_1")
    assert once.claim("call") is None
    once.done("call", "sess_2")
    once.forget("call", "sess_1")
    assert once.claim("call") == "sess_2"
