"""What the LangChain examples share: a chat model that follows a script, and a service that needs no key."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agenthuman_plugins import AgentHumanError

SESSION = "<session>"
"""Stands in a script for the id of the session that was opened last."""


def wish(tool: str, **arguments: Any) -> AIMessage:
    """A model's wish to use a tool."""
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": None, "type": "tool_call"}])


class ScriptedModel(BaseChatModel):
    """Answers with the next message of its script, or with what a tool said that failed."""

    script: list[AIMessage]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> "ScriptedModel":
        """Take the tools, which this model knows anyway."""
        del tools
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        last = messages[-1]
        if isinstance(last, ToolMessage) and last.status == "error":
            reply = AIMessage(f"That did not work. {last.text}")
        else:
            reply = self.script[turn].model_copy(deep=True)
        for call in reply.tool_calls:
            call["id"] = f"call_{turn}"
            call["args"] = {
                name: opened_id(messages) if value == SESSION else value
                for name, value in call["args"].items()
            }
        return ChatResult(generations=[ChatGeneration(message=reply)])


def opened_id(messages: list[BaseMessage]) -> str:
    """The first id in the newest tool result that holds one."""
    results = (message.text for message in reversed(messages) if isinstance(message, ToolMessage))
    found = (re.search(r"sess_\w+", result) for result in results)
    return next((match[0] for match in found if match), SESSION)


@asynccontextmanager
async def service(**options: Any) -> AsyncIterator[dict[str, Any]]:
    """Where a toolkit finds the service: with a key the real one, else an emulator with these options."""
    if os.environ.get("AGENTHUMAN_API_KEY"):
        yield {}  # the toolkit reads the environment by itself
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    async with Emulator(**options) as emulator:
        yield {"api_key": emulator.api_key, "base_url": emulator.url, "gateway_url": emulator.gateway_url}


@asynccontextmanager
async def livekit() -> AsyncIterator[None]:
    """A LiveKit server in LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET: yours, else one on this machine."""
    if os.environ.get("LIVEKIT_URL"):
        yield
        return

    from agenthuman_plugins.emulator.rooms import RoomServer  # noqa: PLC0415 - only needed without a server

    async with await RoomServer.start() as server:
        os.environ["LIVEKIT_URL"] = server.url
        os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"] = server.keys
        yield


def show(messages: Sequence[BaseMessage]) -> None:
    """Print what the agent and its tools said."""
    for message in messages:
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                print(f"-> {call['name']} {call['args']}")
        if message.text:
            print(f"{message.type}: {message.text}")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run an example, and say in one line what went wrong."""
    try:
        asyncio.run(main)
    except AgentHumanError as error:
        sys.exit(str(error))
