"""However a run dies inside the block: its sessions are ended, by the caller, since here nobody else would."""

import asyncio
import json
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.errors import GraphRecursionError

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.langchain.conftest import CrashError, ScriptedModel, call
from tests.langchain.toolbox import CREATE, END
from tests.vcr_support import emulators

LIMIT_S = 60.0  # hang limit only
ASK: Any = {"messages": [HumanMessage("Show me your face.")]}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A service that ends no session by itself."""
    with emulators() as start:
        yield start(sweep=False, expiry=False, plan="pro")


@pytest.fixture
def toolkit(emulator: Emulator) -> AgentHumanToolkit:
    return AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url)


def all_ended_by_the_caller(emulator: Emulator, sessions: int = 1) -> bool:
    return [session["ended_by"] for session in emulator.sessions()] == ["caller"] * sessions


def failing_tool(error: BaseException) -> BaseTool:
    def fail() -> str:
        raise error

    async def afail() -> str:
        raise error

    return StructuredTool.from_function(fail, coroutine=afail, name="fail", description="Fail.")


def model_that_raises(error: BaseException) -> ScriptedModel:
    return ScriptedModel(script=[call(CREATE), error])


DEATHS: dict[str, tuple[Callable[[], ScriptedModel], BaseException | None, type[BaseException]]] = {
    "model-error": (lambda: model_that_raises(CrashError()), None, CrashError),
    "tool-error": (
        lambda: ScriptedModel(script=[call(CREATE), call("fail", "c2")]),
        CrashError(),
        CrashError,
    ),
    "unhandled-tool-exception": (
        lambda: ScriptedModel(script=[call(CREATE), call("fail", "c2")]),
        ToolException("no handler"),
        ToolException,
    ),
    "recursion-limit": (
        lambda: ScriptedModel(script=[call(CREATE), *[call("unknown", f"c{n}") for n in range(20)]]),
        None,
        GraphRecursionError,
    ),
    "script-defect": (lambda: ScriptedModel(script=[call(CREATE)]), None, IndexError),
}
INTERRUPTIONS = {
    "interrupt-in-model": (lambda: model_that_raises(KeyboardInterrupt()), None, KeyboardInterrupt),
    "interrupt-in-tool": (
        lambda: ScriptedModel(script=[call(CREATE), call("fail", "c2")]),
        KeyboardInterrupt(),
        KeyboardInterrupt,
    ),
    "exit-in-tool": (
        lambda: ScriptedModel(script=[call(CREATE), call("fail", "c2")]),
        SystemExit(1),
        SystemExit,
    ),
}


@pytest.mark.parametrize("name", DEATHS)
async def test_async_run_that_dies_leaves_nothing_open(
    name: str, toolkit: AgentHumanToolkit, emulator: Emulator
) -> None:
    """An error of a model or a tool, or the recursion limit, ends the session and comes out as it was."""
    model, in_tool, expected = DEATHS[name]
    agent = create_agent(model(), [*toolkit.get_tools(), failing_tool(in_tool or CrashError())])
    with pytest.raises(expected):
        async with toolkit:
            await agent.ainvoke(ASK, {"recursion_limit": 10})
    assert all_ended_by_the_caller(emulator)


# What ends the interpreter would end the test's event loop too; async runs get a real Ctrl-C below.
@pytest.mark.parametrize("name", [*DEATHS, *INTERRUPTIONS])
def test_sync_run_that_dies_leaves_nothing_open(
    name: str, toolkit: AgentHumanToolkit, emulator: Emulator
) -> None:
    """The same for a sync run, and for Ctrl-C and exit in it."""
    model, in_tool, expected = {**DEATHS, **INTERRUPTIONS}[name]
    agent = create_agent(model(), [*toolkit.get_tools(), failing_tool(in_tool or CrashError())])
    with pytest.raises(expected), toolkit:
        agent.invoke(ASK, {"recursion_limit": 10})
    assert all_ended_by_the_caller(emulator)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_tool_that_dies_beside_the_create(
    native: bool, toolkit: AgentHumanToolkit, emulator: Emulator
) -> None:
    """A model's two calls run at once; when the other one dies first, the session that opens late is ended."""
    emulator.fail("delay", method="POST", path="/v1/sessions", delay_s=0.5, processed=True)
    both = AIMessage("", tool_calls=[*call(CREATE, "c1").tool_calls, *call("fail", "c2").tool_calls])
    agent = create_agent(ScriptedModel(script=[both]), [*toolkit.get_tools(), failing_tool(CrashError())])

    async def run() -> None:
        if native:
            async with toolkit:
                await agent.ainvoke(ASK)
        else:
            with toolkit:
                agent.invoke(ASK)

    with pytest.raises(CrashError):
        await run()
    if left := asyncio.all_tasks() - {asyncio.current_task()}:  # an agent does not wait for its other calls
        await asyncio.wait(left, timeout=LIMIT_S)
    # A create that is cancelled before it is on the wire opens nothing.
    assert all_ended_by_the_caller(emulator, len(emulator.sessions()))


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_stream_that_nobody_reads_on(
    native: bool, toolkit: AgentHumanToolkit, emulator: Emulator
) -> None:
    """A program that stops reading a stream and leaves the block leaves nothing open."""
    agent = create_agent(ScriptedModel(script=[call(CREATE), AIMessage("Done.")]), toolkit.get_tools())
    if native:
        async with toolkit:
            async for update in agent.astream(ASK):
                if "tools" in update:
                    break
    else:
        with toolkit:
            for update in agent.stream(ASK):
                if "tools" in update:
                    break
    assert all_ended_by_the_caller(emulator)


