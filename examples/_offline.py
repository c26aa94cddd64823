"""What the LangChain examples share: a chat model that follows a script, and a service that needs no key."""

import asyncio
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agenthuman_plugins import AgentHumanError
from agenthuman_plugins.client import Session

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
    """Where a toolkit finds the service: with a key the real one, else an emulator with these options.

    The emulator's page, where the avatar can be watched, is printed; in a terminal, the example starts at Enter.
    """
    if os.environ.get("AGENTHUMAN_API_KEY"):
        yield {}  # the toolkit reads the environment by itself
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    async with Emulator(**options) as emulator:
        if options.get("media", True):
            print(f"Watch and listen: {emulator.watch_url}", flush=True)
            await enter("Open that page, then press Enter.")
        else:
            print("This example shows no avatar; langchain_agent.py does.", flush=True)
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


@asynccontextmanager
async def guest(room: str) -> AsyncIterator[None]:
    """Be in a room of that LiveKit server, as a user would: a session ends when everybody has left its room."""
    import jwt  # noqa: PLC0415 - comes with the emulator
    from livekit import rtc  # noqa: PLC0415

    grants = {"roomJoin": True, "room": room, "canPublish": False}
    claims = {"iss": os.environ["LIVEKIT_API_KEY"], "sub": "guest", "exp": time.time() + 600, "video": grants}
    user = rtc.Room()
    await user.connect(os.environ["LIVEKIT_URL"], jwt.encode(claims, os.environ["LIVEKIT_API_SECRET"]))
    try:
        yield
    finally:
        await user.disconnect()


async def enter(question: str) -> None:
    """Wait for the Enter key, while the page is served; not where no person sits at a terminal."""
    if not sys.stdin.isatty():
        return
    print(question, flush=True)
    loop = asyncio.get_running_loop()
    pressed = asyncio.Event()

    def read() -> None:
        os.read(sys.stdin.fileno(), 1024)
        with suppress(RuntimeError):  # Ctrl-C has closed the loop
            loop.call_soon_threadsafe(pressed.set)

    # Not asyncio's own threads, which Ctrl-C would wait for.
    threading.Thread(target=read, daemon=True).start()
    await pressed.wait()


def tell_room(session: Session, *_: Any) -> None:
    """Print where the avatar of a session appears; never how to join there."""
    if session.room is not None:
        print(f"[application] The avatar is in the room at {session.room.url}.")


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
