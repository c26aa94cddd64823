"""Measure what the tests do not assert, on this machine: `make bench`, or `python -m benchmarks imports client`.

Wall-clock figures of a shared machine are noisy: read them as medians of one run, and compare only within it.
"""

import asyncio
import importlib
import os
import sys

from rich.console import Console
from rich.table import Table

# Modules with a `measure() -> list[Row]`. Imported when asked for: not every environment can import all.
_BENCHMARKS = {
    "imports": "benchmarks.imports",
    "client": "benchmarks.client_overhead",
    "chain": "benchmarks.chain",
    "video": "benchmarks.video_cost",
    "skew": "benchmarks.skew",
    "stage": "benchmarks.stage",
    "emulator": "benchmarks.emulator",
}
# Modules with a `report(console)` that prints by itself and writes its part of `benchmarks/results.md`;
# only on request, since they need an environment of their own, or minutes.
_REPORTS = {
    "peers": "benchmarks.peers",
    "cost": "benchmarks.peers.cost",
    "langchain": "benchmarks.langchain_faults._report",
    "renewal": "benchmarks.renewal",
    "identity": "tests.langchain.identity.report",
}


def main() -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # everything measured is on this machine, and not every peer leaves that out
    if sys.argv[1:2] in (["soak"], ["room_joins"]):  # with options of their own
        importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return
    console = Console()
    for name in sys.argv[1:] or _BENCHMARKS:
        if name in _REPORTS:
            asyncio.run(importlib.import_module(_REPORTS[name]).report(console))
            continue
        table = Table("what", "median", "min", "max", "n", title=name)
        for row in asyncio.run(importlib.import_module(_BENCHMARKS[name]).measure()):
            table.add_row(*row.cells())
        console.print(table)


if __name__ == "__main__":
    main()
