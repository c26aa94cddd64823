"""An agent's history, cut to what the user has heard."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage

from agenthuman_plugins.client import ConfigurationError

# Of a text that was cut: they point to places in it that may be gone.
_PLACES = ("annotations", "citations")
_THOUGHTS = {"reasoning", "thinking", "redacted_thinking"}


def heard_only(messages: Sequence[BaseMessage], heard: Mapping[str, Any]) -> list[BaseMessage]:
    """What to change in an agent's history after an interruption, so that it holds what the user has heard.

    Call it between two turns, before the user's next message is added: only what the AI said after the last human
    message is cut. Tool calls and their results stay. The example is for an agent with a checkpointer. Without one, where the program keeps the messages, `langgraph.graph.message.add_messages(messages, changes)`
    makes the changes.

    Example:
        ```python
        state = await agent.aget_state(config)
        await agent.aupdate_state(config, {"messages": heard_only(state.values["messages"], heard)})
        ```

    Args:
        messages: The history.
        heard: The `avatar_finished` event of the reply; one that was not interrupted changes nothing.

    Returns:
        Messages with the ids of those they replace, and a `RemoveMessage` for each of which nothing is left.

    Raises:
        ConfigurationError: A message to be changed has no id.
    """
    if not heard["interrupted"]:
        return []
    last = max((at for at, message in enumerate(messages) if isinstance(message, HumanMessage)), default=-1)
    left = _length(heard["text"])
    changes: list[BaseMessage] = []
    for message in messages[last + 1 :]:
        if not isinstance(message, AIMessage):
            continue
        length = sum(_length(text) for text in _texts(message.content))
        if length > left:
            changes.append(_cut(message, left))
        left = max(left - length, 0)
    return changes


def _cut(message: AIMessage, left: int) -> BaseMessage:
    if message.id is None:
        raise ConfigurationError(
            "heard_only cannot change a message without an id: take the messages from the agent's state, or give "
            "each one an id."
        )
    if not left and not message.tool_calls and not message.invalid_tool_calls and _only_text(message.content):
        return RemoveMessage(id=message.id)
    if isinstance(message.content, str):
        return message.model_copy(update={"content": _begin(message.content, left)})
    content: list[Any] = []
    for block in message.content:
        text = _text(block)
        if text is None:
            content.append(block)
            continue
        length, kept = _length(text), _begin(text, left)
        left = max(left - length, 0)
        if kept == text:
            content.append(block)
        elif kept and isinstance(block, dict):
            places_gone = {key: value for key, value in block.items() if key not in _PLACES}
            content.append({**places_gone, "text": kept})
        elif kept:
            content.append(kept)
    return message.model_copy(update={"content": content})


def _texts(content: str | list[Any]) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [text for block in content if (text := _text(block)) is not None]


def _text(block: Any) -> str | None:
    """The text of a block of content; `None` if it is something else."""
    if isinstance(block, str):
        return block
    if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
        return str(block["text"])
    return None


def _only_text(content: str | list[Any]) -> bool:
    """Whether a message says nothing but text; thoughts that led to it are of no use without it."""
    return isinstance(content, str) or all(
        _text(block) is not None or (isinstance(block, dict) and block.get("type") in _THOUGHTS)
        for block in content
    )


# Counted without blanks: what the agent streams has none between two messages, and voices add some between words.
def _length(text: str) -> int:
    return sum(not char.isspace() for char in text)


def _begin(text: str, length: int) -> str:
    """The beginning of a text with so many characters that are no blanks."""
    if length >= _length(text):
        return text
    for at, char in enumerate(text):
        if not char.isspace():
            if not length:
                return text[:at].rstrip()
            length -= 1
    return text
