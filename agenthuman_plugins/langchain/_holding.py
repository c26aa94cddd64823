"""Who ends a session: what each process of an application holds, and what changes that. Pure.

A session belongs to its thread, and every worker may look at it and end it by its tools. But only one of them does so
by itself, when its block is over or a limit is reached: the owner.
"""

from enum import Enum


class Holding(Enum):
    """What this process is to a session."""

    OWNER = "owner"
    GUEST = "guest"
    ENDED = "ended"


class Change(Enum):
    """What can happen to that."""

    OPENED = "opened here, or found by a replay of the call that opened it"
    FOUND = "named or listed here, but opened by another process"
    SPOKE = "connected here, to speak"
    REPLACED = "another worker connects with the agent's identity"
    ENDED = "ended, here or elsewhere"


#: What each of them does.
DUTIES = {
    Holding.OWNER: ("ends it", "run", "open, once it has spoken"),
    Holding.GUEST: (
        "leaves it running",
        "do not run",
        "none; the next `say` connects, and makes it the owner",
    ),
    Holding.ENDED: ("nothing is left to do", "do not run", "none"),
}

#: Every transition; `None` is a session that this process does not know. What is not in it changes nothing.
TABLE = {
    (None, Change.OPENED): Holding.OWNER,
    (None, Change.FOUND): Holding.GUEST,
    (Holding.GUEST, Change.OPENED): Holding.OWNER,
    (Holding.GUEST, Change.SPOKE): Holding.OWNER,
    (Holding.OWNER, Change.REPLACED): Holding.GUEST,
    (Holding.OWNER, Change.ENDED): Holding.ENDED,
    (Holding.GUEST, Change.ENDED): Holding.ENDED,
}


def after(holding: Holding | None, change: Change) -> Holding | None:
    """What a process holds after a change."""
    return TABLE.get((holding, change), holding)


def duties() -> str:
    """What each does, as a Markdown table."""
    head = "| | when the block ends | `max_idle_secs`, `max_session_secs` | its speech link |\n| --- | --- | --- | --- |"
    return "\n".join([head, *(f"| {holding.value} | {' | '.join(DUTIES[holding])} |" for holding in Holding)])


def markdown() -> str:
    """The transitions, as a Markdown table."""
    head = f"| | {' | '.join(['not known', *(holding.value for holding in Holding)])} |\n|{' --- |' * 5}"
    rows = (
        f"| {change.value} | " + " | ".join(_cell(holding, change) for holding in (None, *Holding)) + " |"
        for change in Change
    )
    return "\n".join([head, *rows])


def _cell(holding: Holding | None, change: Change) -> str:
    to = TABLE.get((holding, change))
    return "" if to is None else to.value
