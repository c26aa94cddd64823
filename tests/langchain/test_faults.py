"""Our cells of the table that `python -m benchmarks langchain` makes, as far as they need no waiting."""

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.langchain_faults._cell import FAULTS, WAYS, observe
from benchmarks.langchain_faults._judge import CRITERIA, is_good, met
from benchmarks.langchain_faults._observation import Observation
from benchmarks.langchain_faults._report import OURS, TOOLS, Matrix

ROOT = Path(__file__).parents[2]
EXPECTED = json.loads((ROOT / "benchmarks/langchain_faults/expected.json").read_text())["met"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["none", "401", "malformed", "oversized"])
@pytest.mark.parametrize("tool", OURS)
async def test_our_tools_tell_the_model(tool: str, fault: str, way: str) -> None:
    """In an agent each of our tools meets every criterion of the table."""
    seen = await observe(tool, fault, way)
    assert is_good(fault, met(seen)), seen


async def test_our_tools_stop_when_cancelled() -> None:
    """After a cancelled run nothing goes on, and the create has left no session running."""
    # Side by side: each is watched for seconds, in which it must do nothing.
    cells = await asyncio.gather(*(observe(tool, "cancel", "ainvoke") for tool in OURS))
    assert [seen for seen in cells if not is_good("cancel", met(seen))] == []


def test_every_cell_has_an_expectation_of_known_criteria() -> None:
    """The expectations cover the whole table, in the words of the judge."""
    assert set(EXPECTED) == set(CRITERIA) == set(FAULTS)
    for fault, cells in EXPECTED.items():
        assert set(cells) == set(TOOLS)
        assert all(set(names.split()) <= set(CRITERIA[fault]) for names in cells.values())


def test_a_failure_told_as_a_success_is_not_good() -> None:
    """A message with status success about a failure lacks what the row demands, and the table says so."""
    seen = Observation("exa", "401", "invoke", status="success", text="ValueError('status code 401')")
    assert met(seen) == ["names", "alive"]
    assert Matrix([seen], EXPECTED).verdict("401", "exa") == "lacks told, advises"
    assert list(Matrix([seen], EXPECTED).surprises()) == []


def test_digits_inside_a_reference_name_no_failure() -> None:
    """A status that happens to be part of an id does not count as naming the failure."""
    assert met(Observation("create", "500", "invoke", status="error", text="lc-a1500b: retry")) == [
        "told",
        "advises",
        "alive",
    ]
