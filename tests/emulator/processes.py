"""Whether processes have ended."""

import time
from collections.abc import Iterable

import psutil


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
