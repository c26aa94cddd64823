"""Stands for the package of that name: a model that opens a session, ends it, and says so."""

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

_CREATE, _END = "agent_human_create_session", "agent_human_end_session"


class ChatOpenAI(BaseChatModel):
    """What `openai:…` names."""

    model: str = ""
    tools: tuple[str, ...] = ()

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> "ChatOpenAI":
        return self.model_copy(update={"tools": tuple(tool.name for tool in tools)})

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        results = [message for message in messages if isinstance(message, ToolMessage)]
        wish = None
        if not results:
            wish = (_CREATE, {})
        elif results[-1].name == _CREATE and (found := re.search(r"sess_\w+", results[-1].text)):
            wish = (_END, {"session_id": found[0]})
        if wish is None or wish[0] not in self.tools:
            return AIMessage("Done.")
        call = {"name": wish[0], "args": wish[1], "id": f"call_{len(messages)}", "type": "tool_call"}
        return AIMessage("", tool_calls=[call])
