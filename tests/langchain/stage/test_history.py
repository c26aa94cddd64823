"""The agent's history holds what the user has heard."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import add_messages

from agenthuman_plugins.client import ConfigurationError
from agenthuman_plugins.langchain import heard_only
from tests.langchain.conftest import ScriptedModel

CALL: Any = {"name": "weather", "args": {}, "id": "c1", "type": "tool_call"}


def cut(text: str) -> dict[str, Any]:
    return {"type": "avatar_finished", "interrupted": True, "text": text, "seconds": 1.0}


def after(messages: list[BaseMessage], heard: dict[str, Any]) -> list[BaseMessage]:
    return list(add_messages(messages, heard_only(messages, heard)))  # type: ignore[arg-type]


def test_text_is_cut_to_what_was_heard() -> None:
    """A message keeps its id, its other parts, and the text that was heard."""
    answer = AIMessage("It is sunny in Paris.", id="a", response_metadata={"model": "m"})
    question = HumanMessage("Weather?", id="h")
    kept, changed = after([question, answer], cut("It is sunny"))
    assert kept == question
    assert (changed.content, changed.id) == ("It is sunny", "a")
    assert changed.response_metadata == {"model": "m"}
    assert answer.content == "It is sunny in Paris."


def test_message_of_which_nothing_was_heard_is_removed() -> None:
    """Nothing heard: the message goes."""
    changes = heard_only([HumanMessage("Hi", id="h"), AIMessage("Hello.", id="a")], cut(""))
    assert [(type(change), change.id) for change in changes] == [(RemoveMessage, "a")]


def test_tool_calls_stay() -> None:
    """Tool calls and results stay, whatever was heard of the text around them."""
    messages = [
        HumanMessage("Weather?", id="h"),
        AIMessage("Let me look.", tool_calls=[CALL], id="a1"),
        ToolMessage("sunny", tool_call_id="c1", id="t"),
        AIMessage("It is sunny.", id="a2"),
    ]
    whole = after(messages, cut("Let me look.It is"))
    assert [message.content for message in whole] == ["Weather?", "Let me look.", "sunny", "It is"]
    first = after(messages, cut("Let me"))
    assert [message.content for message in first] == ["Weather?", "Let me", "sunny"]
    none = after(messages, cut(""))
    assert [message.content for message in none] == ["Weather?", "", "sunny"]
    assert isinstance(none[1], AIMessage)
    assert none[1].tool_calls == [CALL]


def test_only_the_last_turn_is_cut() -> None:
    """What was said before the user's last message stays as it is."""
    messages = [
        HumanMessage("Hi", id="h1"),
        AIMessage("Hello there.", id="a1"),
        HumanMessage("Weather?", id="h2"),
        AIMessage("It is sunny.", id="a2"),
    ]
    assert [message.id for message in heard_only(messages, cut("It"))] == ["a2"]


def test_blocks_of_content() -> None:
    """Text blocks are cut one after the other, others stay; a cut text loses what points into it."""
    answer = AIMessage(
        [
            {"type": "reasoning", "reasoning": "Hm."},
            {"type": "text", "text": "One two. ", "annotations": [{"start": 0}]},
            "Three four. ",
            {"type": "text", "text": "Five six.", "annotations": [{"start": 1}]},
        ],
        id="a",
    )
    (changed,) = heard_only([HumanMessage("Count", id="h"), answer], cut("One two. Three"))
    assert changed.content == [
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "text", "text": "One two. ", "annotations": [{"start": 0}]},
        "Three",
    ]
    (changed,) = heard_only([HumanMessage("Count", id="h"), answer], cut("One two. Three four. Five"))
    assert changed.content[-1] == {"type": "text", "text": "Five"}
    (changed,) = heard_only([HumanMessage("Count", id="h"), answer], cut(""))
    assert isinstance(changed, RemoveMessage)


def test_blocks_that_are_no_text_are_kept() -> None:
    """A message with more than text and thoughts is not removed."""
    image = {"type": "image", "url": "https://example.com/a.png"}
    answer = AIMessage([{"type": "text", "text": "Look."}, image], id="a")
    (changed,) = heard_only([HumanMessage("Hi", id="h"), answer], cut(""))
    assert changed.content == [image]


@pytest.mark.parametrize(
    "heard",
    [
        pytest.param({"interrupted": False, "text": "It"}, id="not-interrupted"),
        pytest.param(cut("It is sunny."), id="heard-to-the-end"),
        pytest.param(cut("It  is\nsunny ."), id="other-blanks"),
    ],
)
def test_nothing_to_change(heard: dict[str, Any]) -> None:
    """A reply that was heard to its end changes nothing."""
    assert heard_only([HumanMessage("Weather?", id="h"), AIMessage("It is sunny.", id="a")], heard) == []


def test_message_without_an_id() -> None:
    """A message that cannot be replaced is refused with one sentence; one that need not be is none."""
    with pytest.raises(ConfigurationError, match="without an id"):
        heard_only([AIMessage("Hello there.")], cut("Hello"))
    assert heard_only([AIMessage("Hello there.")], cut("Hello there.")) == []


@tool
def weather() -> str:
    """Tell the weather."""
    return "sunny"


def script() -> list[Any]:
    return [
        AIMessage("Let me look.", tool_calls=[CALL], id="a1"),
        AIMessage("It is sunny in Paris today.", id="a2"),
        AIMessage("Tomorrow it rains.", id="a3"),
        lambda messages: AIMessage(" | ".join(str(message.text) for message in messages), id="a4"),
    ]


FOUND = "Weather? | Let me look. | sunny | It is sunny | And tomorrow? | Fine."


async def test_async_agent_goes_on_with_what_was_heard() -> None:
    """With a checkpointer, the model's next prompt holds what was heard of each turn, and no more."""
    agent = create_agent(ScriptedModel(script=script()), [weather], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "ada"}}
    heard = [cut("Let me look. It is sunny"), cut("")]
    for question in ("Weather?", "And tomorrow?"):
        await agent.ainvoke({"messages": [HumanMessage(question)]}, config)
        state = await agent.aget_state(config)
        changes = heard_only(state.values["messages"], heard.pop(0))
        await agent.aupdate_state(config, {"messages": changes})
    result = await agent.ainvoke({"messages": [HumanMessage("Fine.")]}, config)
    assert result["messages"][-1].text == FOUND


def test_sync_agent_goes_on_with_what_was_heard() -> None:
    """The same for sync calls."""
    agent = create_agent(ScriptedModel(script=script()), [weather], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "ada"}}
    heard = [cut("Let me look. It is sunny"), cut("")]
    for question in ("Weather?", "And tomorrow?"):
        agent.invoke({"messages": [HumanMessage(question)]}, config)
        messages = agent.get_state(config).values["messages"]
        agent.update_state(config, {"messages": heard_only(messages, heard.pop(0))})
    result = agent.invoke({"messages": [HumanMessage("Fine.")]}, config)
    assert result["messages"][-1].text == FOUND


async def test_agent_without_checkpointer_goes_on_with_what_was_heard() -> None:
    """Where the program keeps the messages, `add_messages` makes the changes."""
    agent = create_agent(ScriptedModel(script=script()), [weather])
    messages: list[Any] = []
    heard = [cut("Let me look. It is sunny"), cut("")]
    for question in ("Weather?", "And tomorrow?"):
        messages = (await agent.ainvoke({"messages": [*messages, HumanMessage(question)]}))["messages"]
        messages = after(messages, heard.pop(0))
    result = await agent.ainvoke({"messages": [*messages, HumanMessage("Fine.")]})
    assert result["messages"][-1].text == FOUND
