"""Who opened a session: a mark of this process in the session's metadata, and whether a marked process is dead.

A process that is killed cannot end its sessions. The mark lets another one on the same machine do it: process ids
are used again, so the mark holds the start time too, and host names repeat, so it holds what only this machine
(on Linux: this boot and this container) has. What cannot be proven counts as alive.

A mark reads `host:machine:pid:start`.
"""

import functools
import hashlib
import os
import socket
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import Session

CLIENT_OWNER = "client_owner"  # key of the mark in a session's metadata

_PROC = Path("/proc")
_PS_LIMIT_S = 5.0
_PID_DIGITS = 20  # more than any system has; Python refuses to read thousands
_MACHINE_LENGTH = 12  # hex digits: enough to tell machines of one name apart

# Fields of /proc/<pid>/stat after the command's name, which may hold blanks (proc_pid_stat(5)).
_STATE, _THREADS, _START = 0, 17, 19


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that it can be told from every other one, past ones included.

    Attributes:
        host: Name of its machine, for people.
        machine: What tells the machine and, on Linux, its boot and container from others of that name.
        pid: Process id.
        start: When it started, in the words of the system that tells it.
    """

    host: str
    machine: str
    pid: int
    start: str

    def __str__(self) -> str:
        return f"{self.host}:{self.machine}:{self.pid}:{self.start}"

    @classmethod
    def parse(cls, mark: object) -> "Owner | None":
        """Read a mark; `None` if it is not one of ours."""
        if not isinstance(mark, str):
            return None
        match mark.rsplit(":", 3):
            case [host, machine, pid, start] if (
                pid.isascii() and pid.isdecimal() and len(pid) <= _PID_DIGITS and host and machine and start
            ):
                return cls(host, machine, int(pid), start)
            case _:
                return None

    def is_dead(self) -> bool:
        """Whether this is a process of this machine that surely has ended."""
        if (self.host, self.machine) != (_host(), _machine()) or self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)  # asks only; signal 0 is never delivered
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # it is there, but somebody else's
            pass
        start = _start_of(self.pid)
        return start is not None and start != self.start


def this_process() -> str | None:
    """The mark of this process; `None` where the system does not tell when a process started."""
    return _mark_of(os.getpid())


@functools.cache
def _mark_of(pid: int) -> str | None:
    start = _start_of(pid)
    return None if start is None else str(Owner(_host(), _machine(), pid, start))


# A child that got the process id of a dead ancestor would take over its mark, and count as dead.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_of.cache_clear)


def _host() -> str:
    return socket.gethostname().replace(":", "-") or "unknown"


@functools.cache
def _machine() -> str:
    """What no other machine has. Containers may share host names, and on Linux even the boot, but not process ids."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        identity = f"{boot} {(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        # The address of a network card. Without one this is a random number: then nothing is ever proven.
        identity = str(uuid.getnode())
    return hashlib.sha256(identity.encode()).hexdigest()[:_MACHINE_LENGTH]


def _start_of(pid: int) -> str | None:
    """When a process started; `None` if nobody tells, an empty text for one that is dead but not yet collected."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        # Where there is a /proc, a process that it hides is somebody else's.
        return None if (_PROC / "self/stat").exists() else _start_by_ps(pid)
    fields = stat.rpartition(")")[2].split()
    if fields[_STATE] in "ZX" and int(fields[_THREADS]) <= 1:
        return ""
    return fields[_START]


def _start_by_ps(pid: int) -> str | None:
    # One language and one time zone for all, since the texts are compared.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    try:
        done = subprocess.run(  # noqa: S603 - a number is its only variable part
            ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - where it lies differs among systems
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PS_LIMIT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # Blanks around and inside differ, and colons part the fields of a mark.
    return "-".join(done.stdout.replace(":", ".").split()) or None


def check_owner(owner: object) -> None:
    """Check what a caller gives as the owner.

    Raises:
        ConfigurationError: It names nobody; an empty text must not mean everybody.
    """
    if owner is not None and not (isinstance(owner, str) and owner.strip()):
        raise ConfigurationError(
            f"owner must be the whole metadata[{CLIENT_OWNER!r}] of the sessions to end, or None for those whose "
            "process on this machine is dead."
        )


def left_open(sessions: Iterable[Session], owner: str | None) -> list[Session]:
    """The sessions of `owner`, or without one those of processes of this machine that are known to be dead.

    Asks the operating system about processes, which may take a moment.
    """
    return [session for session in sessions if _is_left_open(_owner_of(session), owner)]


def _is_left_open(mark: str | None, owner: str | None) -> bool:
    if mark is None:
        return False
    if owner is not None:
        return mark == owner
    process = Owner.parse(mark)
    return process is not None and process.is_dead()


def _owner_of(session: Session) -> str | None:
    mark = session.metadata.get(CLIENT_OWNER) if isinstance(session.metadata, Mapping) else None
    return mark if isinstance(mark, str) and mark else None


if _PROC.exists():
    # Microseconds now; read by the first client, which may be made on an event loop, it would be a blocking call.
    this_process()
