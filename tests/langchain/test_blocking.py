"""No async path of the tools blocks the event loop, as `langgraph dev` demands of everything that it serves."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from blockbuster import BlockingError, blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import LiveKitRoom
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionCleanupMiddleware, SessionRequest
from tests.client.conftest import FakeService
from tests.langchain.conftest import CrashError, DiesOnce, ScriptedModel, call, opened_id
from tests.langchain.toolbox import (
    CREATE,
    END,
    GET,
    LIST,
    OF_ONE_SESSION,
    SAY,
    all_tools,
    by_name,
    silence,
    speak_in_process,
    told,
)
from tests.vcr_support import emulators

LIMIT_S = 60.0  # hang limit only
ASK: Any = {"messages": [HumanMessage("Show me your face.")]}
THREAD: Any = {"configurable": {"thread_id": "thread-1"}}


@contextmanager
def nothing_may_block() -> Iterator[None]:
    """Blocking calls of our own code on any event loop are errors; those of others are theirs."""
    with blockbuster_ctx(
        ["agenthuman_plugins.langchain", "agenthuman_plugins.client", "agenthuman_plugins.speech"]
    ):
        yield


async def test_the_guard_sees_a_blocking_call() -> None:
    """A room provider that is taken for async and blocks is found."""

    async def blocking_room(_: SessionRequest) -> LiveKitRoom:
        time.sleep(0.001)  # noqa: ASYNC251 - the defect that is looked for
        return LiveKitRoom("wss://rooms.example.com", "token")

    create = by_name(all_tools(FakeService(), room=blocking_room))[CREATE]
    with nothing_may_block(), pytest.raises(BlockingError):
        await create.ainvoke({})


async def test_tools_with_blocking_functions_of_the_application() -> None:
    """Plain functions of the application may block: they run beside the loop."""
    seen: list[str] = []

    def room(_: SessionRequest) -> LiveKitRoom:
        time.sleep(0.001)
        return LiveKitRoom("wss://rooms.example.com", "token")

    def on_session(session: Any, _: SessionRequest) -> None:
        time.sleep(0.001)
        seen.append(session.session_id)

    def voice(text: str) -> tuple[bytes, int]:
        time.sleep(0.001)
        return silence(text)

    toolkit = all_tools(FakeService(), room=room, on_session=on_session, tts=voice)
    with nothing_may_block():
        async with asyncio.timeout(LIMIT_S), toolkit:
            tools = by_name(toolkit)
            await tools[CREATE].ainvoke({})
            assert seen == ["sess_1"]
            assert "Spoken" in await tools[SAY].ainvoke({"session_id": "sess_1", "text": "Hi."})


@pytest.mark.parametrize("scope", ["agent", "thread", "account"])
async def test_refusals(scope: Any) -> None:
    """Refused arguments and unknown ids do not block either."""
    tools = by_name(all_tools(FakeService(), scope=scope))
    with nothing_may_block():
        for name, others in OF_ONE_SESSION.items():
            await tools[name].ainvoke({"session_id": "../x", **others})
            await tools[name].ainvoke({"session_id": "sess_unknown", **others})
        await tools[CREATE].ainvoke({"avatar": "data:"})
        await tools[LIST].ainvoke({"status": "?"})


async def test_end_of_a_block_with_much_left() -> None:
    """Links and sessions that are left, a cancellation among it, are ended without blocking."""
    service = FakeService()

    async def run(inside: asyncio.Event) -> None:
        async with all_tools(service) as toolkit:
            tools = by_name(toolkit)
            for _ in range(3):
                await tools[CREATE].ainvoke({})
            await tools[SAY].ainvoke({"session_id": "sess_2", "text": "Hi."})
            inside.set()
            await asyncio.Event().wait()

    with nothing_may_block():
        async with asyncio.timeout(LIMIT_S):
            inside = asyncio.Event()
            task = asyncio.ensure_future(run(inside))
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert service.running == []


def test_the_first_toolkit_of_a_process_may_be_made_on_a_loop() -> None:
    """A server that builds its agents on demand does so on its event loop; what is read once is read before."""
    program = """
import asyncio, blockbuster
from agenthuman_plugins.langchain import AgentHumanToolkit

async def main():
    with blockbuster.blockbuster_ctx():
        AgentHumanToolkit(api_key="ah_test_key", tts=lambda text: (b"", 16000)).get_tools()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with emulators() as start:
        yield start(sweep=False, expiry=False)


async def test_an_agents_whole_run_over_the_network(emulator: Emulator) -> None:
    """Making the clients, every tool, a replay and the block's end: nothing blocks on a real connection."""
    saver = InMemorySaver()
    script = [
        call(CREATE, "c1"),
        lambda messages: call(GET, "c2", session_id=opened_id(messages)),
        lambda messages: call(SAY, "c3", session_id=opened_id(messages), text="Hi."),
        call(LIST, "c4"),
        lambda messages: call(END, "c5", session_id=emulator.sessions()[0]["session_id"]),
        AIMessage("Done."),
    ]
    with nothing_may_block():
        toolkit = AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url, tts=silence)
        speak_in_process(toolkit)
        model = ScriptedModel(script=script)
        agent = create_agent(model, toolkit.get_tools(), checkpointer=saver, middleware=[DiesOnce()])
        async with asyncio.timeout(LIMIT_S), toolkit:
            with pytest.raises(CrashError):
                await agent.ainvoke(ASK, THREAD)
            state = await agent.ainvoke(None, THREAD)
            answers = told(state["messages"])
            assert [message.status for message in answers] == ["success"] * 5
            assert "was opened by this call before" in answers[0].content
    (session,) = emulator.sessions()
    assert session["ended_by"] == "caller"


async def test_the_middlewares_hooks(emulator: Emulator) -> None:
    """The hooks that end a run's sessions, after it and on an error, do not block."""
    with nothing_may_block():
        toolkit = AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url)
        for last in (AIMessage("Done."), ConnectionError("model is down")):
            agent = create_agent(
                ScriptedModel(script=[call(CREATE), last]),
                toolkit.get_tools(),
                middleware=[SessionCleanupMiddleware(toolkit)],
            )
            with suppress(ConnectionError):
                await agent.ainvoke(ASK)
        async with toolkit:
            pass
    assert [session["ended_by"] for session in emulator.sessions()] == ["caller"] * 2
