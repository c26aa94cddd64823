import asyncio
import itertools

import pytest

from agenthuman_plugins.speech import AvatarConnected, AvatarDisconnected, _presence
from agenthuman_plugins.speech._presence import TRANSITIONS, Change, Presence, State

TO_REACH = {
    State.ABSENT: [],
    State.READY: [Change.SHOWN],
    State.AWAY: [Change.SHOWN, Change.LEFT],
}
TOLD = {
    (State.ABSENT, Change.SHOWN): AvatarConnected(),
    (State.AWAY, Change.OVERDUE): AvatarDisconnected("why"),
    (State.READY, Change.REFUSED): AvatarDisconnected("why"),
    (State.AWAY, Change.REFUSED): AvatarDisconnected("why"),
}


@pytest.mark.parametrize(
    ("state", "change"), list(itertools.product(State, Change)), ids=lambda value: value.name.lower()
)
async def test_every_transition(state, change):
    """The table holds for every state and everything that can happen in it."""
    told = []
    presence = Presence(told.append)
    for step in TO_REACH[state]:
        presence.take(step, "earlier")
    assert presence.state is state
    told.clear()
    presence.take(change, "why")
    assert presence.state is TRANSITIONS.get((state, change), state)
    assert told == ([TOLD[state, change]] if (state, change) in TOLD else [])
    presence.close()


async def test_avatar_that_stays_away_is_lost(monkeypatch):
    """After the limit, with the reason for which it went."""
    monkeypatch.setattr(_presence, "AWAY_LIMIT_S", 0.01)
    told = asyncio.Queue()
    presence = Presence(told.put_nowait)
    presence.take(Change.SHOWN)
    presence.take(Change.LEFT, "The avatar left the room.")
    presence.take(Change.LEFT, "The avatar lost its video.")
    async with asyncio.timeout(5):
        assert [await told.get(), await told.get()] == [
            AvatarConnected(),
            AvatarDisconnected("The avatar left the room."),
        ]


async def test_limit_ends_with_the_return(monkeypatch):
    """An avatar that is back is not declared lost later."""
    monkeypatch.setattr(_presence, "AWAY_LIMIT_S", 0.01)
    told = []
    presence = Presence(told.append)
    presence.take(Change.SHOWN)
    presence.take(Change.LEFT)
    presence.take(Change.SHOWN)
    await asyncio.sleep(0.05)
    assert told == [AvatarConnected()]
