"""Whether processes have begun, and whether they have ended."""

import time
from collections.abc import Iterable

import psutil


def children_of(parent: psutil.Process, count: int, limit_s: float = 20.0) -> list[psutil.Process]:
    """Wait until a process has so many children of its own, and return them; theirs may come and go."""
    deadline = time.monotonic() + limit_s
    while len(children := parent.children()) < count:
        assert time.monotonic() < deadline, f"{len(children)} of {count} children"
        time.sleep(0.02)
    return children


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended; one that its parent has not asked for yet counts as ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def still_alive(processes: Iterable[psutil.Process], limit_s: float = 20.0) -> list[psutil.Process]:
    """Wait until all have ended, and return those that do not within the limit."""
    deadline = time.monotonic() + limit_s
    while (alive := [process for process in processes if not gone(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive
