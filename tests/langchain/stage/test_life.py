"""Every line of the table of a reply's life, made to happen by events on a real stage."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agenthuman_plugins.langchain.stage import _life
from agenthuman_plugins.langchain.stage._life import MEANING, TABLE, Change, State
from tests.langchain.stage.talk import END, Talk, said, text, tts
from tests.virtual_time import run

Step = Callable[[Talk], Awaitable[None]]

# How a stage behind `listen` comes into each state; the link of a fresh one is connected.
WAYS: dict[State, str] = {
    State.IDLE: "",
    State.AWAITED: "turn",
    State.SPEAKING: "turn text sound",
    State.RESTING: "turn text sound rest",
    State.ENDING: "turn text long end quiet",
    State.PLAIN: "turn text short lose",
    State.DROPPED: "turn text sound interrupt",
    State.NEXT: "turn text sound interrupt turn",
}
MADE_BY: dict[Change, str] = {
    Change.TURN: "turn",
    Change.STALE_TURN: "interrupt-unheard turn",
    Change.TEXT: "text",
    Change.SOUND: "sound",
    Change.PLAIN_SOUND: "lose-unheard sound",
    Change.PAUSE: "rest",
    Change.OVER: "end quiet",
    Change.PLAYED: "played",
    Change.INTERRUPT: "interrupt",
    Change.LOSE: "lose",
}

# Every row, written down anew: in each state the changes that mean something, and what follows.
ROWS = {
    "IDLE": "TURN-AWAITED STALE_TURN-DROPPED TEXT-AWAITED SOUND-SPEAKING PLAIN_SOUND-PLAIN",
    "AWAITED": "TURN-AWAITED STALE_TURN-DROPPED SOUND-SPEAKING PLAIN_SOUND-PLAIN INTERRUPT-DROPPED",
    "SPEAKING": "TURN-AWAITED STALE_TURN-DROPPED SOUND-SPEAKING PLAIN_SOUND-PLAIN PAUSE-RESTING OVER-ENDING"
    " INTERRUPT-DROPPED LOSE-PLAIN",
    "RESTING": "TURN-AWAITED STALE_TURN-DROPPED SOUND-SPEAKING PLAIN_SOUND-PLAIN OVER-IDLE INTERRUPT-DROPPED",
    "ENDING": "TURN-AWAITED STALE_TURN-DROPPED SOUND-SPEAKING PLAIN_SOUND-PLAIN PLAYED-IDLE INTERRUPT-DROPPED"
    " LOSE-PLAIN",
    "PLAIN": "TURN-AWAITED STALE_TURN-DROPPED PAUSE-RESTING OVER-IDLE INTERRUPT-DROPPED",
    "DROPPED": "TURN-NEXT STALE_TURN-DROPPED OVER-NEXT INTERRUPT-DROPPED",
    "NEXT": "TURN-NEXT STALE_TURN-DROPPED TEXT-AWAITED INTERRUPT-DROPPED",
}


SENT = {
    "turn": said(""),  # without words, so that it interrupts nothing
    "text": text("Hello."),
    "sound": tts(1.5),
    "short": tts(0.2),
    "long": tts(5.0),
    "end": END,
}
WAITED_S = {"quiet": 0.7, "rest": 4.0, "played": 6.0}


async def do(talk: Talk, steps: str) -> None:
    stream = talk.stage._stream
    assert stream is not None
    for step in steps.split():
        if step in SENT:
            await talk.send(SENT[step])
        elif step == "interrupt":
            await talk.stage.interrupt()
        elif step == "lose":
            talk.link.crash()
        elif step == "interrupt-unheard":  # the user speaks over a turn that the agent has not taken yet
            stream._open_turn = stream._turns + 2
        elif step == "lose-unheard":  # so that a state which a loss would change is reached without an avatar
            stream._expected = False
        await asyncio.sleep(WAITED_S.get(step, 0.01))


@pytest.mark.parametrize(("before", "change"), TABLE, ids=lambda part: part.name.lower())
def test_line_of_the_table(before: State, change: Change) -> None:
    """What the table says happens when its events do."""

    async def test() -> None:
        async with Talk(listen=True) as talk:
            await talk.send({"type": "user_input"})
            await talk.until_kind("avatar_connected")
            await do(talk, WAYS[before])
            stream = talk.stage._stream
            assert stream is not None
            assert stream._life.state is before
            await do(talk, MADE_BY[change])
            assert stream._life.state is TABLE[before, change]

    run(test())


def test_table_is_whole() -> None:
    """The table has these lines and no other."""
    written = {(state, *row.split("-")) for state, rows in ROWS.items() for row in rows.split()}
    assert written == {(before.name, change.name, after.name) for (before, change), after in TABLE.items()}


def test_every_state_is_explained() -> None:
    """The documentation says what each state means and lists every change that leads somewhere."""
    assert set(MEANING) == set(State)
    printed = _life.markdown()
    leading = {change for (before, change), after in TABLE.items() if before is not after}
    assert all(change.value in printed for change in leading)
    assert all(meaning in _life.states() for meaning in MEANING.values())
    assert leading == set(Change)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        pytest.param(State.IDLE, Change.INTERRUPT, id="nothing-to-drop"),
        pytest.param(State.AWAITED, Change.OVER, id="voice-slower-than-agent"),
        pytest.param(State.DROPPED, Change.TEXT, id="rest-of-the-dropped-text"),
        pytest.param(State.DROPPED, Change.SOUND, id="rest-of-the-dropped-speech"),
        pytest.param(State.NEXT, Change.SOUND, id="late-speech-of-the-dropped"),
    ],
)
def test_change_that_means_nothing(before: State, change: Change) -> None:
    """What is not in the table changes nothing."""
    life = _life.Life()
    life.state = before
    assert life.take(change) is before
    assert life.state is before
