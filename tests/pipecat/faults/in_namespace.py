"""One conversation in a process with a network of its own, where that can be cut: for `test_matrix.py`."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

from tests.pipecat.faults.matrix import FAULTS, Fault, Outcome, converse

_ROOT = Path(__file__).parents[3]
# LiveKit's clients do not use `lo`, so there is an interface beside it; nothing can leave the namespace.
_SET_UP = """
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 192.168.77.1/24 dev v0
ip link set v0 up
ip link set v1 up
exec "$@"
"""
_LIMIT_S = 150.0


@cache
def why_not() -> str | None:
    """Why this system allows no network of one's own; `None` if it does."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"no {program} on PATH"
    probe = subprocess.run(_wrapped("true"), capture_output=True, text=True, check=False)
    return None if probe.returncode == 0 else f"no network namespace: {probe.stderr.strip()}"


def _wrapped(*command: str) -> list[str]:
    return ["unshare", "--map-root-user", "--net", "sh", "-euc", _SET_UP, "sh", *command]


async def converse_apart(fault: Fault, room_server_kind: str) -> Outcome:
    """Hold a conversation in a namespace of its own."""
    process = await asyncio.create_subprocess_exec(
        *_wrapped(sys.executable, "-m", __name__, fault.name, room_server_kind),
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        async with asyncio.timeout(_LIMIT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    outcome = json.loads(output.decode().splitlines()[-1])
    outcome["said"] = {reply: [(w, s) for w, s in said] for reply, said in outcome["said"].items()}
    return Outcome(**outcome)


if __name__ == "__main__":
    (fault,) = (fault for fault in FAULTS if fault.name == sys.argv[1])
    print(json.dumps(asdict(asyncio.run(converse(fault, sys.argv[2])))), flush=True)  # noqa: T201 - the result
    os._exit(0)  # LiveKit's native threads sometimes abort while the interpreter ends
