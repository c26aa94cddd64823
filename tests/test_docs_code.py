"""What the documentation shows of the code is what the code has."""

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthuman_plugins.pipecat import _errors, video
from agenthuman_plugins.pipecat.settings import complete_settings
from agenthuman_plugins.testing import RunningEmulator

_ROOT = Path(__file__).parent.parent
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)


def _blocks(page: Path) -> Iterator[str]:
    for block in _BLOCK.finditer(page.read_text()):
        yield textwrap.dedent(block["code"])


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_code_of_the_page_compiles_and_imports_what_there_is(page: Path) -> None:
    """Each Python block is a program or a part of one, and the package has every name that it imports."""
    for code in _blocks(page):
        tree = compile(code, str(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for statement in ast.walk(tree):
            if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith(
                "agenthuman_plugins"
            ):
                module = importlib.import_module(str(statement.module))
                assert not [alias.name for alias in statement.names if not hasattr(module, alias.name)]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_code_of_the_page_has_no_placeholder_for_an_avatar(page: Path) -> None:
    """What is copied from a page works: `avat_...` is no avatar, at the service as little as at the emulator."""
    assert not [code for code in _blocks(page) if "avat_..." in code]


def _first_cells(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading of Pipecat's reference, one list for each row, without backticks."""
    page = (_ROOT / "docs" / "reference" / "pipecat.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n##")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


def test_reference_lists_each_setting_with_its_default() -> None:
    """The table of settings is that of the code, defaults included."""
    defaults = complete_settings(None).given_fields()
    told = {name: ast.literal_eval(default) for name, default, _ in _first_cells("Settings")}
    assert told == {name: defaults[name] for name in defaults if name not in ("model", "extra")}


def test_reference_lists_each_event() -> None:
    """The table of events is that of the code."""
    assert sorted(cells[0].split("(")[0] for cells in _first_cells("Events")) == sorted(video._EVENTS)


def test_reference_lists_each_category_of_errors() -> None:
    """What a failure may be called stands in the table of errors."""
    told = {cells[0] for cells in _first_cells("Errors")}
    assert told == {category.name for category in _errors._CATEGORIES.values()} | {"UNKNOWN"}


def test_messages_in_troubleshooting_are_those_of_the_code() -> None:
    """What a reader looks for in the first column of a table is what the package writes, but for what `…` stands for."""
    page = (_ROOT / "docs" / "how-to" / "troubleshooting.md").read_text()
    cells = re.findall(r"^\| ([^|]*) \|", page, re.MULTILINE)
    messages = [message for cell in cells for message in re.findall(r"`([^`]* [^`]*)`", cell)]
    assert messages
    code = "".join(module.read_text() for module in (_ROOT / "agenthuman_plugins").rglob("*.py"))
    written = re.sub(r'"\s*\n\s*f?"', "", code)  # texts that go on in the next line
    parts = [part.strip() for message in messages for part in message.split("…")]
    assert [part for part in parts if part not in written] == []


@pytest.mark.agenthuman(plan="pro")
def test_the_page_about_the_tools_runs(
    agenthuman_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its blocks run one after the other, the agent aside, which needs a model; no session is left open."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", agenthuman_emulator.api_key)
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", agenthuman_emulator.url)
    names: dict[str, object] = {}
    for code in _blocks(_ROOT / "docs" / "integrations" / "langchain-tools.md"):
        if "create_agent" not in code:
            exec(code, names)
    said = capsys.readouterr().out
    assert said.count("Opened session sess_") == 2
    assert [session["ended_by"] for session in agenthuman_emulator.sessions()] == ["caller", "caller"]
