"""What every test shares: tools on PATH, and the rules that nothing is skipped in silence and nothing big started.

A test marked `chain` may start any program; `make quick` leaves those out. All others may start a moment of Python
(an import, a signal, a process to be killed) and the small tools below, so that `make quick` stays quick. A test marked
`media` plays or watches something in real time; it counts as `chain`, and `make test` runs these one by one.
"""

import fnmatch
import gc
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parent.parent
_SESSION = pytest.StashKey[pytest.Session]()
_SMALL_TOOLS = {"git", "ldconfig", "ps", "uname"}  # ldconfig and uname are started by libraries

# `make livekit-server` puts a real room server here; whoever has one on PATH already keeps theirs.
os.environ["PATH"] += os.pathsep + str(_ROOT / ".tools" / "bin")

# A shell's background job ignores Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before 3.11.8 a parse fails if another one runs inside it. A traceback that is logged while the garbage is collected
# does that: Python parses the failed line to underline a part of it. Without the underlining there is no second parse.
if sys.version_info < (3, 11, 8):
    traceback._extract_caret_anchors_from_line_segment = lambda _segment: None  # type: ignore[attr-defined]


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


class _NothingBigWithoutMark:
    """A test without the `chain` mark fails if it starts a server, a browser or a tool."""

    def __init__(self) -> None:
        self._started: list[str] = []
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and not _is_small([os.fsdecode(word) for word in args[1]]):
            self._started.append(" ".join(map(os.fsdecode, args[1])))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        yield
        started, self._started = self._started, []
        if started and item.get_closest_marker("chain") is None:
            pytest.fail(f"Mark this test `chain`, for it started: {started[0]}", pytrace=False)


def _is_small(command: Sequence[str]) -> bool:
    """Whether it is a small tool, or Python with a piece of code, a file, or a module of the tests."""
    program, *words = command
    if program != sys.executable:
        return Path(program).name in _SMALL_TOOLS
    words = [word for word in words if word != "-P"]
    return words[0] != "-m" or words[1].startswith("tests.")


def _allowed_skips() -> Iterator[str]:
    for line in (_ROOT / ".ci" / "allowed_skips").read_text().splitlines():
        condition, _, pattern = line.rpartition(": ")
        program = condition.removeprefix("without ")
        if pattern and not line.startswith("#") and not (program and shutil.which(program)):
            yield pattern


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_NothingBigWithoutMark())
    if os.environ.get("CI"):
        config.pluginmanager.register(_NoSilentSkips())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector off what is imported here: it stays, and walking it slows every test down."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_SESSION] = session


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark media tests `chain` as well, and leave the full campaigns to `make campaign`; others run a part of each."""
    for item in items:
        if item.get_closest_marker("media"):
            item.add_marker("chain")
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
    if session is not None and "livekit.rtc" in sys.modules and not hasattr(config, "workerinput"):
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


@pytest.fixture(scope="session")
def a_room_server() -> str:
    """One kind of room server, for what only stands on rooms: the tests of the rooms and links hold the two alike."""
    from agenthuman_plugins.emulator.rooms import media_interface  # noqa: PLC0415 - only tests with rooms need it

    if media_interface() is None:
        pytest.skip("no network interface besides loopback, which LiveKit clients do not use")
    return "embedded" if shutil.which("livekit-server") is None else "livekit-server"


@pytest.fixture
def chromium() -> str:
    """Path of a Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on PATH: install it, for example with 'apt-get install chromium'")
