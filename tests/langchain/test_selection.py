"""Which tools a toolkit offers, and which settings contradict each other."""

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool

from agenthuman_plugins.client import AgentHuman, ConfigurationError
from agenthuman_plugins.langchain import AgentHumanToolkit

CREATE, END = "agent_human_create_session", "agent_human_end_session"
GET, LIST = "agent_human_get_session", "agent_human_list_sessions"
SAY = "agent_human_say"
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


def test_read_only_leaves_get_and_list(client: AgentHuman) -> None:
    """Read-only tools change nothing."""
    assert names(client, read_only=True, scope="account") == [GET, LIST]
    assert names(client, read_only=True, scope="account", tools=[LIST]) == [LIST]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param({"tools": ["create_session"]}, "There is no tool 'create_session'", id="unknown"),
        pytest.param({"tools": CREATE}, "must be a list of names", id="text"),
        pytest.param({"tools": []}, "must be a list of names", id="none"),
        pytest.param({"tools": [CREATE, SAY]}, "pass tts too", id="say-without-voice"),
        pytest.param({"tools": [CREATE], "tts": voice}, "leave one out", id="voice-without-say"),
        pytest.param(
            {"read_only": True, "scope": "account", "tts": voice}, "leave one out", id="read-only-voice"
        ),
        pytest.param(
            {"read_only": True, "scope": "account", "tools": [END]},
            "the toolkit is read_only",
            id="read-only-end",
        ),
        pytest.param({"read_only": True}, "pass scope='account'", id="read-only-sees-none"),
        pytest.param({"tools": [END]}, "pass scope='account'", id="end-sees-none"),
        pytest.param({"scope": "everything"}, "must be 'toolkit' or 'account'", id="scope"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], sentence: str, client: AgentHuman) -> None:
    """A wrong setting fails at construction, in a sentence that says what to change."""
    with pytest.raises(ConfigurationError, match=sentence):
        AgentHumanToolkit(client=client, **options)


def test_schemas_are_small_and_as_committed(client: AgentHuman) -> None:
    """Every model reads exactly these schemas, each under 1,200 characters: a change of them is a decision."""
    tools = AgentHumanToolkit(client=client, tts=voice).get_tools()
    schemas = [convert_to_openai_tool(tool) for tool in tools]
    for schema in schemas:
        assert len(json.dumps(schema)) < 1_200
    assert schemas == json.loads(SCHEMAS.read_text())
