"""What the clean-up middleware ends, and what it cannot: asserted as it is."""

import asyncio
import logging
import subprocess
import sys
import threading
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.types import Command, interrupt

from agenthuman_plugins.langchain import AgentHumanToolkit, SessionCleanupMiddleware
from tests.client.conftest import FakeService, Reply
from tests.langchain.conftest import ScriptedModel, call, opened_id

CREATE, END = "agent_human_create_session", "agent_human_end_session"
LIMIT_S = 30.0  # hang limit
ASK = {"messages": [HumanMessage("Show me your face.")]}
BOTH = pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])


@tool
def broken() -> str:
    """Fail."""
    raise ConnectionError("tool is down")


@tool
def ask_human() -> str:
    """Ask a human."""
    return str(interrupt("May I?"))


class Agent:
    """An agent with the middleware."""

    def __init__(self, toolkit: AgentHumanToolkit, script: list[Any], *more: Any, **options: Any) -> None:
        self.graph = create_agent(
            ScriptedModel(script=script),
            [*toolkit.get_tools(), broken, ask_human, *options.pop("tools", [])],
            middleware=[SessionCleanupMiddleware(toolkit), *more],
            **options,
        )

    async def run(self, native: bool, ask: Any = ASK, thread: str | None = None, **config: Any) -> Any:
        if thread is not None:
            config["configurable"] = {"thread_id": thread}
        if native:
            async with asyncio.timeout(LIMIT_S):
                return await self.graph.ainvoke(ask, config)
        return self.graph.invoke(ask, config)


@BOTH
@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param([call(CREATE), AIMessage("Done.")], None, id="normal-end"),
        pytest.param([call(CREATE), call("broken", "c2")], ConnectionError, id="tool-error"),
        pytest.param([call(CREATE), ConnectionError("model is down")], ConnectionError, id="model-error"),
        pytest.param([call(CREATE), KeyboardInterrupt()], KeyboardInterrupt, id="ctrl-c-in-the-model"),
    ],
)
async def test_sessions_end_with_the_run(
    native: bool,
    script: list[Any],
    error: type[BaseException] | None,
    toolkit: AgentHumanToolkit,
    service: FakeService,
) -> None:
    """A run that ends, or that fails in the model or in a tool, leaves no session; its error comes out as it is."""
    agent = Agent(toolkit, script)
    if error is None:
        await agent.run(native)
    elif native and error is KeyboardInterrupt:
        # It leaves its event loop at once, so it gets one of its own.
        with pytest.raises(error):
            await asyncio.to_thread(_run_raising, agent)
    else:
        with pytest.raises(error):
            await agent.run(native)
    assert service.ended == ["sess_1"]


def _run_raising(agent: Agent) -> None:
    asyncio.run(agent.run(native=True))


