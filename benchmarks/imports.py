"""What importing costs, each in a fresh interpreter, less a bare start."""

import compileall
import subprocess
import sys
import time
from pathlib import Path

import agenthuman_plugins
from benchmarks._row import Row

_ROUNDS = 7
_STATEMENTS = {
    "bare interpreter": "pass",
    "agenthuman_plugins": "import agenthuman_plugins",
    "httpx and pydantic (floor of the client)": "import httpx; from pydantic import BaseModel",
    "agenthuman_plugins.client": "from agenthuman_plugins.client import AgentHuman",
    "StructuredTool of langchain_core (floor of the adapter)": "from langchain_core.tools import StructuredTool",
    "agenthuman_plugins.langchain": "from agenthuman_plugins.langchain import AgentHumanToolkit",
}


async def measure() -> list[Row]:
    # An installed package is compiled; a checkout may not be.
    compileall.compile_dir(Path(agenthuman_plugins.__file__).parent, quiet=1)
    times: dict[str, list[float]] = {name: [] for name in _STATEMENTS}
    for _ in range(_ROUNDS):
        for name, statement in _STATEMENTS.items():  # in turn, so that a slow spell hits all of them
            began = time.perf_counter()
            # Without a time-out: waiting with one polls, in steps of up to 50 ms.
            subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: ASYNC221 - alone here
            times[name].append(1000 * (time.perf_counter() - began))
    bare = min(times.pop("bare interpreter"))
    return [Row(name, [value - bare for value in values]) for name, values in times.items()]
