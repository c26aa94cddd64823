"""LangChain's standard suites over each of our tools. What is here fills them in; nothing overrides a test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.tools import BaseTool

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain.tools import NAMES
from tests.langchain.toolbox import (
    AVATARS,
    CREATE,
    END,
    GET,
    LIST,
    OF_ONE_SESSION,
    SAY,
    USAGE,
    by_name,
    silence,
    speak_in_process,
)
from tests.vcr_support import API_KEY

_EXAMPLES: dict[str, dict[str, Any]] = {
    CREATE: {"aspect_ratio": "1:1"},
    GET: {"session_id": "sess_1"},
    LIST: {"status": "all"},
    END: {"session_id": "sess_1"},
    SAY: {"session_id": "sess_1", "text": "Hi."},
    AVATARS: {},
    USAGE: {},
}


class UnitSuite:
    """Mixin for `ToolsUnitTests`: one tool, made as an application does, through its toolkit."""

    name: str

    @property
    def tool_constructor(self) -> Callable[..., BaseTool]:
        return lambda **options: by_name(AgentHumanToolkit(tts=silence, tools=NAMES, **options))[self.name]

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"api_key": API_KEY}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return _EXAMPLES[self.name]

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        # Without the key in the environment nothing is constructed; that it is used shows in the other suite.
        return (
            {"AGENTHUMAN_API_KEY": API_KEY, "AGENTHUMAN_BASE_URL": "http://127.0.0.1:9"},
            {},
            {"name": self.name, "response_format": "content_and_artifact"},
        )


class IntegrationSuite:
    """Mixin for `ToolsIntegrationTests`: one tool on an emulator that only the environment tells it of.

    The tools for one session find one, opened with the same toolkit.
    """

    name: str

    @pytest.fixture(autouse=True)
    def _on_the_emulator(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self._session_id: str | None = None
        monkeypatch.setenv("AGENTHUMAN_API_KEY", emulator.api_key)
        monkeypatch.setenv("AGENTHUMAN_BASE_URL", emulator.url)
        with speak_in_process(AgentHumanToolkit(tts=silence, tools=NAMES)) as self._toolkit:
            yield
        assert all(session["ended_by"] == "caller" for session in emulator.sessions())

    @property
    def tool_constructor(self) -> BaseTool:
        tools = by_name(self._toolkit)
        if self.name in OF_ONE_SESSION and self._session_id is None:
            wish = {"name": CREATE, "args": {}, "id": "call_0", "type": "tool_call"}
            self._session_id = tools[CREATE].invoke(wish).artifact["session_id"]
        return tools[self.name]

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return _EXAMPLES[self.name] | ({"session_id": self._session_id} if self._session_id else {})

    async def test_example_succeeds(self, tool: BaseTool) -> None:
        """The standard tests ask for a message only; here the call also did what it should."""
        wish = {
            "name": tool.name,
            "args": self.tool_invoke_params_example,
            "id": "call_1",
            "type": "tool_call",
        }
        assert (await tool.ainvoke(wish)).status == "success"
