"""The tools inside LangChain's own agent."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import API_KEY, ROOM, FakeService, Reply
from tests.langchain.conftest import ScriptedModel, call, opened_id

CREATE, END = "agent_human_create_session", "agent_human_end_session"
SECRETS = (API_KEY, ROOM.avatar_token, "seeded-session-token")
ASK = {"messages": [HumanMessage("Show me your face, then go.")]}


def open_and_end() -> ScriptedModel:
    return ScriptedModel(
        script=[
            call(CREATE, "call_1", metadata={"user": "Ada"}),
            lambda messages: call(END, "call_2", session_id=opened_id(messages)),
            AIMessage("Done."),
        ]
    )


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_agent_opens_and_ends_a_session(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """An agent opens a session, learns its id, and ends it."""
    agent = create_agent(open_and_end(), toolkit.get_tools())
    state = await agent.ainvoke(ASK) if native else agent.invoke(ASK)
    assert [message.status for message in state["messages"] if isinstance(message, ToolMessage)] == [
        "success"
    ] * 2
    assert state["messages"][-1].content == "Done."
    assert service.ended == ["sess_1"]


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_failure_does_not_crash_the_agent(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """A refused create is something that the model reads, not the end of the run."""
    service.faults.append(Reply(401, {"error": "Invalid API key"}))
    agent = create_agent(ScriptedModel(script=[call(CREATE), AIMessage("Sorry.")]), toolkit.get_tools())
    state = await agent.ainvoke(ASK) if native else agent.invoke(ASK)
    assert state["messages"][-2].status == "error"
    assert state["messages"][-1].content == "Sorry."


async def test_runtime_is_injected_and_hidden(toolkit: AgentHumanToolkit, service: FakeService) -> None:
    """The agent's runtime reaches the tools: the same call of one thread opens one session."""
    agent = create_agent(
        ScriptedModel(script=[call(CREATE, "call_1"), call(CREATE, "call_1"), AIMessage("Done.")]),
        toolkit.get_tools(),
    )
    await agent.ainvoke(ASK, {"configurable": {"thread_id": "thread-1"}})
    assert service.running == ["sess_1"]


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_model_error_ends_the_session(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """No hook of an agent sees a model that fails; the block around the run does."""
    agent = create_agent(
        ScriptedModel(script=[call(CREATE), ConnectionError("model is down")]), toolkit.get_tools()
    )

    async def run() -> None:
        if native:
            async with toolkit:
                await agent.ainvoke(ASK)
        else:
            with toolkit:
                agent.invoke(ASK)

    with pytest.raises(ConnectionError):
        await run()
    assert service.ended == ["sess_1"]


class Recorder(BaseTracer):
    """Keeps everything that a tracer is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self.seen.append(self._text(run))

    def _text(self, run: Run) -> str:
        inner = "".join(map(self._text, run.child_runs))
        return (
            f"{run.inputs!r}{run.outputs!r}{run.serialized!r}{run.extra!r}{run.error!r}{run.events!r}{inner}"
        )


async def test_nothing_secret_is_traced(toolkit: AgentHumanToolkit) -> None:
    """Inputs, outputs and artifacts of every run hold no key and no token."""
    recorder = Recorder()
    await create_agent(open_and_end(), toolkit.get_tools()).ainvoke(ASK, {"callbacks": [recorder]})
    seen = "".join(recorder.seen)
    assert "sess_1" in seen
    for secret in SECRETS:
        assert secret not in seen


async def test_nothing_secret_is_in_a_checkpoint(toolkit: AgentHumanToolkit) -> None:
    """The bytes that a checkpointer keeps hold no key and no token."""
    saver = InMemorySaver()
    agent = create_agent(open_and_end(), toolkit.get_tools(), checkpointer=saver)
    await agent.ainvoke(ASK, {"configurable": {"thread_id": "thread-1"}})
    kept: Any = (dict(saver.storage), dict(saver.writes), dict(saver.blobs))
    assert "sess_1" in repr(kept)
    for secret in SECRETS:
        assert secret not in repr(kept)
