"""Every cell of the matrix, and the table that is made of them: `benchmarks/results/langchain-identity.txt`."""

import platform
import textwrap
from collections.abc import AsyncIterator, Iterable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from agenthuman_plugins.testing._emulator import running
from tests.langchain.identity.owners import (
    HAS_NAMES,
    IN_PROCESSES,
    OPERATIONS,
    PAIRS,
    Pair,
    World,
    fits,
    one_process,
    processes,
    tried,
)
from tests.langchain.identity.ways import WAYS

RESULT = Path(__file__).parents[3] / "benchmarks" / "results" / "langchain-identity.txt"
HEAD = """\
make bench BENCH=identity; Python {python}, langchain {langchain}, langgraph {langgraph}

Whose session is it? One agent opens a session in one of {ways} ways of calling tools, and another one lists, gets,
speaks through and ends it, in the same way:
{rows}.
Each cell: in how many ways each operation did it, of those in which the two can be told apart. Where it must be
`all`, the session is the other one's, too; where it must be `none`, it is not, and its owner could still end it.
"""


async def report(console: Console) -> None:
    """Try all cells, print the table and write it."""
    parts = [
        HEAD.format(
            python=platform.python_version(),
            langchain=version("langchain"),
            langgraph=version("langgraph"),
            ways=len(WAYS),
            rows=textwrap.fill("; ".join(WAYS), 116, initial_indent="  ", subsequent_indent="  "),
        )
    ]
    parts.append(_titled("Toolkits of one process", [line async for line in _lines(PAIRS.values())]))
    with running(media=False, sweep=False, expiry=False, plan="growth") as emulator:
        async with processes(emulator) as world:
            pairs = [PAIRS[name] for name in IN_PROCESSES]
            parts.append(_titled("Real processes", [line async for line in _lines(pairs, world)]))
    text = "\n".join(parts)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    RESULT.write_text(text)


def _titled(title: str, lines: list[str]) -> str:
    head = f"{'':<44}{'must be':>8}" + "".join(
        f"{name.removeprefix('agent_human_'):>15}" for name in OPERATIONS
    )
    return "\n".join([title, "=" * len(title), head, *lines, ""])


async def _lines(pairs: Iterable[Pair], world: World | None = None) -> AsyncIterator[str]:
    for pair in pairs:
        ways = [way for way in WAYS.values() if fits(pair, way, has_names=HAS_NAMES)]
        did = dict.fromkeys(OPERATIONS, 0)
        for way in ways:
            async with one_process() if world is None else nullcontext(world) as where:
                for name, done in (await tried(where, pair, way)).items():
                    did[name] += done
        cells = "".join(f"{f'{did[name]} of {len(ways)}':>15}" for name in OPERATIONS)
        must = len(ways) if pair.allowed else 0
        wrong = "" if all(count == must for count in did.values()) else "  WRONG"
        yield f"{pair.name:<44}{'all' if pair.allowed else 'none':>8}{cells}{wrong}"
