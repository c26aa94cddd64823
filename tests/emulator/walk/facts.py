"""The documented facts about the service, and how this package holds each: the rows of `facts.toml`.

A row is `[table."source"]` and `name = fact`; the fact is a sentence, or has `text` and some of these:

- `held`: who holds it: `emulator` (as if left out), `client` or `both`.
- `deviation`: what the emulator does instead, with `reason`.
- `live`: why only the live service can show it; such a fact has no check.
- `inferred`: what the pages leave open, so that `text` is our reading.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HOLDERS = ("emulator", "client", "both")


@dataclass(frozen=True, slots=True)
class Fact:
    """A row.

    Attributes:
        name: Its name, `table.name`.
        source: The page of the service's documentation, and its section, or the vendor's code.
    """

    name: str
    source: str
    text: str
    held: str = "emulator"
    deviation: str = ""
    reason: str = ""
    live: str = ""
    inferred: str = ""


@cache
def facts() -> dict[str, Fact]:
    """Return all rows by name, in the order of the file."""
    tables = tomllib.loads((Path(__file__).parent / "facts.toml").read_text())
    rows = {}
    for table, sources in tables.items():
        for source, found in sources.items():
            for name, value in found.items():
                fields = {"text": value} if isinstance(value, str) else value
                rows[f"{table}.{name}"] = Fact(f"{table}.{name}", source, **fields)
    return rows


def figure() -> str:
    """Return how many of the documented facts are held."""
    documented = [fact for fact in facts().values() if not fact.inferred]
    held = [fact for fact in documented if not fact.deviation and not fact.live]
    by = {holder: sum(fact.held == holder for fact in held) for holder in HOLDERS}
    return (
        f"**{len(held)} of {len(documented)}** documented facts are held: {by['emulator']} by the emulator,"
        f" {by['client']} by the client and {by['both']} by both. In"
        f" {sum(bool(fact.deviation) for fact in documented)} the emulator deviates, and"
        f" {sum(bool(fact.live) for fact in documented)} only the live service can show."
        f" {len(facts()) - len(documented)} more rows are inferred."
    )


def deviations() -> str:
    """Return the facts that the emulator does not hold, as Markdown."""
    rows = [
        (fact.text, fact.deviation, fact.reason, fact.source) for fact in facts().values() if fact.deviation
    ]
    return _table(("the pages say", "the emulator", "reason", "source"), rows)


def inferred() -> str:
    """Return what is our reading, as Markdown."""
    rows = [(fact.text, fact.inferred, fact.source) for fact in facts().values() if fact.inferred]
    return _table(("what the emulator or the client does", "what the pages leave open", "nearest page"), rows)


def live() -> str:
    """Return what only the live service can show, as Markdown."""
    rows = [(fact.text, fact.live, fact.source) for fact in facts().values() if fact.live]
    return _table(("the pages say", "why no test here can show it", "source"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
