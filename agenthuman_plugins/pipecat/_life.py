"""The life of the avatar's presence: its states, and every transition between them. Pure.

Who speaks follows from the state alone: the avatar, or plain audio in its place. What is told about a transition
follows from the states before and after it, so the table needs to say only where each change leads.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class State(Enum):
    """Where the avatar is."""

    OFF = "off"
    CONNECTING = "connecting"
    AVATAR = "avatar"
    PLAIN = "plain"
    WAITING = "waiting for a slot"
    RETURNING = "returning"
    GIVEN_UP = "given up"
    ENDED = "ended"


class Change(Enum):
    """What can happen to it."""

    BEGIN = "a run begins"
    WANT = "an avatar is wanted"
    ARRIVE = "the avatar is connected"
    LATE = "speech has waited long enough"
    LOSE = "the avatar failed, or could not be had this time"
    FULL = "the account has no free slot"
    REFUSE = "no avatar can be had"
    BOUNDARY = "the plain reply is over"
    RELEASE = "the session ends before the next one opens"
    CUT = "the next avatar takes over in mid-reply"
    DISMISS = "nobody needs the avatar"
    RETRY = "another attempt may succeed"
    END = "the run ends"


#: What each state means.
MEANING = {
    State.OFF: "no session, and none wanted; the next speech opens one and waits for it",
    State.CONNECTING: "a session is being opened and joined; speech waits for it",
    State.AVATAR: "the avatar speaks",
    State.PLAIN: "plain audio; an avatar is on its way",
    State.WAITING: "plain audio; the account's slots are taken, and one is asked for now and then",
    State.RETURNING: "plain audio to the end of this reply; the avatar is connected and takes over then",
    State.GIVEN_UP: "plain audio from now on",
    State.ENDED: "no run; every session has been ended, or is being ended",
}

_CONNECTED = {State.AVATAR, State.RETURNING}
_FALLBACK = {State.PLAIN, State.WAITING, State.RETURNING, State.GIVEN_UP}

Report = Literal["once", "permanent"]
Level = Literal["DEBUG", "INFO", "WARNING"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        to: The state that follows.
        error: Whether it is an `ErrorFrame`: `once` for each kind of failure until the avatar is back, or `permanent`.
        hand_back: Whether what the avatar has not said goes on as plain audio.
        level: Of its log line.
    """

    to: State
    error: Report | None = None
    hand_back: bool = False
    level: Level = "DEBUG"


def _rows() -> dict[tuple[State, Change], Row]:
    off, connecting, avatar, plain = State.OFF, State.CONNECTING, State.AVATAR, State.PLAIN
    waiting, returning, given_up, ended = State.WAITING, State.RETURNING, State.GIVEN_UP, State.ENDED
    rows = {
        (off, Change.WANT): Row(connecting),
        (connecting, Change.ARRIVE): Row(avatar),
        (connecting, Change.DISMISS): Row(off, hand_back=True),
        (connecting, Change.LATE): Row(plain, hand_back=True, level="WARNING"),
        (avatar, Change.RELEASE): Row(plain, hand_back=True, level="INFO"),
        (avatar, Change.CUT): Row(returning, hand_back=True, level="INFO"),
        (returning, Change.BOUNDARY): Row(avatar),
        (given_up, Change.RETRY): Row(plain),
    }
    for state in (plain, waiting):
        rows[state, Change.ARRIVE] = Row(returning)
        rows[state, Change.DISMISS] = Row(off)
    for state in (avatar, returning, connecting, plain, waiting):
        rows[state, Change.LOSE] = Row(plain, error="once", hand_back=True)
        rows[state, Change.FULL] = Row(waiting, error="once", hand_back=True)
        rows[state, Change.REFUSE] = Row(given_up, error="permanent", hand_back=True)
    rows[returning, Change.RELEASE] = Row(plain, hand_back=True, level="INFO")
    rows[returning, Change.CUT] = Row(returning, hand_back=True, level="INFO")
    for state in (avatar, returning):
        rows[state, Change.DISMISS] = Row(off, hand_back=True)
    for state in State:
        rows[state, Change.BEGIN] = Row(off)
        if state is not ended:
            rows[state, Change.END] = Row(ended)
    return rows


