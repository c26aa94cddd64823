"""Agents on the emulator, over real HTTP, with nobody but the caller to end a session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.langchain.conftest import ScriptedModel, call, opened_id

CREATE, END = "agent_human_create_session", "agent_human_end_session"
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "langchain_agent.py"
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


@pytest.mark.chain
def test_example_runs_on_the_emulator() -> None:
    """The example's agent opens a session, sees the avatar in its room, and ends it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTHUMAN_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "The avatar is in the room, 640x480 pixels." in done.stdout
    assert "has ended and is no longer billed" in done.stdout
