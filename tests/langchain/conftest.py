"""A toolkit on a service in memory, and a chat model that follows a script."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import PrivateAttr

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit, _loop
from tests.client.conftest import API_KEY, ROOM, FakeService, Time

Reply = AIMessage | Exception | Callable[[Sequence[BaseMessage]], AIMessage]


class ScriptedModel(BaseChatModel):
    """Answers with the next reply of its script; a function sees the messages so far."""

    script: list[Any]
    _turn: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        return self

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        reply = self.script[self._turn]
        self._turn += 1
        if isinstance(reply, BaseException):
            raise reply
        message = reply if isinstance(reply, AIMessage) else reply(messages)
        return ChatResult(generations=[ChatGeneration(message=message)])


def call(name: str, call_id: str = "call_1", /, **arguments: Any) -> AIMessage:
    """A model's wish to use a tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": call_id, "type": "tool_call"}])


class CrashError(Exception):
    """What a run dies of."""


class DiesOnce(AgentMiddleware):
    """Lets a run die when its first tool call was carried out and is not kept yet.

    A run that is resumed then makes the same call again, as after a crash of the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._has_died = False

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        result = handler(request)
        self._die()
        return result

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        result = await handler(request)
        self._die()
        return result

    def _die(self) -> None:
        if not self._has_died:
            self._has_died = True
            raise CrashError


def opened_id(messages: Sequence[BaseMessage]) -> str:
    """The session id in the newest tool message with one."""
    for message in reversed(messages):
        if isinstance(message, ToolMessage) and message.artifact:
            return str(message.artifact["session_id"])
    raise AssertionError("no session was opened")


def runtime(
    thread: object,
    call_id: str = "call_1",
    checkpointer: object | None = None,
    *,
    task: str = "tools:task",
    agent: str | None = None,
    message: AIMessage | None = None,
) -> object:
    """What an agent's tool node injects, as far as the tools read it."""
    configurable = {"thread_id": thread, "__pregel_checkpointer": checkpointer, "checkpoint_ns": task}
    config = {"configurable": configurable, "metadata": {"lc_agent_name": agent} if agent else {}}
    state = {"messages": [message] if message else []}
    return SimpleNamespace(config=config, tool_call_id=call_id, state=state)


@pytest.fixture(autouse=True)
def _nothing_plays_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A toolkit that a test leaves open would play its speech beside every later test, on a thread of its own."""
    runners: list[_loop._Runner] = []

    class Noted(_loop._Runner):
        def __init__(self) -> None:
            super().__init__()
            runners.append(self)

    monkeypatch.setattr(_loop, "_Runner", Noted)
    yield
    for runner in runners:
        runner.stop()


def own_threads() -> list[threading.Thread]:
    """Threads of the package that the running test has started."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("agenthuman")]


Use = Callable[..., Awaitable[ToolMessage]]


class Caller:
    """Calls tools as an agent would, on one of the two paths."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def of(self, toolkit: AgentHumanToolkit) -> Use:
        """What calls the tools of a toolkit."""
        tools = {tool.name: tool for tool in toolkit.get_tools()}

        async def use(name: str, /, *, context: object | None = None, **arguments: Any) -> ToolMessage:
            if context is not None:
                arguments["runtime"] = context
            wish = {"name": name, "args": arguments, "id": "call_1", "type": "tool_call"}
            result = await tools[name].ainvoke(wish) if self.kind == "async" else tools[name].invoke(wish)
            assert isinstance(result, ToolMessage)
            return result

        return use


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture
def use(caller: Caller, toolkit: AgentHumanToolkit) -> Use:
    return caller.of(toolkit)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def client(service: FakeService, time: Time) -> Iterator[AgentHuman]:
    with httpx.Client(transport=httpx.MockTransport(service.handle)) as http:
        yield AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())


@pytest.fixture
async def async_client(service: FakeService, time: Time) -> AsyncIterator[AsyncAgentHuman]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(service.handle)) as http:
        yield AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())


@pytest.fixture
def toolkit(client: AgentHuman, async_client: AsyncAgentHuman) -> AgentHumanToolkit:
    return AgentHumanToolkit(client=client, async_client=async_client, room=ROOM)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGENTHUMAN_API_KEY", "AGENTHUMAN_BASE_URL", "AGENTHUMAN_AVATAR"):
        monkeypatch.delenv(name, raising=False)
