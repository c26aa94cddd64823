"""What the command prints: text and tables for people, JSON for programs.

Tables need the extra `cli`; everything else works without it.
"""

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_NOT_CUT = 10_000  # columns: a table that goes into a pipe or a file is never cut to a width
_LONGEST_S = 10**12  # Python cannot print much longer times, nor all large numbers
_MOST = 10**15
NOTHING = "-"


def say(text: str) -> None:
    """Print a line at once: whoever reads a pipe shall not wait for the next one."""
    print(text, flush=True)  # noqa: T201 - the one place where a command prints


def print_json(value: Any) -> None:
    """Print a value for a program; printable ASCII, so that no terminal and no locale changes it."""
    say(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its first column never broken."""
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.table import Table  # noqa: PLC0415 - an extra

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(readable, row))
    width = None if sys.stdout.isatty() else _NOT_CUT
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print what there is to tell about one thing, one fact a line."""
    width = max(map(len, facts))
    for name, fact in facts.items():
        say(f"{name:<{width}}   {readable(fact)}")


def readable(text: str) -> str:
    """One line without control characters: a terminal obeys them, and the text may be anybody's."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def copyable(text: str) -> str:
    """An id on one line, quoted for a shell: anybody may have chosen it."""
    return shlex.quote(readable(text))


def moment(time: datetime | None) -> str:
    """A point in time, such as `2024-01-15 10:30:00 UTC`."""
    try:
        return NOTHING if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:  # at the edges of the calendar
        return NOTHING


def span(seconds: float | None) -> str:
    """A length of time, such as `1:02:03`."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    return str(timedelta(seconds=min(round(max(seconds, 0)), _LONGEST_S)))


def count(number: float | None) -> str:
    """A number without needless digits, such as `45` or `7.5`."""
    return NOTHING if number is None else f"{min(max(number, -_MOST), _MOST):,.12g}"
