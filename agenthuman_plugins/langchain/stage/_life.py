"""The life of a reply on the stage: its states, and every transition between them. Pure.

It decides what becomes of a `tts_chunk`: only in *speaking* does it go to the avatar.
"""

from enum import Enum


class State(Enum):
    """Where the newest reply is."""

    IDLE = "idle"
    AWAITED = "awaited"
    SPEAKING = "speaking"
    RESTING = "resting"
    ENDING = "ending"
    PLAIN = "plain"
    DROPPED = "dropped"
    NEXT = "next"


class Change(Enum):
    """What can happen to it."""

    TURN = "`stt_output`"
    STALE_TURN = "`stt_output`, but the user has spoken since"
    TEXT = "`agent_chunk`"
    SOUND = "`tts_chunk`"
    PLAIN_SOUND = "`tts_chunk` while there is no avatar"
    PAUSE = "all was played, and nothing has come for a moment"
    OVER = "`agent_end`, and then no `tts_chunk` for a moment; or the events end"
    PLAYED = "the avatar has played all of it"
    INTERRUPT = "the user speaks, or `interrupt()`"
    LOSE = "the avatar is lost"


#: What each state means, and what becomes of a `tts_chunk` in it.
MEANING = {
    State.IDLE: "no reply is expected; speech would begin one",
    State.AWAITED: "the agent is at work; the first speech begins its reply",
    State.SPEAKING: "speech goes to the avatar as it comes",
    State.RESTING: "all that came was spoken; more of the same reply may come, after a tool call for example",
    State.ENDING: "the reply is complete, and the avatar plays the rest of it",
    State.PLAIN: "the program plays this reply; an avatar that comes back takes over at the next one",
    State.DROPPED: "interrupted; what still comes of the reply passes and is not spoken",
    State.NEXT: "the next turn has begun, or the agent is done; until it writes again, speech is the rest of the dropped reply",
}


def _rows() -> dict[tuple[State, Change], State]:
    idle, awaited, speaking, resting = State.IDLE, State.AWAITED, State.SPEAKING, State.RESTING
    ending, plain, dropped, following = State.ENDING, State.PLAIN, State.DROPPED, State.NEXT
    rows = {
        (idle, Change.TEXT): awaited,
        (speaking, Change.PAUSE): resting,
        (speaking, Change.OVER): ending,
        (ending, Change.PLAYED): idle,
        (resting, Change.OVER): idle,
        (plain, Change.PAUSE): resting,
        (plain, Change.OVER): idle,
        (dropped, Change.OVER): following,
        (following, Change.TEXT): awaited,
    }
    for state in (idle, awaited, speaking, resting, ending):
        rows[state, Change.SOUND] = speaking
        rows[state, Change.PLAIN_SOUND] = plain
    for state in (speaking, ending):
        rows[state, Change.LOSE] = plain
    for state in State:
        rows[state, Change.TURN] = following if state in {dropped, following} else awaited
        rows[state, Change.STALE_TURN] = dropped
        if state is not idle:  # where no reply is expected, nothing must be dropped
            rows[state, Change.INTERRUPT] = dropped
    return rows


#: Every transition. What is not in it changes nothing.
TABLE = _rows()


class Life:
    """The state, and the way from one to the next."""

    def __init__(self) -> None:
        self.state = State.IDLE

    def take(self, change: Change) -> State:
        """Make a transition and return the state before it."""
        before = self.state
        self.state = TABLE.get((before, change), before)
        return before


def states() -> str:
    """The states and what they mean as Markdown, for the documentation."""
    rows = (f"| *{state.value}* | {meaning} |" for state, meaning in MEANING.items())
    return "\n".join(("| state | meaning |", "| --- | --- |", *rows))


def markdown() -> str:
    """The table as Markdown, for the documentation; what leads from several states to one is one line."""
    sources: dict[tuple[Change, State], list[State]] = {}
    for (before, change), after in sorted(TABLE.items(), key=_order):
        if before is not after:
            sources.setdefault((change, after), []).append(before)
    lines = ["| when | from | to |", "| --- | --- | --- |"]
    for (change, after), befores in sorted(sources.items(), key=lambda item: list(Change).index(item[0][0])):
        names = ", ".join(before.value for before in befores)
        others = [state for state in State if state is not after and state not in befores]
        if not others:
            names = "any other"
        lines.append(f"| {change.value} | {names} | *{after.value}* |")
    return "\n".join(lines)


def _order(item: tuple[tuple[State, Change], State]) -> tuple[int, int]:
    (state, change), _ = item
    return list(State).index(state), list(Change).index(change)
