"""Our tools as the packages of three model providers send them. Runs in `.venv-langchain-newest`; JSON on standard output."""

import json
import logging
from functools import partial
from typing import Any

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import BaseTool, StructuredTool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_google_genai._function_utils import convert_to_genai_function_declarations
from langchain_openai import ChatOpenAI

from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._schemas import NoArgs, explain

KEY = "no-key"  # nothing is sent


def silence(text: str) -> tuple[bytes, int]:
    return b"", 16_000


def without_arguments(name: str) -> BaseTool:
    """A tool as those that take no arguments, whether the toolkit offers it or not."""
    return StructuredTool.from_function(
        func=lambda runtime=None: "Done.",
        name=name,
        description="A tool.",
        args_schema=NoArgs,
        infer_schema=False,
        handle_validation_error=partial(explain, NoArgs),
    )


def gemini(tools: list[Any]) -> list[Any]:
    [declared] = convert_to_genai_function_declarations(tools)
    return [item.model_dump(mode="json", exclude_none=True) for item in declared.function_declarations or []]


class Kept(logging.Handler):
    """What a converter has to say of our schemas."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main() -> None:
    logging.getLogger().addHandler(kept := Kept())
    tools = [
        *AgentHumanToolkit(api_key=KEY, tts=silence).get_tools(),
        without_arguments("agent_human_without_arguments"),
    ]
    bound: Any = ChatOpenAI(model="any", api_key=KEY).bind_tools(tools, strict=True)
    report: dict[str, Any] = {"openai": [tool["function"] for tool in bound.kwargs["tools"]]}
    report["openai_own"] = [
        openai.pydantic_function_tool(tool.args_schema, name=tool.name)["function"] for tool in tools
    ]
    bound = ChatAnthropic(model="any", api_key=KEY).bind_tools(tools, strict=True)
    report["anthropic"] = bound.kwargs["tools"]
    report["anthropic_own"] = [
        {"name": tool["name"], "schema": anthropic.transform_schema(tool["input_schema"])}
        for tool in report["anthropic"]
    ]
    bound = ChatGoogleGenerativeAI(model="any", api_key=KEY).bind_tools(tools)
    report["gemini"] = gemini(bound.kwargs["tools"])
    report["gemini_own"] = gemini(tools)
    report["warnings"] = kept.messages
    print(json.dumps(report))  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
