"""Agents on the emulator, over real HTTP, with nobody but the caller to end a session."""

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.langchain.conftest import ScriptedModel, call, opened_id

CREATE, END = "agent_human_create_session", "agent_human_end_session"
ASK = {"messages": [HumanMessage("Show me your face.")]}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            [call(CREATE), lambda m: call(END, session_id=opened_id(m)), AIMessage("Done.")],
            id="ended-by-tool",
        ),
        pytest.param([call(CREATE), AIMessage("Done.")], id="forgotten"),
        pytest.param([call(CREATE), ConnectionError("model is down")], id="model-error"),
        pytest.param(
            [call(CREATE), *[call("unknown_tool", f"c{n}") for n in range(9)]], id="recursion-limit"
        ),
        pytest.param([call(CREATE, "c1"), call(CREATE, "c2"), AIMessage("Done.")], id="second-one-refused"),
    ],
)
async def test_no_session_outlives_the_block(script: list[object]) -> None:
    """However the run goes, every session was ended, by its caller: the emulator ends none here."""
    async with Emulator(media=False, sweep=False, expiry=False) as emulator:
        toolkit = AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url)
        agent = create_agent(ScriptedModel(script=script), toolkit.get_tools())
        try:
            async with toolkit:
                await agent.ainvoke(ASK, {"recursion_limit": 8})
        except (ConnectionError, RecursionError):
            pass
        assert [session["ended_by"] for session in emulator.sessions()] == ["caller"]
