"""The tools inside LangChain's own agent."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import API_KEY, ROOM, FakeService, Reply
from tests.langchain.conftest import CrashError, DiesOnce, ScriptedModel, call, opened_id

CREATE, END = "agent_human_create_session", "agent_human_end_session"
GET, LIST = "agent_human_get_session", "agent_human_list_sessions"
SECRETS = (API_KEY, ROOM.avatar_token, "seeded-session-token")
ASK = {"messages": [HumanMessage("Show me your face, then go.")]}


def open_look_and_end() -> ScriptedModel:
    return ScriptedModel(
        script=[
            call(CREATE, "call_1"),
            lambda messages: call(GET, "call_2", session_id=opened_id(messages)),
            call(LIST, "call_3"),
            lambda messages: call(END, "call_4", session_id=messages[2].artifact["session_id"]),
            AIMessage("Done."),
        ]
    )


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_agent_opens_looks_and_ends(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """An agent opens a session, learns its id, looks at it, and ends it."""
    agent = create_agent(open_look_and_end(), toolkit.get_tools())
    state = await agent.ainvoke(ASK) if native else agent.invoke(ASK)
    assert [message.status for message in state["messages"] if isinstance(message, ToolMessage)] == [
        "success"
    ] * 4
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


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_runtime_is_injected_and_hidden(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """The agent's runtime reaches the tools: a session is of the thread, and another thread does not see it."""
    for thread in ("ada", "bob"):
        agent = create_agent(
            ScriptedModel(script=[call(CREATE, "call_1"), call(LIST, "call_2"), AIMessage("Done.")]),
            toolkit.get_tools(),
        )
        config: Any = {"configurable": {"thread_id": thread}}
        state = await agent.ainvoke(ASK, config) if native else agent.invoke(ASK, config)
        opened, listed = (message for message in state["messages"] if isinstance(message, ToolMessage))
        assert [each["session_id"] for each in listed.artifact["sessions"]] == [opened.artifact["session_id"]]
    assert service.running == ["sess_1", "sess_2"]


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_call_id_that_repeats_is_another_call(
    native: bool, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """Some models number their calls anew with each message: the same id once more is another call, and session."""
    script = [call(CREATE, "functions.create:0"), call(CREATE, "functions.create:0"), AIMessage("Done.")]
    agent = create_agent(ScriptedModel(script=script), toolkit.get_tools())
    config: Any = {"configurable": {"thread_id": "thread-1"}}
    await agent.ainvoke(ASK, config) if native else agent.invoke(ASK, config)
    assert service.running == ["sess_1", "sess_2"]


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_replay_in_a_new_process_finds_its_session(
    native: bool, client: AgentHuman, async_client: AsyncAgentHuman, service: FakeService
) -> None:
    """A run that died after the create, resumed by a toolkit without memory, opens no second session."""
    saver = InMemorySaver()

    def agent(*script: Any) -> Any:
        toolkit = AgentHumanToolkit(client=client, async_client=async_client, room=ROOM)
        return create_agent(
            ScriptedModel(script=list(script)),
            toolkit.get_tools(),
            checkpointer=saver,
            middleware=[] if service.sessions else [DiesOnce()],
        )

    config: Any = {"configurable": {"thread_id": "thread-1"}}
    with pytest.raises(CrashError):
        agent(call(CREATE)).invoke(ASK, config)
    resumed = agent(AIMessage("Done."))
    state = await resumed.ainvoke(None, config) if native else resumed.invoke(None, config)
    told = state["messages"][-2]
    assert told.content == "Session sess_1 was opened by this call before and is still running."
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
