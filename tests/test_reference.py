"""The reference names everything that is public, and shows how each call is made."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agenthuman_plugins import AgentHuman
from agenthuman_plugins.client import Answered
from agenthuman_plugins.testing import RunningEmulator

_ROOT = Path(__file__).parent.parent
_PAGES = {page.stem: page.read_text() for page in (_ROOT / "docs" / "reference").glob("*.md")}
_PUBLIC = ("client", "emulator", "langchain", "pipecat", "speech", "testing")
# Of the pytest plugin: pytest finds them by name, and the how-to about tests explains them.
_NOT_CALLED = {"agenthuman_emulator", "pytest_configure"}
# What is handed to the program, which makes none of them.
_HANDED = {"AvatarAudio", "AvatarVideo", "AvatarMetricsData", "RoomRequest", "SessionRequest", "SpeechLink"}
_HANDED |= {"LinkLost", "Reconnecting", "Reconnected", "PlaybackStarted", "PlaybackFinished"}
_HANDED |= {"AvatarConnected", "AvatarDisconnected", "CallOptions", "BodyOptions", "VoiceAgentFields"}
_HANDED |= {"RunningEmulator", "Answered"}
_EXAMPLE = re.compile(r"^Example:\n    ```python\n(?P<code>.*?)^    ```", re.MULTILINE | re.DOTALL)


def _load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "mkdocs_hooks_of_names", _ROOT / "scripts" / "mkdocs_hooks.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


_HOOKS = _load_hooks()
_NAMES: dict[str, list[Any]] = {stem: list(_HOOKS.names(page)) for stem, page in _PAGES.items()}
_WITH_NAMES = sorted(stem for stem, names in _NAMES.items() if names)


def _is_a_call(name: Any) -> bool:
    """Whether a program writes it with parentheses behind it."""
    value = name.value
    if not inspect.isclass(value):
        return not isinstance(value, property) and not name.shown.endswith("__")
    own = name.shown not in _HANDED and "." not in name.shown
    return own and not issubclass(value, BaseException | Answered)


def _code(name: Any) -> str:
    found = _EXAMPLE.search(inspect.getdoc(name.value) or "")
    return textwrap.dedent(found["code"]) if found else ""


@pytest.mark.parametrize("stem", _WITH_NAMES)
def test_a_page_begins_with_a_table_of_its_names(stem: str) -> None:
    """The table stands before the first section, has a row for each entry with a link to it, and says what it is for."""
    page = _PAGES[stem]
    assert _HOOKS._NAMES in page.partition("\n## ")[0].partition("\n::: ")[0]
    table = _HOOKS._table(iter(_NAMES[stem]))
    assert all(f"(#{name.anchor}) |" in table and name.purpose for name in _NAMES[stem])


@pytest.mark.parametrize("package", _PUBLIC)
def test_the_reference_has_every_public_name(package: str) -> None:
    """What a package exports is an entry of a page, or a constant that a page explains."""
    entries = {name.anchor.rpartition(".")[2] for names in _NAMES.values() for name in names}
    text = "".join(_PAGES.values())
    exported = set(importlib.import_module(f"agenthuman_plugins.{package}").__all__) - _NOT_CALLED
    assert [name for name in exported - entries if f"`{name}`" not in text] == []


@pytest.mark.parametrize("stem", _WITH_NAMES)
def test_each_call_has_an_example_that_compiles(stem: str) -> None:
    """A function, a method and a class that programs make has an example in its docstring."""
    calls = [name for name in _NAMES[stem] if _is_a_call(name)]
    assert calls
    assert [name.shown for name in calls if not _code(name)] == []
    for name in calls:
        compile(_code(name), name.shown, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.agenthuman(plan="pro")
def test_the_examples_of_the_client_run(
    agenthuman_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do what they say, with a session, an agent and a link that were just made; so do those of the pytest fixture."""
    service = agenthuman_emulator
    monkeypatch.setenv("AGENTHUMAN_API_KEY", service.api_key)
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", service.url)
    names = [*_NAMES["client"], *_NAMES["emulator"]]
    shown = {name.shown: _code(name) for name in names if _is_a_call(name)}
    examples = {
        call: code
        for call, code in shown.items()
        if call.startswith(("client.", "RunningEmulator.", "AgentHuman"))
        and call not in ("client.avatars.upload_face", "client.avatars.delete")  # they need a photo
    }
    assert len(examples) > 30
    client = AgentHuman()
    for call, code in examples.items():
        there: dict[str, Any] = {"AgentHuman": AgentHuman, "client": client, "service": service}
        if "agent." in code or "link." in code:
            there["agent"] = client.agents.create(
                name="Support",
                voice_agent={"provider": "ElevenLabs", "agent_id": "el_agent_1", "auth_method": "public"},
                avatar_image_url="https://example.com/face.jpg",
            )
            there["link"] = client.links.create(agent_id=there["agent"].agent_id)
        if "session" in code:
            there["session"] = client.sessions.create()
        if call == "RunningEmulator.sessions":
            client.sessions.end(there["session"].session_id)
        exec(code, there)
        service.clear_faults()
        service.clock.resume()
        service.reset()
        if call == "AgentHuman.close":
            client = AgentHuman()
    client.close()
