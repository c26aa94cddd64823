"""All cells, in the environment of the peers, and the table that is made of them."""

import asyncio
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.langchain_faults._judge import CRITERIA, MEANING, is_good, met
from benchmarks.langchain_faults._observation import BOUND_S, Observation

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_PYTHON = _ROOT / ".venv-langchain-peers" / "bin" / "python"
RESULT = _ROOT / "benchmarks" / "results" / "langchain-faults.md"

TOOLS = {
    "create": "ours: create_session",
    "get": "ours: get_session",
    "end": "ours: end_session",
    "tavily": "tavily_search",
    "exa": "exa_search_results_json",
    "gmail": "send_gmail_message",
}
OURS = ("create", "get", "end")
_BOUNDARIES = {
    "ours": "argument `base_url` of the toolkit",
    "tavily_search": "argument `api_base_url`",
    "exa_search_results_json": "argument `exa_base_url`",
    "send_gmail_message": "client option `api_endpoint` of the API resource, and `token_uri` of its credentials",
}
_FAULTS = {
    "none": "no fault (control)",
    "network_down": "network down",
    "401": "401",
    "429": "429",
    "500": "500",
    "malformed": "malformed body",
    "cancel": "cancelled",
    "oversized": "argument of 1 MB",
    "time_out": "no answer",
}
_VERSIONS = (
    "from importlib.metadata import version as v\n"
    "for n in ('langchain', 'langchain-core', 'langgraph', 'langchain-tavily', 'langchain-exa', 'exa-py', "
    "'langchain-google-community', 'google-api-python-client'): print(n, v(n))"
)
_SHOWN = 140  # characters of a text in the table


async def report(console: Console) -> None:
    """Run every cell, print the table and write it to `benchmarks/results/`."""
    if not _PYTHON.exists():
        raise SystemExit(
            "The peers are not installed: make .venv-langchain-peers/.installed, then run this again."
        )
    versions = (await _run("-c", _VERSIONS)).split("\n")
    lines = await asyncio.gather(*(_run("-m", "benchmarks.langchain_faults._cell", key) for key in TOOLS))
    seen = [Observation(**json.loads(line)) for text in lines for line in text.splitlines()]
    expected = json.loads((_HERE / "expected.json").read_text())
    table = Matrix(seen, expected["met"])
    RESULT.write_text("\n".join(table.markdown(versions)) + "\n")
    console.print(table.for_terminal())
    console.print(f"Written to {RESULT.relative_to(_ROOT)}")


