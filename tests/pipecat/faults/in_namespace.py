"""One conversation in a process with a network of its own, where that can be cut: for `test_matrix.py`."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks._own_network import apart
from tests.pipecat.faults.matrix import FAULTS, Fault, Outcome, converse

_ROOT = Path(__file__).parents[3]
_LIMIT_S = 150.0


async def converse_apart(fault: Fault, room_server_kind: str) -> Outcome:
    """Hold a conversation in a namespace of its own."""
    process = await asyncio.create_subprocess_exec(
        *apart(sys.executable, "-m", __name__, fault.name, room_server_kind),
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
