"""A process is called dead only when that is proven."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agenthuman_plugins.client import _owner
from agenthuman_plugins.client._owner import Owner, this_process

LIMIT_S = 30.0  # hang limit only


@pytest.fixture
def own() -> Owner:
    owner = Owner.parse(this_process())
    assert owner is not None
    return owner


@pytest.fixture
def without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has no /proc, such as macOS."""
    monkeypatch.setattr(_owner, "_PROC", tmp_path)


def a_child() -> subprocess.Popen[str]:
    """A process that tells its mark and then waits for the end of its input."""
    script = "import sys; from agenthuman_plugins.client._owner import this_process; print(this_process(), flush=True); sys.stdin.read()"
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_mark_is_read_as_it_was_written(own: Owner) -> None:
    """A mark survives the way through metadata."""
    assert Owner.parse(str(own)) == own
    assert own.pid == os.getpid()


@pytest.mark.parametrize(
    "mark", [None, "", "tenant-7", 7, {"pid": 1}, "a:b:c", "h:m:-1:s", "h:m:one:s", "h:m:1:", "::1:"]
)
def test_other_peoples_marks_are_no_process(mark: object) -> None:
    """What does not have our form names no process, so nothing is proven by it."""
    assert Owner.parse(mark) is None


def test_this_process_is_alive(own: Owner) -> None:
    """Nobody reaps itself."""
    assert not own.is_dead()


def test_life_and_death_of_a_process() -> None:
    """A process is alive while it runs, and dead from its kill on, collected by its parent or not."""
    with a_child() as child:
        assert child.stdout is not None
        owner = Owner.parse(child.stdout.readline().strip())
        assert owner is not None
        assert owner.pid == child.pid
        assert not owner.is_dead()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but still in the process table
        assert owner.is_dead()
        child.wait(LIMIT_S)
        assert owner.is_dead()


def test_reused_process_id_is_another_process(own: Owner) -> None:
    """A living process with the same id but another start time is not the one that was marked."""
    assert replace(own, start="1").is_dead()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"host": "elsewhere"}, id="host"),
        pytest.param({"machine": "0" * 12}, id="machine-of-the-same-name"),
        pytest.param({"pid": 0}, id="process-group"),
        pytest.param({"pid": 2**80}, id="impossible-id"),
    ],
)
def test_what_this_machine_cannot_know_is_not_proven(own: Owner, change: dict[str, object]) -> None:
    """A process elsewhere may live on, whatever runs under its number here."""
    assert not replace(own, start="1", **change).is_dead()


def test_process_of_somebody_else_is_not_proven_dead(own: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not be asked about, and whose start nobody tells, counts as alive."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(_owner, "_start_of", lambda _: None)
    assert not replace(own, start="1").is_dead()


def test_forked_process_has_a_mark_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fork inherits does not make it its parent."""
    before = this_process()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert this_process() != before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_begins_without_the_marks_of_its_ancestors() -> None:
    """Process ids are used again: a child that had an ancestor's would be taken for that one, which is dead."""
    script = (
        "import os; from agenthuman_plugins.client import _owner; before = _owner._mark_of.cache_info().currsize\n"
        "if os.fork() == 0: print(before, _owner._mark_of.cache_info().currsize, flush=True); os._exit(0)\n"
        "os.wait()"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", "0"]


@pytest.mark.usefixtures("without_proc")
def test_life_and_death_without_proc() -> None:
    """Where there is no /proc, `ps` tells the start, the same to everybody."""
    with a_child() as child:
        assert child.stdout is not None
        child.stdout.readline()
        start = _owner._start_of(child.pid)
        assert start
        owner = Owner(_owner._host(), _owner._machine(), child.pid, start)
        assert Owner.parse(str(owner)) == owner
        assert not owner.is_dead()
        assert replace(owner, start="Sat-Nov-21-20.00.00-2026").is_dead()
        child.kill()
        child.wait(LIMIT_S)
        assert owner.is_dead()


@pytest.mark.usefixtures("without_proc")
def test_system_that_tells_no_start_marks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc and `ps` there is no mark rather than one that proves nothing."""

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", absent)
    _owner._mark_of.cache_clear()
    try:
        assert this_process() is None
    finally:
        monkeypatch.undo()
        _owner._mark_of.cache_clear()
        this_process()  # as after the import, or the next client would read it on its event loop
