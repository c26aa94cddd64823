"""The schemas of our tools as the packages of OpenAI, Anthropic and Gemini send them (.venv-langchain-newest, make test)."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-langchain-newest" / "bin" / "python"
LIMIT_S = 100.0  # hang limit; the packages take seconds to import, more on a busy machine
SIZE_LIMIT = 1_200  # characters
ARGUMENTS = {
    "agent_human_create_session": ["avatar", "aspect_ratio"],
    "agent_human_get_session": ["session_id"],
    "agent_human_list_sessions": ["status"],
    "agent_human_end_session": ["session_id"],
    "agent_human_say": ["session_id", "text"],
    "agent_human_without_arguments": [],
}
TOOL = pytest.mark.parametrize("name", ARGUMENTS)

pytestmark = [
    pytest.mark.chain,
    pytest.mark.skipif(not PYTHON.exists(), reason="no environment (make .venv-langchain-newest/.installed)"),
]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What `model_tools` reports: the tools in each form, by name, and what the packages warned of."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [PYTHON, "-m", "tests.crosscheck.model_tools"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=LIMIT_S,
    )
    said = json.loads(done.stdout)
    warnings = said.pop("warnings")
    return {form: {tool["name"]: tool for tool in tools} for form, tools in said.items()} | {
        "warnings": warnings
    }


def test_nothing_is_warned_of(report: dict[str, Any]) -> None:
    """No package says that it leaves something of a schema out."""
    assert report["warnings"] == []


@pytest.mark.parametrize("form", ["openai", "anthropic", "gemini", "gemini_own"])
def test_every_tool_is_small_in_every_form(form: str, report: dict[str, Any]) -> None:
    """A tool takes less than 1,200 characters of the model's context, at every provider."""
    for name in ARGUMENTS:
        assert len(json.dumps(report[form][name])) < SIZE_LIMIT


@TOOL
def test_openai_strict_mode(name: str, report: dict[str, Any]) -> None:
    """What is sent in strict mode is closed, requires every argument, and is what OpenAI's package makes of it."""
    sent = report["openai"][name]
    assert sent["strict"] is True
    assert_strict(sent["parameters"], ARGUMENTS[name])
    if ARGUMENTS[name]:
        assert sent["parameters"] == report["openai_own"][name]["parameters"]


@TOOL
def test_anthropic_strict_mode(name: str, report: dict[str, Any]) -> None:
    """Anthropic's package changes nothing in what is sent; what its strict mode does not take, it would move away."""
    sent = report["anthropic"][name]
    assert sent["strict"] is True
    assert_strict(sent["input_schema"], ARGUMENTS[name])
    assert report["anthropic_own"][name]["schema"] == without_type_of_enums(sent["input_schema"])


@TOOL
@pytest.mark.parametrize("form", ["gemini", "gemini_own"])
def test_gemini_keeps_every_keyword(name: str, form: str, report: dict[str, Any]) -> None:
    """All that we say of an argument arrives, null included; no runtime does, and no object without properties."""
    declared, sent = report[form][name], report["openai"][name]["parameters"]["properties"]
    if not sent:
        assert "parameters" not in declared
        return
    parameters = declared["parameters"]
    assert parameters["properties"] == {key: in_gemini(item) for key, item in sent.items()}
    optional = {"avatar", "aspect_ratio", "status"}
    assert parameters["required"] == [key for key in sent if key not in optional]


def assert_strict(schema: dict[str, Any], arguments: list[str]) -> None:
    """A flat object with exactly these arguments, each described and none of them an object."""
    assert list(schema["properties"]) == schema.get("required", []) == arguments
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    for item in schema["properties"].values():
        assert item["description"]
        assert set(item) <= {"type", "enum", "anyOf", "description"}  # and no default
        assert all(choice["type"] in {"string", "null"} for choice in item.get("anyOf", [item]))


def without_type_of_enums(schema: Any) -> Any:
    """A schema without the types that its lists of words already tell."""
    match schema:
        case dict():
            return {
                key: without_type_of_enums(value)
                for key, value in schema.items()
                if not (key == "type" and "enum" in schema)
            }
        case list():
            return [without_type_of_enums(item) for item in schema]
    return schema


def in_gemini(item: dict[str, Any]) -> dict[str, Any]:
    """An argument in Gemini's words, which have one type and a mark for null."""
    choices = item.get("anyOf", [item])
    [text] = [choice for choice in choices if choice["type"] != "null"]
    expected = {"type": "STRING", "description": item["description"]}
    if "enum" in text:
        expected["enum"] = text["enum"]
    return expected | ({"nullable": True} if len(choices) > 1 else {})
