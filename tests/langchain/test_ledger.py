"""What a toolkit remembers of its sessions, as values; what its tools make of it is in test_replay.py."""

import pytest

from agenthuman_plugins.client import LiveKitRoom, Session
from agenthuman_plugins.langchain import _ledger
from agenthuman_plugins.langchain._holding import Change, Holding
from agenthuman_plugins.langchain._ledger import Entry, Ledger, LedgerClosedError
from agenthuman_plugins.langchain._origin import Origin


def entry(number: int = 1, status: str = "started") -> Entry:
    return Entry(Session(session_id=f"sess_{number}", status=status), f"lc-{number}", Origin("ada"))


def ids(entries: list[Entry]) -> list[str]:
    return [each.session_id for each in entries]


@pytest.fixture
def ledger() -> Ledger:
    """One that knows two sessions: the first was opened here, the second found."""
    ledger = Ledger()
    ledger.add(entry(1), Change.OPENED)
    ledger.add(entry(2), Change.FOUND)
    return ledger


def test_closing_gives_back_what_this_process_ends(ledger: Ledger) -> None:
    """After that, nothing can be opened until the block begins again; what others opened may still be found."""
    assert ids(ledger.close()) == ["sess_1"]
    with pytest.raises(LedgerClosedError):
        ledger.check_open()
    with pytest.raises(LedgerClosedError):
        ledger.add(entry(3), Change.OPENED)
    assert ledger.add(entry(3), Change.FOUND).holding is Holding.GUEST
    ledger.reopen()
    ledger.check_open()


def test_sessions_are_listed_newest_first(ledger: Ledger) -> None:
    """All of them, or those that match."""
    assert ids(ledger.entries()) == ["sess_2", "sess_1"]
    assert ids(ledger.entries(lambda each: each.holding is Holding.OWNER)) == ["sess_1"]


def test_what_the_create_returned_stays(ledger: Ledger) -> None:
    """A session that is found again keeps its tokens, and only its holding changes."""
    known = ledger.get("sess_2")
    again = ledger.add(entry(2), Change.OPENED)
    assert known is not None
    assert again.session is known.session
    assert again.holding is Holding.OWNER


def test_session_that_has_ended_already_is_kept_as_such() -> None:
    """What the service says about its end is noted with it."""
    over = Entry(Session(session_id="sess_1", status="ended", duration=12), "lc-1", Origin("ada"))
    kept = Ledger().add(over, Change.FOUND)
    assert kept.has_ended
    assert kept.session.duration == 12


def test_changes_of_unknown_sessions_are_no_news(ledger: Ledger) -> None:
    """Nothing is kept of them."""
    assert ledger.change("sess_9", Change.SPOKE) is None
    assert ledger.ended("sess_9") is None
    ledger.ending("sess_9", "a limit")
    ledger.settle_in("sess_9", LiveKitRoom("wss://rooms.example.com", avatar_token="t", agent_token="t"))
    assert ledger.get("sess_9") is None


def test_change_and_room_are_noted(ledger: Ledger) -> None:
    """Who speaks owns, and knows the room."""
    room = LiveKitRoom("wss://rooms.example.com", avatar_token="t", agent_token="t")
    changed = ledger.change("sess_2", Change.SPOKE)
    assert changed is not None
    assert changed.holding is Holding.OWNER
    ledger.settle_in("sess_2", room)
    settled = ledger.get("sess_2")
    assert settled is not None
    assert settled.room is room


def test_end_by_the_toolkit_is_told_once(ledger: Ledger) -> None:
    """To whom it concerns, and only when the session has ended."""
    ledger.ending("sess_1", "a limit")
    assert ledger.pop_news(lambda _: True) == []
    ended = ledger.ended("sess_1", Session(session_id="sess_1", duration=7))
    assert ended is not None
    assert (ended.session.status, ended.session.duration) == ("ended", 7)
    ledger.ended("sess_2")  # not by the toolkit: no news
    assert ledger.pop_news(lambda _: False) == []
    (news,) = ledger.pop_news(lambda _: True)
    assert (news.session_id, news.because) == ("sess_1", "a limit")
    assert ledger.pop_news(lambda _: True) == []


def test_references_of_all_sessions(ledger: Ledger) -> None:
    """Those of others are asked for once, also if they have none; a session that turns out to be ours is ours."""
    ledger.not_ours("sess_7", None)
    ledger.not_ours("sess_8", "other")
    assert ledger.reference_of("sess_1") == "lc-1"
    assert ledger.reference_of("sess_7") is None
    assert ledger.reference_of("sess_8") == "other"
    with pytest.raises(KeyError):
        ledger.reference_of("sess_9")
    ledger.add(entry(8), Change.FOUND)
    assert ledger.reference_of("sess_8") == "lc-8"


def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ended sessions and those of others, the newest are kept; those that run are kept all."""
    monkeypatch.setattr(_ledger, "_KEPT", 2)
    ledger = Ledger()
    for number in range(6):
        ledger.add(entry(number), Change.OPENED)
        ledger.not_ours(f"other_{number}", None)
    for number in range(5):
        ledger.ended(f"sess_{number}")
    assert ids(ledger.entries()) == ["sess_5", "sess_4", "sess_3"]
    assert list(ledger._foreign) == ["other_4", "other_5"]


def test_doubt_about_a_create(ledger: Ledger) -> None:
    """It is remembered until it is settled."""
    assert not ledger.in_doubt("key")
    ledger.doubt("key")
    assert ledger.in_doubt("key")
    assert not ledger.in_doubt("other")
    ledger.settle("key")
    ledger.settle("key")
    assert not ledger.in_doubt("key")
