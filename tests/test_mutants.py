"""The table of `make mutants`, and what it makes of a module."""

import ast
import queue
import sys
import threading
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script, which is no module of the package."""
    loader = SourceFileLoader("mutants", str(ROOT / "scripts" / "mutants"))
    spec = spec_from_loader("mutants", loader)
    assert spec is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # or a cache would lie beside the script
        patch.setitem(sys.modules, "mutants", module)  # dataclasses look it up
        loader.exec_module(module)
    return module


def test_table_names_what_there_is(script: ModuleType) -> None:
    """Modules, their tests and the mutants with a reason exist."""
    for module, tests in script.TABLE["tests"].items():
        assert all((ROOT / path).exists() for path in (module, *tests))
    every = {
        (mutant.module, mutant.name) for module in script.TABLE["tests"] for mutant in script.mutants(module)
    }
    assert {(entry["module"], entry["mutant"]) for entry in script.TABLE["equivalent"]} <= every


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a < b", {"a <= b"}),
        ("a is None and b", {"a is not None and b", "a is None or b"}),
        ("if not a:\n    b()", {"if a:\n    b()", "if not a:\n    pass"}),
        ("if a:\n    raise b", {"if not a:\n    raise b"}),
        ("a = 5", {"a = 6", "a = 4"}),
        ("a = True", {"a = False"}),
        ("a[b] = c", {"pass"}),
        ("await a()", {"pass"}),
        ("logger.info(a)", set()),
        ("a = {b: c, d: e}", {"a = {d: e}", "a = {b: c}"}),
        ("def a():\n    return b", {"def a():\n    return None"}),
        ("a: Literal[5]", set()),
    ],
)
def test_mutants_of_a_statement(
    before: str, after: set[str], script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One change each, and no change where it would say nothing."""
    (tmp_path / "module.py").write_text(before)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    assert {mutant.source() for mutant in script.mutants("module.py")} == {
        ast.unparse(ast.parse(text)) for text in after
    }


def test_word_that_names_no_module(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that names no module is refused: nothing tried is nothing noticed."""
    monkeypatch.setattr(sys, "argv", ["mutants", "no-such-module"])
    with pytest.raises(SystemExit, match="no-such-module"):
        script.main()


def test_tests_that_fail_by_themselves(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tests of a module fail without a mutant, that is told, and nobody waits for its copy."""
    second_waits = threading.Event()
    asked: list[None] = []

    class Homes(queue.Queue[Path]):
        def get(self, block: bool = True, timeout: float | None = None) -> Path:
            asked.append(None)
            if len(asked) > 1:
                second_waits.set()
            return super().get(block, timeout)

    monkeypatch.setattr(script.queue, "Queue", Homes)
    monkeypatch.setattr(script, "make_homes", lambda folder: [folder])
    monkeypatch.setattr(script, "passes", lambda *_: not second_waits.wait(10))
    tried = [script.Mutant(module, "", (), ast.Pass()) for module in ("one", "two")]
    with pytest.raises(SystemExit, match="fail without a mutant"):
        script.survivors(tried)
