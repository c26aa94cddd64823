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


async def test_bot_talks_on_when_its_sessions_reach_their_limit(a_room_server: str) -> None:
    """Each session is ended by the bot before its limit; no word is lost or doubled, and no error is told."""
    # The last quarter of a session has to do for the next avatar to come.
    case = Case("", slots=2, session_s=8, seconds=13.5, turn_s=4.5)
    outcome = await talk(case, room_server=a_room_server)
    _whole(outcome)
    assert len(outcome.avatars) >= 3
    assert outcome.most_at_once == 2


async def test_bot_talks_on_when_its_avatar_is_changed(a_room_server: str) -> None:
    """Each change brings the avatar that was asked for; no word is lost or doubled, and no error is told."""
    case = Case("", slots=2, change_every_s=4.0, seconds=13.5, turn_s=4.5)
    outcome = await talk(case, room_server=a_room_server)
    _whole(outcome)
    assert outcome.changed[:2] == [AVATARS[1], AVATARS[0]]
    assert outcome.avatars[:3] == [AVATARS[0], AVATARS[1], AVATARS[0]]
