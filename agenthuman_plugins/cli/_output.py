"""What the command prints: text and tables for people, JSON for programs.

Tables need the extra `cli`; everything else works without it.
"""

import json
import math
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_NOT_CUT = 10_000  # columns: a table that goes into a pipe or a file is never cut to a width
_IN_A_FILE = 100  # columns of text that is wrapped without a terminal
_NARROWEST = 20  # columns of text, however deep it is indented
_LONGEST_S = 10**12  # Python cannot print much longer times, nor all large numbers
_MOST = 10**15
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
NOTHING = "-"


def say(text: str) -> None:
    """Print a line at once: whoever reads a pipe shall not wait for the next one."""
    print(text, flush=True)  # noqa: T201 - the one place where a command prints


def print_json(value: Any) -> None:
    """Print a value for a program; printable ASCII, so that no terminal and no locale changes it."""
    say(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves


def complain(text: str) -> None:
    """Print a sentence on standard error, wrapped for a person, one line for a program."""
    line = f"agenthuman: {readable(text)}"
    sys.stderr.write((wrapped(line) if sys.stderr.isatty() else line) + "\n")


def wrapped(text: str, indent: int = 0) -> str:
    """The text in lines that fit the terminal, all but the first one indented; no word is broken."""
    width = max(shutil.get_terminal_size((_IN_A_FILE, 24)).columns, indent + _NARROWEST)
    return textwrap.fill(
        text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, wrap_last: bool = False) -> None:
    """Print a table; where a terminal is too narrow for it, a record for each row.

    Args:
        headings: Names of the columns.
        rows: Texts of the cells.
        wrap_last: Whether the last column may be broken into lines.
    """
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.table import Table  # noqa: PLC0415 - an extra

    rows = [[readable(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings, 1):
        table.add_column(heading, no_wrap=not (wrap_last and number == len(headings)))
    for row in rows:
        table.add_row(*row)
    console = Console(width=_NOT_CUT, markup=False, highlight=False, emoji=False)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        if console.measure(table).minimum > width:
            for number, row in enumerate(rows):
                say("\n" * (number > 0) + "\n".join(_facts(dict(zip(headings, row, strict=True)))))
            return
        console.width = width
    with console.capture() as printed:  # Rich would end the command by itself where a reader is gone
        console.print(table)
    say(printed.get().removesuffix("\n"))


def print_facts(facts: Mapping[str, str]) -> None:
    """Print what there is to tell about one thing, one fact a line."""
    for line in _facts({name: readable(fact) for name, fact in facts.items()}):
        say(line)


def _facts(facts: Mapping[str, str]) -> Iterator[str]:
    indent = max(map(len, facts)) + 3
    for name, fact in facts.items():
        line = f"{name:<{indent}}{fact}"
        yield wrapped(line, indent) if sys.stdout.isatty() else line


def agrees(question: str) -> bool:
    """Whether a person says yes; only in a terminal, see `can_ask`."""
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    return answer.strip().lower() in {"y", "yes"}


def can_ask() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def readable(text: str) -> str:
    """One line without control characters: a terminal obeys them, and the text may be anybody's."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def copyable(text: str) -> str:
    """An id on one line, quoted for a shell: anybody may have chosen it."""
    return shlex.quote(readable(text))


def moment(time: datetime | None) -> str:
    """A point in time and its distance, such as `2024-01-15 10:30:00 UTC (5 min ago)`."""
    try:
        return NOTHING if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({distance(time)})"
    except OverflowError:  # at the edges of the calendar
        return NOTHING


def day(time: datetime | None) -> str:
    """The day of a point in time, such as `2024-01-15`."""
    try:
        return NOTHING if time is None else f"{time.astimezone(UTC):%Y-%m-%d}"
    except OverflowError:
        return NOTHING


def distance(time: datetime | None, now: datetime | None = None) -> str:
    """How far a point in time is from now, such as `5 min ago`, `in 3 h` or `40 d ago`."""
    if time is None:
        return NOTHING
    passed_s = ((now or datetime.now(UTC)) - time).total_seconds()
    length_s = abs(passed_s)
    unit, size = next(((unit, size) for unit, size in _UNITS if length_s >= size), _UNITS[-1])
    length = f"{int(length_s // size)} {unit}"
    return f"{length} ago" if passed_s >= 0 else f"in {length}"


def span(seconds: float | None) -> str:
    """A length of time, such as `1:02:03`."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    return str(timedelta(seconds=min(round(max(seconds, 0)), _LONGEST_S)))


def count(number: float | None) -> str:
    """A number without needless digits, such as `45` or `7.5`."""
    return NOTHING if number is None else f"{min(max(number, -_MOST), _MOST):,.12g}"
