"""What importing costs, each in a fresh interpreter, less a bare start."""

import subprocess
import sys
import time

from benchmarks._row import Row

_ROUNDS = 7
_STATEMENTS = {
    "bare interpreter": "pass",
    "agenthuman_plugins": "import agenthuman_plugins",
    "httpx and pydantic (floor of the client)": "import httpx; from pydantic import BaseModel",
    "agenthuman_plugins.client": "import agenthuman_plugins.client",
    "langchain_core.tools (floor of the adapter)": "import langchain_core.tools",
    "agenthuman_plugins.langchain": "import agenthuman_plugins.langchain",
}


async def measure() -> list[Row]:
    times: dict[str, list[float]] = {name: [] for name in _STATEMENTS}
    for _ in range(_ROUNDS):
        for name, statement in _STATEMENTS.items():  # in turn, so that a slow spell hits all of them
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True, timeout=60)  # noqa: ASYNC221 - alone here
            times[name].append(1000 * (time.perf_counter() - began))
    bare = min(times.pop("bare interpreter"))
    return [Row(name, [value - bare for value in values]) for name, values in times.items()]
