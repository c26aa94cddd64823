"""A LangChain agent that opens a talking avatar, has it appear in a room, and ends it.

    python examples/langchain_agent.py                         on a local emulator; needs no key
    AGENTHUMAN_API_KEY=... python examples/langchain_agent.py  on the real service, which bills a minute

A scripted chat model stands in for a real one, so that the example runs anywhere. With a real model, this is all:

    async with AgentHumanToolkit() as toolkit:
        agent = create_agent("openai:gpt-5-mini", toolkit.get_tools())
        await agent.ainvoke({"messages": [...]})
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool

from agenthuman_plugins import AgentHumanError
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.speech import LiveKitSpeechLink

AVATAR_LIMIT_S = 20.0  # for the avatar to appear


def viewer(toolkit: AgentHumanToolkit) -> BaseTool:
    """Make a tool of the application's own: join the session's room and look."""

    @tool
    async def look_at_avatar(session_id: str) -> str:
        """Join the room of a session and say what is to be seen there."""
        # Tokens never pass through the model: the toolkit keeps the whole session for the application.
        session = toolkit.sessions.get(session_id)
        if session is None or session.room is None or not session.room.url or session.room.token is None:
            return "There is no room to join."
        link = LiveKitSpeechLink(session.room.url, session.room.token.get_secret_value())
        try:
            await link.connect(timeout_s=AVATAR_LIMIT_S)
            async with asyncio.timeout(AVATAR_LIMIT_S):
                async for picture in link.video():
                    return f"The avatar is in the room, {picture.width}x{picture.height} pixels."
        finally:
            await link.aclose()
        return "The room was closed."

    return look_at_avatar


class ScriptedModel(BaseChatModel):
    """Wishes for the tools in turn, then says goodbye."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> "ScriptedModel":
        """Take the tools, which this model knows anyway."""
        del tools
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        results = [message for message in messages if isinstance(message, ToolMessage)]
        session_id = results[0].artifact["session_id"] if results and results[0].artifact else ""
        script: list[Callable[[], AIMessage]] = [
            lambda: wish("agent_human_create_session", metadata={"user": "Ada"}),
            lambda: wish("look_at_avatar", session_id=session_id),
            lambda: wish("agent_human_end_session", session_id=session_id),
            lambda: AIMessage("There I was. Goodbye!"),
        ]
        failed = any(message.status == "error" for message in results)
        message = AIMessage("I could not show myself.") if failed else script[len(results)]()
        return ChatResult(generations=[ChatGeneration(message=message)])


def wish(name: str, **arguments: Any) -> AIMessage:
    return AIMessage(
        "", tool_calls=[{"name": name, "args": arguments, "id": f"call_{name}", "type": "tool_call"}]
    )


async def run(toolkit: AgentHumanToolkit) -> None:
    # Leaving the block ends every session that is still open, also when the model or a tool fails.
    async with toolkit:
        agent = create_agent(ScriptedModel(), [*toolkit.get_tools(), viewer(toolkit)])
        state = await agent.ainvoke({"messages": [HumanMessage("Show yourself, please.")]})
    for message in state["messages"]:
        for call in getattr(message, "tool_calls", []):
            print(f"-> {call['name']} {json.dumps(call['args'])}")
        if message.content:
            print(f"{message.type}: {message.content}")


async def main() -> None:
    if os.environ.get("AGENTHUMAN_API_KEY"):
        await run(AgentHumanToolkit())
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    async with Emulator() as emulator:
        await run(AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except AgentHumanError as error:  # its text says what to do
        sys.exit(f"langchain_agent.py: {error}")