#: Every transition. What is not in it changes nothing.
TABLE = _rows()


@dataclass(frozen=True, slots=True)
class Step:
    """A transition that has been made.

    Attributes:
        before: The state until now.
        row: Its line of the table.
        events: The handlers to call, in order; those that are told a reason have one argument.
    """

    before: State
    row: Row
    events: tuple[str, ...]


def events(before: State, after: State) -> tuple[str, ...]:
    """The event handlers that a transition calls, in order."""
    told = []
    if before in _CONNECTED and after not in _CONNECTED:
        told.append("on_avatar_disconnected")
    if after in _CONNECTED and before not in _CONNECTED:
        told.append("on_avatar_connected")
    if after in _FALLBACK and before not in _FALLBACK:
        told.append("on_fallback_started")
    if before in _FALLBACK and after not in _FALLBACK:
        told.append("on_fallback_ended")
    if after is State.GIVEN_UP and before is not State.GIVEN_UP:
        told.append("on_gave_up")
    # Whoever ends the run, or begins one, knows it.
    return () if after is State.ENDED or before is State.ENDED else tuple(told)


class Life:
    """The state, and the way from one to the next."""

    def __init__(self) -> None:
        self.state = State.ENDED

    @property
    def avatar_expected(self) -> bool:
        """Whether the next reply is for the avatar; else it passes as plain audio."""
        return self.state in _CONNECTED or self.state is State.CONNECTING

    @property
    def connected(self) -> bool:
        """Whether there is an avatar that can be spoken through."""
        return self.state in _CONNECTED

    def take(self, change: Change) -> Step | None:
        """Make a transition; `None` if the change means nothing in this state."""
        row = TABLE.get((self.state, change))
        if row is None:
            return None
        before, self.state = self.state, row.to
        return Step(before, row, events(before, row.to))


def states() -> str:
    """The states and what they mean as Markdown, for the documentation."""
    rows = (f"| *{state.value}* | {meaning} |" for state, meaning in MEANING.items())
    return "\n".join(("| state | meaning |", "| --- | --- |", *rows))


def markdown() -> str:
    """The table as Markdown, for the documentation."""
    lines = [
        "| state | when | becomes | error | handlers |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (state, change), row in sorted(TABLE.items(), key=_order):
        if change in (Change.BEGIN, Change.END):
            continue
        handlers = ", ".join(f"`{name}`" for name in events(state, row.to))
        lines.append(
            f"| {state.value} | {change.value} | {row.to.value} | {_ERRORS[row.error]} | {handlers or '—'} |"
        )
    lines.append("| any | a run begins | off | — | — |")
    lines.append("| any | the run ends | ended | — | — |")
    return "\n".join(lines)


def mermaid() -> str:
    """The states and transitions as the source of a Mermaid diagram, for the documentation.

    What leads to one state from nearly everywhere is drawn once: drawn singly, nobody could follow the lines.
    """
    sources: dict[tuple[Change, State], list[State]] = {}
    for (state, change), row in sorted(TABLE.items(), key=_order):
        if change not in (Change.BEGIN, Change.END) and row.to is not state:
            sources.setdefault((change, row.to), []).append(state)
    arrows: dict[tuple[str, str], list[str]] = {}
    for (change, after), states in sources.items():
        for before in ["ANY"] if len(states) >= _NEARLY_ALL else [state.name for state in states]:
            arrows.setdefault((before, after.name), []).append(change.name.lower())
    return "\n".join(
        [
            "stateDiagram-v2",
            *(f"  {state.name}: {state.value}" for state in State),
            "  ANY: any of these",
            "  [*] --> OFF",
            *(f"  {before} --> {after}: {', '.join(names)}" for (before, after), names in arrows.items()),
            "  ANY --> ENDED: end",
            "  ENDED --> [*]",
        ]
    )


_NEARLY_ALL = 4  # states from which one change leads to the same other one
_ERRORS: dict[Report | None, str] = {None: "—", "once": "once for each category", "permanent": "permanent"}


def _order(item: tuple[tuple[State, Change], Row]) -> tuple[int, int]:
    (state, change), _ = item
    return list(State).index(state), list(Change).index(change)