async def _run(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        _PYTHON, *arguments, cwd=_ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with {process.returncode}.")
    return out.decode().strip()


class Matrix:
    """The cells as a table.

    Args:
        seen: What the cells showed.
        expected: The criteria that each cell was expected to meet, by fault and tool.
    """

    def __init__(self, seen: Sequence[Observation], expected: Mapping[str, Mapping[str, str]]) -> None:
        self._cells = {(item.fault, item.subject, item.way): item for item in seen}
        self._expected = expected

    def ways(self, fault: str, tool: str) -> list[Observation]:
        """A cell, async and sync; the sync one only where it was run."""
        return [
            self._cells[key] for way in ("ainvoke", "invoke") if (key := (fault, tool, way)) in self._cells
        ]

    def verdict(self, fault: str, tool: str) -> str:
        """`good`, or what a cell lacks; what only one way lacks is marked so."""
        lacks: dict[str, list[str]] = {}
        for item in self.ways(fault, tool):
            for name in CRITERIA[fault]:
                if name not in met(item):
                    lacks.setdefault(name, []).append(item.way)
        if not lacks:
            return "good"
        both = len(self.ways(fault, tool))
        return "lacks " + ", ".join(
            name if len(ways) == both else f"{name} ({', '.join(ways)})" for name, ways in lacks.items()
        )

    def surprises(self) -> Iterator[str]:
        """Cells that came out otherwise than expected."""
        for item in self._cells.values():
            guess = self._expected[item.fault][item.subject].split()
            if met(item) != guess:
                yield (
                    f"{_FAULTS[item.fault]}, {TOOLS[item.subject]}, {item.way}: expected "
                    f"{', '.join(guess) or 'nothing'}; met {', '.join(met(item)) or 'nothing'}"
                )

    def good_cells(self, tool: str) -> tuple[int, int]:
        """How many cells of a tool are good in every way that was run, and how many there are."""
        faults = [fault for fault in CRITERIA if fault != "none"]
        good = [all(is_good(fault, met(item)) for item in self.ways(fault, tool)) for fault in faults]
        return sum(good), len(good)

    def for_terminal(self) -> Table:
        """How many criteria each cell meets, in the way in which it meets fewer."""
        table = Table("fault", *TOOLS.values(), title="LangChain tools under faults: criteria met")
        for fault, name in _FAULTS.items():
            fewest = [min(len(met(item)) for item in self.ways(fault, tool)) for tool in TOOLS]
            table.add_row(name, *(f"{count} of {len(CRITERIA[fault])}" for count in fewest))
        return table

    def markdown(self, versions: Sequence[str]) -> Iterator[str]:
        """The whole result."""
        yield "# LangChain tools under faults"
        yield ""
        yield f"`python -m benchmarks langchain`; Python {platform.python_version()}, {platform.system()}; {', '.join(versions)}."
        yield ""
        yield (
            "Each cell is one run of `create_agent` with a scripted model that calls the tool once, async (`ainvoke`)"
            " and sync (`invoke`), against a local HTTP service that fails from this call on. Every tool has its own"
            f" default settings; a run that has not ended after {BOUND_S:.0f} s counts as hanging. The expected outcome"
            " of every cell, `benchmarks/langchain_faults/expected.json`, was committed before the first run."
        )
        yield ""
        yield (
            "Pointed at the service by: "
            + "; ".join(f"{name}: {how}" for name, how in _BOUNDARIES.items())
            + "."
        )
        yield ""
        yield from _row("fault", *TOOLS.values())
        yield from _row(*["---"] * (len(TOOLS) + 1))
        for fault, name in _FAULTS.items():
            yield from _row(name, *(self.verdict(fault, tool) for tool in TOOLS))
        yield from _row(
            "**good, without the control**",
            *(f"**{good} of {all_}**" for good, all_ in map(self.good_cells, TOOLS)),
        )
        yield ""
        yield "A cell is good when it meets every criterion of its row:"
        yield ""
        for fault, name in _FAULTS.items():
            yield f"- {name}: {', '.join(CRITERIA[fault])}"
        yield ""
        for name, meaning in MEANING.items():
            yield f"- *{name}*: {meaning}"
        yield ""
        yield "## Where the expectation was wrong"
        yield ""
        surprises = list(self.surprises())
        yield from (f"- {line}" for line in surprises or ["Nowhere."])
        for fault, name in _FAULTS.items():
            yield ""
            yield f"## {name[0].upper()}{name[1:]}"
            yield ""
            yield from _row("tool", "way", "the model sees", "the program sees", "s")
            yield from _row(*["---"] * 5)
            for tool, title in TOOLS.items():
                for item in self.ways(fault, tool):
                    yield from _row(
                        title, item.way, _model_sees(item), _program_sees(item), f"{item.seconds:.1f}"
                    )


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


def _model_sees(item: Observation) -> str:
    if item.status is None:
        return "nothing"
    return f"{item.status}: {_quoted(item.text, item.length)}" + (
        " **with the key**" if item.secret_shown else ""
    )


def _program_sees(item: Observation) -> str:
    if item.fault == "cancel":
        went_on = f"work goes on (requests: {item.went_on})" if item.went_on else "nothing goes on"
        left = f", {item.sessions_left} sessions left running" if item.sessions_left else ""
        return f"{'its cancellation' if item.cancelled else 'no cancellation'}; {went_on}{left}"
    if not item.ended:
        return f"hangs: no end after {BOUND_S:.0f} s"
    if item.raised:
        return f"the run crashes: {_quoted(item.raised, len(item.raised))}"
    sent = (
        f"; {item.largest_request / 1_000:.0f} kB were sent"
        if item.fault == "oversized" and item.largest_request
        else ""
    )
    return f"the run ends{sent}"


def _quoted(text: str, length: int) -> str:
    """The beginning of a text for a table, without what changes from run to run."""
    line = re.sub(r"(?<=127\.0\.0\.1:)\d+|(?<=port=)\d+|0x[0-9a-f]+", "…", " / ".join(text.splitlines()))
    line = re.sub(r"(?<=client_ref ')[^']+", "…", line).replace("|", "\\|").replace("`", "'")
    return (
        f"`{line[:_SHOWN]}{'…' if len(line) > _SHOWN or length > len(text) else ''}`" if line else "(empty)"
    )
