"""Measure what the tests do not assert, on this machine: `make bench`, or `python -m benchmarks imports client`.

Wall-clock figures of a shared machine are noisy: read them as medians of one run, and compare only within it.
"""

import asyncio
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import chain, client_overhead, imports

_BENCHMARKS = {"imports": imports.measure, "client": client_overhead.measure, "chain": chain.measure}


def main() -> None:
    console = Console()
    for name in sys.argv[1:] or _BENCHMARKS:
        table = Table("what", "median", "min", "max", "n", title=name)
        for row in asyncio.run(_BENCHMARKS[name]()):
            table.add_row(*row.cells())
        console.print(table)


if __name__ == "__main__":
    main()
