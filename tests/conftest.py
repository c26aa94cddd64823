"""What every test shares: tools on PATH, and CI's rule that nothing is skipped in silence."""

import fnmatch
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_SESSION = pytest.StashKey[pytest.Session]()

# `make livekit-server` puts a real room server here; whoever has one on PATH already keeps theirs.
os.environ["PATH"] += os.pathsep + str(_ROOT / ".tools" / "bin")

# A shell's background job ignores Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _NoSilentSkips:
    """In CI a test that could run must run; `.ci/allowed_skips` names the exceptions."""

    def __init__(self) -> None:
        self._allowed = list(_allowed_skips())
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        bad = [n for n in self._skipped if not any(fnmatch.fnmatch(n, p) for p in self._allowed)]
        if bad and session.exitstatus == pytest.ExitCode.OK:
            print("\nSkipped, but not on .ci/allowed_skips:", *bad, sep="\n  ")  # noqa: T201
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _allowed_skips() -> Iterator[str]:
    for line in (_ROOT / ".ci" / "allowed_skips").read_text().splitlines():
        condition, _, pattern = line.rpartition(": ")
        program = condition.removeprefix("without ")
        if pattern and not line.startswith("#") and not (program and shutil.which(program)):
            yield pattern


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI"):
        config.pluginmanager.register(_NoSilentSkips())


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_SESSION] = session


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the full campaigns to `make campaign`; `make test` runs a part of each."""
    if os.environ.get("AGENTHUMAN_CAMPAIGN") == "full" or "campaign" in config.option.markexpr:
        return
    full = [item for item in items if item.get_closest_marker("campaign")]
    if full:
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without LiveKit's native threads: they sometimes abort the process while the interpreter ends."""
    session = config.stash.get(_SESSION, None)
    if session is not None and "livekit.rtc" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(session.exitstatus))


@pytest.fixture(params=["embedded", "livekit-server"])
def room_server_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of room server that this machine can run."""
    from agenthuman_plugins.emulator.rooms import media_interface  # noqa: PLC0415 - only tests with rooms need it

    if media_interface() is None:
        pytest.skip("no network interface besides loopback, which LiveKit clients do not use")
    if request.param == "livekit-server" and shutil.which("livekit-server") is None:
        pytest.skip("no livekit-server on PATH or in .tools/bin (make livekit-server)")
    return str(request.param)
