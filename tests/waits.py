"""A pytest plugin that tells what the tests take their time for: `make test ARGS="-p tests.waits"`.

A second of a test is work of its own process, work of the processes that it started and has waited for, or waiting: for
sound to play, for a time limit, for another process. Beside other work the waiting grows, the work hardly.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pytest

_SHOWN = 40
_PROPERTY = "waits"


class Times(NamedTuple):
    """Seconds."""

    took: float
    own: float
    children: float

    @classmethod
    def now(cls) -> "Times":
        """As the clocks stand."""
        times = os.times()
        return cls(
            time.perf_counter(), times.user + times.system, times.children_user + times.children_system
        )

    @property
    def waited(self) -> float:
        """What was no work, as far as one core can tell."""
        return max(0.0, self.took - self.own - self.children)


_BEGIN = pytest.StashKey[Times]()
_by_file: dict[str, list[Times]] = defaultdict(list)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin."""
    item.stash[_BEGIN] = Times.now()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """End, and let the report carry it to the process that prints."""
    if call.when == "teardown":
        spent = [end - begin for begin, end in zip(item.stash[_BEGIN], Times.now(), strict=True)]
        item.user_properties.append((_PROPERTY, spent))
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather."""
    spent = dict(report.user_properties).get(_PROPERTY)
    if report.when == "teardown" and isinstance(spent, list):
        _by_file[report.nodeid.partition("::")[0]].append(Times(*spent))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the files that took longest."""
    files = {name: Times(*map(sum, zip(*times, strict=True))) for name, times in _by_file.items()}
    terminalreporter.section("what the tests took their time for, in seconds")
    terminalreporter.line("   took    own  children  waited  tests")
    rows = sorted(files.items(), key=lambda row: -row[1].took)
    for name, times in (
        [("all", Times(*map(sum, zip(*files.values(), strict=True)))), *rows[:_SHOWN]] if files else []
    ):
        count = sum(map(len, _by_file.values())) if name == "all" else len(_by_file[name])
        terminalreporter.line(
            f"{times.took:7.1f}{times.own:7.1f}{times.children:10.1f}{times.waited:8.1f}{count:7d}  {name}"
        )
