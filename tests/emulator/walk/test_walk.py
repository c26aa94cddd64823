"""The walk through the documented facts: each has a row in `facts.toml` and a check, and each check a row."""

import asyncio
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

from tests.contract.bodies import FOLDER
from tests.emulator.walk import checks
from tests.emulator.walk import facts as page
from tests.emulator.walk.walk import CHECKS, LIMIT_S, walking

for found in pkgutil.iter_modules(checks.__path__):
    importlib.import_module(f"{checks.__name__}.{found.name}")


def _case(name: str) -> object:
    chain = any(found.chain for found in CHECKS.get(name, []))
    return pytest.param(name, id=name, marks=[pytest.mark.media] if chain else [])


@pytest.mark.parametrize("name", [_case(name) for name, fact in page.facts().items() if not fact.live])
async def test_fact(name: str) -> None:
    """Each documented fact holds, and each deviation is still one."""
    (found,) = CHECKS[name]
    async with asyncio.timeout(LIMIT_S), walking(found) as arguments:
        result = found.function(*arguments)
        if inspect.isawaitable(result):
            await result


def test_every_documented_body_is_compared() -> None:
    """A documented body that no check names judges nobody."""
    named = "".join(path.read_text() for path in Path(checks.__file__).parent.glob("*.py"))
    assert [path.stem for path in FOLDER.glob("*.json") if f'"{path.stem}"' not in named] == []


def test_every_check_has_a_fact() -> None:
    """A check that no row names judges nothing, and what only the live service shows has none."""
    assert [name for name in CHECKS if name not in page.facts() or page.facts()[name].live] == []


def test_rows_are_well_formed() -> None:
    """A row says who holds its fact, or why nobody does, and in one way only."""
    for fact in page.facts().values():
        assert fact.held in page.HOLDERS
        assert bool(fact.deviation) == bool(fact.reason)
        assert sum(map(bool, (fact.deviation, fact.live, fact.inferred))) <= 1


def test_page_of_the_documentation_shows_what_is_not_held() -> None:
    """Deviations, inferred rows and those of the live service are in one table each, and the figure counts the rest."""
    tables = [page.deviations(), page.inferred(), page.live()]
    for fact in page.facts().values():
        row = re.compile(rf"^\| {re.escape(fact.text)} \|.*\| {re.escape(fact.source)} \|$", re.MULTILINE)
        shown = [row.search(table) is not None for table in tables]
        assert shown == [bool(fact.deviation), bool(fact.inferred), bool(fact.live)]
    rows = [len(table.splitlines()) - 2 for table in tables]
    held, documented = map(int, re.findall(r"\d+", page.figure())[:2])
    assert held + rows[0] + rows[2] == documented == len(page.facts()) - rows[1]
