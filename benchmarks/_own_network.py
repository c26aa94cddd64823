"""A command in a network namespace of its own, where nothing from outside disturbs it and everything can be cut.

LiveKit's clients do not use `lo`, so there is an interface beside it. Nothing can leave the namespace.
"""

import shutil
import subprocess
from functools import cache

_SET_UP = """
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 192.168.77.1/24 dev v0
ip link set v0 up
ip link set v1 up
exec "$@"
"""


def apart(*command: str) -> list[str]:
    """The command that runs a command in a namespace of its own; see `why_not`."""
    return ["unshare", "--map-root-user", "--net", "sh", "-euc", _SET_UP, "sh", *command]


@cache
def why_not() -> str | None:
    """Why this system allows no such namespace; `None` if it does."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"no {program} on PATH"
    probe = subprocess.run(apart("true"), capture_output=True, text=True, check=False)
    return None if probe.returncode == 0 else f"no network namespace: {probe.stderr.strip()}"
