"""The matrix by command: `python -m tests.langchain.identity`, or `make bench BENCH=identity`."""

import asyncio

from rich.console import Console

from tests.langchain.identity.report import report

if __name__ == "__main__":
    asyncio.run(report(Console()))
