"""Which tools a toolkit offers, and which settings contradict each other."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool

from agenthuman_plugins.client import AgentHuman, ConfigurationError
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain.tools import NAMES

CREATE, END = "agent_human_create_session", "agent_human_end_session"
GET, LIST = "agent_human_get_session", "agent_human_list_sessions"
SAY = "agent_human_say"
AVATARS, USAGE = "agent_human_list_avatars", "agent_human_get_usage"
SCHEMAS = Path(__file__).parent / "tool_schemas.json"


def voice(text: str) -> tuple[bytes, int]:
    return b"", 16_000


def names(client: AgentHuman, **options: Any) -> list[str]:
    return [tool.name for tool in AgentHumanToolkit(client=client, **options).get_tools()]


def test_tools_in_the_order_of_their_use(client: AgentHuman) -> None:
    """Without a selection all tools are offered; to speak, a voice is needed."""
    assert names(client) == [CREATE, GET, LIST, END]
    assert names(client, tts=voice) == [CREATE, GET, LIST, END, SAY]


def test_selection_by_name(client: AgentHuman) -> None:
    """Only the named tools are offered, each once, in the usual order."""
    assert names(client, tools=[END, CREATE, END]) == [CREATE, END]
    assert names(client, tools=(CREATE,)) == [CREATE]


def test_tools_that_only_look(client: AgentHuman) -> None:
    """What only looks is a selection like any other, where there can be something to see."""
    assert names(client, tools=[LIST, GET], scope="account") == [GET, LIST]
    assert names(client, tools=[GET], namespace="shop") == [GET]


def test_two_tools_are_offered_by_name_alone(client: AgentHuman) -> None:
    """The lists of avatars and of what is left cost the model's attention, so they are switched on."""
    assert names(client, tools=[USAGE, AVATARS]) == [AVATARS, USAGE]
    assert names(client, tools=[CREATE, AVATARS, SAY], tts=voice) == [CREATE, SAY, AVATARS]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param({"tools": ["create_session"]}, "There is no tool 'create_session'", id="unknown"),
        pytest.param({"tools": CREATE}, "must be a list of names", id="text"),
        pytest.param({"tools": []}, "must be a list of names", id="none"),
        pytest.param({"tools": [CREATE, SAY]}, "pass tts, too", id="say-without-voice"),
        pytest.param({"tools": [CREATE], "tts": voice}, "leave one out", id="voice-without-say"),
        pytest.param({"tools": [END]}, "or scope='account'", id="end-sees-none"),
        pytest.param({"tools": [GET, LIST], "scope": "thread"}, "pass namespace=", id="look-sees-none"),
        pytest.param({"scope": "everything"}, "must be 'agent', 'thread' or 'account'", id="scope"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], sentence: str, client: AgentHuman) -> None:
    """A wrong setting fails at construction, in a sentence that says what to change."""
    with pytest.raises(ConfigurationError, match=sentence):
        AgentHumanToolkit(client=client, **options)


@pytest.mark.skipif(
    version("langchain-core").startswith("1.0."),
    reason="older LangChain calls arguments with a default required",
)
def test_schemas_are_small_and_as_committed(client: AgentHuman) -> None:
    """Every model reads exactly these schemas, each under 1,200 characters: a change of them is a decision."""
    tools = AgentHumanToolkit(client=client, tts=voice, tools=NAMES).get_tools()
    schemas = [convert_to_openai_tool(tool) for tool in tools]
    for schema in schemas:
        assert len(json.dumps(schema)) < 1_200
    assert schemas == json.loads(SCHEMAS.read_text())
