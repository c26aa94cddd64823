"""Runs every scenario with every service, prints the table and writes it down."""

import logging
import time
from dataclasses import dataclass

from loguru import logger
from rich.console import Console
from rich.table import Table

from benchmarks import _results
from benchmarks.peers._heygen import HeyGen
from benchmarks.peers._ours import Ours
from benchmarks.peers._scenarios import Figures
from benchmarks.peers._simli import Simli
from benchmarks.peers._table import TABLE, Row, Scenario
from benchmarks.peers._tavus import Tavus
from benchmarks.peers._vendor import CannotRunError, Vendor

_KINDS: list[type[Vendor]] = [Ours, HeyGen, Tavus, Simli]


@dataclass(frozen=True)
class Cell:
    """One service's figure, or why there is none."""

    text: str
    holds: bool | None = None


async def report(console: Console) -> None:
    """Measure, print and write `benchmarks/results.md`."""
    logger.remove()  # the services log each frame's way
    logging.disable(logging.ERROR)  # one SDK says for each frame that its session has ended
    began = time.monotonic()
    lines: list[tuple[Row, list[Cell]]] = []
    for kind in _KINDS:
        await _figures(TABLE[0][0], kind)  # what is loaded at the first use is not measured
    for scenario, rows in TABLE:
        figures = [await _figures(scenario, kind) for kind in _KINDS]
        for row in rows:
            lines.append((row, _cells(row, figures)))
            console.print(f"{row.what}: " + ", ".join(cell.text for cell in lines[-1][1]), markup=False)
    _print(console, lines)
    _results.write("peers", _markdown(lines, time.monotonic() - began))


async def _figures(scenario: Scenario, kind: type[Vendor]) -> Figures | str:
    """The scenario's figures, or why there are none."""
    try:
        return await scenario(kind)
    except CannotRunError as error:
        return f"cannot run: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a service raises is its result, and the others go on
        return f"failed: {type(error).__name__}"


def _cells(row: Row, figures: list[Figures | str]) -> list[Cell]:
    ours = figures[0] if isinstance(figures[0], dict) else {}
    cells = []
    for each in figures:
        if isinstance(each, str):
            cells.append(Cell(each))
            continue
        figure = float(each[row.key])
        ratio = row.ratio(figure, float(ours[row.key])) if row.key in ours else ""
        text = row.text(figure) + (f" ({ratio})" if ratio else "")
        cells.append(Cell(text, row.holds(figure)))
    return cells


def _print(console: Console, lines: list[tuple[Row, list[Cell]]]) -> None:
    table = Table("what", "target", *(kind.name for kind in _KINDS), title="peers")
    for row, cells in lines:
        table.add_row(row.what, row.target, *(_marked(cell) for cell in cells))
    console.print(table)


def _marked(cell: Cell) -> str:
    return cell.text if cell.holds is None else f"{'✓' if cell.holds else '✗'} {cell.text}"


def _markdown(lines: list[tuple[Row, list[Cell]]], seconds: float) -> str:
    names = [kind.name for kind in _KINDS]
    head = ["what", "should be", *names]
    table = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    table += [
        "| " + " | ".join([row.what, row.target, *(_marked(cell) for cell in cells)]) + " |"
        for row, cells in lines
    ]
    held = [f"{name} {sum(bool(cells[i].holds) for _, cells in lines)}" for i, name in enumerate(names)]
    where = _results.machine("pipecat-ai", "livekit", "daily-python", "simli-ai")
    boundaries = "\n".join(f"- {kind.name}: {kind.boundary}" for kind in _KINDS)
    table_text = "\n".join(table)
    return f"""
## Pipecat's avatar services side by side

`make bench`, or `.venv-pipecat-peers/bin/python -m benchmarks peers`: one run of {seconds:.0f} s, one service after the
other for each row. ✓ and ✗ tell whether the figure is as it should be; in brackets how many times ours it is.

{table_text}

Rows that hold, of {len(lines)}: {", ".join(held)}.

Method. Every service runs in the same pipeline, on a real `PipelineWorker`, between a source of 20 ms TTS frames and an
output transport that takes as long for audio as it lasts (24 kHz) and then feeds an assistant's context. Behind every
service is the same avatar: it plays in real time what it is sent, shows 25 pictures a second whose brightness follows
its voice, and its voice and picture take 0.4 s to arrive, so that whoever stops it still gets what was on the way. A
picture is stale when it shows the interrupted speech. "Waiting" pictures are those that were pushed and not shown, or
arrived and not read. The cost of a picture is the median CPU time of 40 ms with one, less the same without a service;
Tavus gets its pictures ready-made, since Daily's SDK converts them before the boundary. OpenCV is installed, as Pipecat's
`webrtc` extra does; ours converts with it. Simli's session is its connection, so that none can be left open while that
is made; in the rows of a second run its connections are counted. Where words are counted, each is a tone of its own
(0.2 s), told apart by its pitch, and where the picture is followed, a picture that comes no more counts as never. A
session that reaches its limit ends as on the wire: the avatar leaves, its streams end, its socket is closed. "Without a
service" is the same branch with a processor that passes everything. Every service speaks once before anything counts;
then every figure is of one try.

What is faked:

{boundaries}

Measured on {where}.
"""