@asynccontextmanager
async def cancelled_when(condition: Callable[[], Awaitable[object]]) -> AsyncIterator[Callable[..., Any]]:
    """Cancel a run when something is so, and wait for its end."""

    async def run(work: Any) -> None:
        task = asyncio.ensure_future(work)
        await condition()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async with asyncio.timeout(LIMIT_S):
        yield run


async def _run(toolkit: AgentHumanToolkit, model: ScriptedModel, *tools: BaseTool) -> None:
    async with toolkit:
        await create_agent(model, [*toolkit.get_tools(), *tools]).ainvoke(ASK)


async def test_cancel_in_another_tool(toolkit: AgentHumanToolkit, emulator: Emulator) -> None:
    """An agent that is cancelled while another tool works ends its session."""
    reached = asyncio.Event()

    async def work() -> str:
        reached.set()
        await asyncio.Event().wait()
        return ""

    tool = StructuredTool.from_function(coroutine=work, name="work", description="Work.")
    async with cancelled_when(reached.wait) as run:
        await run(_run(toolkit, ScriptedModel(script=[call(CREATE), call("work", "c2")]), tool))
    assert all_ended_by_the_caller(emulator)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread."""
    while not condition():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


async def test_cancel_while_the_create_is_on_the_wire(toolkit: AgentHumanToolkit, emulator: Emulator) -> None:
    """A create that the service has carried out, and whose answer comes after the cancel, is ended."""
    emulator.fail("delay", method="POST", path="/v1/sessions", delay_s=1.0, processed=True)
    async with cancelled_when(lambda: _until(lambda: bool(emulator.sessions()))) as run:
        await run(_run(toolkit, ScriptedModel(script=[call(CREATE)])))
    assert all_ended_by_the_caller(emulator)


@pytest.mark.parametrize("processed", [pytest.param(False, id="before"), pytest.param(True, id="after")])
async def test_cancel_while_the_end_is_on_the_wire(
    processed: bool, toolkit: AgentHumanToolkit, emulator: Emulator
) -> None:
    """A cancelled end is made good by the block's own."""
    delayed = threading.Event()

    def end(_: Any) -> AIMessage:
        emulator.fail("delay", path="/v1/sessions/*/end", delay_s=1.0, processed=processed)
        delayed.set()
        return call(END, "c2", session_id=emulator.sessions()[0]["session_id"])

    def is_ending() -> bool:
        return delayed.is_set() and not emulator._service.faults.describe()

    async with cancelled_when(lambda: _until(is_ending)) as run:
        await run(_run(toolkit, ScriptedModel(script=[call(CREATE), end])))
    assert all_ended_by_the_caller(emulator)


async def test_time_out_around_the_run(toolkit: AgentHumanToolkit, emulator: Emulator) -> None:
    """A program's own time limit is a cancellation like any other."""
    reached = asyncio.Event()

    async def work() -> str:
        reached.set()
        await asyncio.Event().wait()
        return ""

    tool = StructuredTool.from_function(coroutine=work, name="work", description="Work.")
    limit = asyncio.timeout(LIMIT_S)

    async def run_out() -> None:
        await reached.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    running_out = asyncio.ensure_future(run_out())
    with pytest.raises(TimeoutError):
        async with limit:
            await _run(toolkit, ScriptedModel(script=[call(CREATE), call("work", "c2")]), tool)
    await running_out
    assert all_ended_by_the_caller(emulator)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("where", ["model", "tool"])
async def test_ctrl_c(native: bool, where: str, emulator: Emulator) -> None:
    """A program that is interrupted at its terminal ends its session on the way out."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.langchain.a_run"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    options = {"base_url": emulator.url, "api_key": emulator.api_key, "native": native, "wait_in": where}
    process.stdin.write(json.dumps(options).encode() + b"\n")
    try:
        async with asyncio.timeout(LIMIT_S):
            while line := await process.stdout.readline():
                if json.loads(line)["event"] == "reached":
                    break
            process.send_signal(signal.SIGINT)
            process.stdin.close()
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"KeyboardInterrupt" in errors
    assert all_ended_by_the_caller(emulator)
