"""Renewal and change of the avatar over the whole chain; at length by `make bench BENCH=renewal`."""

import pytest

from benchmarks.renewal import AVATARS, Case, Outcome, talk

pytestmark = pytest.mark.media

_HOLE_S = 0.5  # of the voice: nobody takes it for an end, also where media stall on a busy machine


def _whole(outcome: Outcome) -> None:
    """What holds whatever happens to the avatar."""
    assert outcome.wrong == {}
    assert outcome.stuck == []
    assert outcome.errors == []
    assert outcome.voice_hole_s < _HOLE_S
    assert set(outcome.ended_by) == {"caller"}
    assert outcome.left == 0


# Where two run at a time, the last quarter of a session has to do for the next avatar to come.
@pytest.mark.parametrize(("slots", "session_s"), [(1, 6), (2, 8)])
async def test_bot_talks_on_when_its_sessions_reach_their_limit(
    slots: int, session_s: int, a_room_server: str
) -> None:
    """Each session is ended by the bot before its limit; no word is lost or doubled, and no error is told."""
    case = Case("", slots=slots, session_s=session_s, seconds=13.5, turn_s=4.5)
    outcome = await talk(case, room_server=a_room_server)
    _whole(outcome)
    assert len(outcome.avatars) >= 3
    assert outcome.most_at_once == slots


async def test_bot_talks_on_when_its_avatar_is_changed(a_room_server: str) -> None:
    """Each change brings the avatar that was asked for; no word is lost or doubled, and no error is told."""
    case = Case("", slots=2, change_every_s=4.0, seconds=13.5, turn_s=4.5)
    outcome = await talk(case, room_server=a_room_server)
    _whole(outcome)
    assert outcome.changed[:2] == [AVATARS[1], AVATARS[0]]
    assert outcome.avatars[:3] == [AVATARS[0], AVATARS[1], AVATARS[0]]