@BOTH
async def test_recursion_limit_is_not_seen(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """No hook sees the recursion limit: the session stays open, as documented."""
    agent = Agent(toolkit, [call(CREATE), *[call(END, f"c{n}", session_id="x") for n in range(9)]])
    with pytest.raises(GraphRecursionError):
        await agent.run(native, recursion_limit=6)
    assert service.running == ["sess_1"]


@pytest.mark.parametrize("where", ["tool", "model"])
async def test_cancelled_run_ends_its_sessions(
    where: str, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """A run that is cancelled while a tool or the model works ends its sessions before it comes back."""
    inside = asyncio.Event()

    async def hang() -> str:
        inside.set()
        await asyncio.Event().wait()
        return ""

    class Hanging(ScriptedModel):
        async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            if where == "model" and self._turn == 1:
                await hang()
            return self._generate(messages)

    @tool
    async def wait() -> str:
        """Wait for ever."""
        return await hang()

    graph = create_agent(
        Hanging(script=[call(CREATE), call("wait", "c2")]),
        [*toolkit.get_tools(), wait],
        middleware=[SessionCleanupMiddleware(toolkit)],
    )
    async with asyncio.timeout(LIMIT_S):
        run = asyncio.ensure_future(graph.ainvoke(ASK))
        await inside.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert service.ended == ["sess_1"]


@BOTH
async def test_pause_for_a_human_keeps_sessions(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """A tool that pauses for a human is no error; the session ends after the resumed run."""
    agent = Agent(
        toolkit, [call(CREATE), call("ask_human", "c2"), AIMessage("Done.")], checkpointer=InMemorySaver()
    )
    await agent.run(native, thread="t")
    assert service.running == ["sess_1"]
    await agent.run(native, Command(resume="Yes."), thread="t")
    assert service.ended == ["sess_1"]


@BOTH
async def test_pause_for_an_approval_keeps_sessions(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """LangChain's own approval of tool calls pauses without ending what runs."""
    agent = Agent(
        toolkit,
        [call(CREATE), lambda m: call(END, "c2", session_id=opened_id(m)), AIMessage("Done.")],
        HumanInTheLoopMiddleware(interrupt_on={END: True}),
        checkpointer=InMemorySaver(),
    )
    await agent.run(native, thread="t")
    assert service.running == ["sess_1"]
    await agent.run(native, Command(resume={"decisions": [{"type": "approve"}]}), thread="t")
    assert service.ended == ["sess_1"]


@BOTH
async def test_other_threads_keep_their_sessions(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """A run ends the sessions of its own thread; those of others, and those that the program opened, go on."""
    toolkit.get_tools()[0].invoke({})
    other = Agent(
        toolkit, [call(CREATE), call("ask_human", "c2"), AIMessage("Done.")], checkpointer=InMemorySaver()
    )
    await other.run(native, thread="other")
    await Agent(toolkit, [call(CREATE), AIMessage("Done.")]).run(native, thread="mine")
    assert service.ended == ["sess_3"]
    await Agent(toolkit, [AIMessage("Done.")]).run(native)
    assert service.running == ["sess_1", "sess_2"]


@BOTH
@pytest.mark.parametrize("fails", [False, True], ids=["good-run", "failing-run"])
async def test_failing_end_hides_nothing(
    native: bool,
    fails: bool,
    toolkit: AgentHumanToolkit,
    service: FakeService,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A session that cannot be ended is logged; the run's result, or its error, comes out all the same."""

    def last(_: Any) -> AIMessage:
        service.faults.append(Reply(401))
        if fails:
            raise ConnectionError("model is down")
        return AIMessage("Done.")

    agent = Agent(toolkit, [call(CREATE), last])
    if fails:
        with pytest.raises(ConnectionError, match="model is down"):
            await agent.run(native)
    else:
        assert (await agent.run(native))["messages"][-1].content == "Done."
    assert "sess_1 could not be ended" in caplog.text
    assert service.running == ["sess_1"]


async def test_async_hooks_do_not_block(toolkit: AgentHumanToolkit, service: FakeService) -> None:
    """An async agent's loop is never blocked by the hooks."""
    agent = Agent(toolkit, [call(CREATE), ConnectionError("model is down")])
    with blockbuster_ctx(), pytest.raises(ConnectionError):
        await agent.run(native=True)
    assert service.ended == ["sess_1"]


async def test_session_that_is_opening_is_left(toolkit: AgentHumanToolkit, service: FakeService) -> None:
    """A tool that fails beside a create that is under way: that session stays open, as documented."""
    opening, failed, opened = threading.Event(), threading.Event(), asyncio.Event()

    @tool
    async def fail_first() -> str:
        """Fail while the other call is under way."""
        await asyncio.to_thread(opening.wait, LIMIT_S)
        raise ConnectionError("tool is down")

    create = toolkit.get_tools()[0]
    slow: BaseTool = create.model_copy()
    inner = create.coroutine  # type: ignore[attr-defined]

    async def slowly(**arguments: Any) -> Any:
        opening.set()
        await asyncio.to_thread(failed.wait, LIMIT_S)
        try:
            return await inner(**arguments)
        finally:
            opened.set()

    slow.coroutine = slowly  # type: ignore[attr-defined]
    both = AIMessage("", tool_calls=[*call(CREATE, "c1").tool_calls, *call("fail_first", "c2").tool_calls])

    class Told(SessionCleanupMiddleware):
        async def _aend(self) -> None:
            await super()._aend()
            failed.set()
            await opened.wait()  # or the graph may cancel the create, which then ends what it has opened

    graph = create_agent(ScriptedModel(script=[both]), [slow, fail_first], middleware=[Told(toolkit)])
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ConnectionError):
            await graph.ainvoke(ASK)
    assert service.running == ["sess_1"]
    assert service.ended == []


def test_without_langchain_the_name_says_what_to_install() -> None:
    """The package imports with langchain-core alone; asking for the middleware names what it needs."""
    script = (
        "import sys; sys.modules['langchain'] = None\n"
        "import agenthuman_plugins.langchain as ours\n"
        "try: ours.SessionCleanupMiddleware\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "run `pip install langchain`" in done.stdout


def test_unknown_names_are_unknown() -> None:
    """The lazy export makes up no names."""
    import agenthuman_plugins.langchain as ours  # noqa: PLC0415

    with pytest.raises(AttributeError, match="Middleware2"):
        _ = ours.Middleware2
    assert logging.getLogger("agenthuman_plugins.langchain").handlers == []
