"""The rules of sessions, on a clock that the tests move."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agenthuman_plugins.emulator._errors import LIMIT_ERRORS, LimitError, ServiceError
from agenthuman_plugins.emulator._plans import PLANS
from agenthuman_plugins.emulator._requests import CreateRequest, RoomRequest
from agenthuman_plugins.emulator._store import Rules, Session, SessionStore
from tests.emulator.conftest import FakeClock

REQUEST = CreateRequest("avat_1", RoomRequest("proxy"))


@pytest.fixture
def store(clock: FakeClock) -> SessionStore:
    return SessionStore(Rules(PLANS["free"]), clock)


def pro(clock: FakeClock, **rules) -> SessionStore:
    return SessionStore(Rules(PLANS["pro"], **rules), clock)


def with_avatar(store: SessionStore) -> Session:
    session = store.create(REQUEST)
    store.note(session, {"event": "avatar_starting"})
    store.note(session, {"event": "ready", "pid": 1})
    return session


def due(store: SessionStore) -> list[str]:
    return [by for _, by in store.due()]


def test_free_plan_has_one_session_at_a_time(store: SessionStore):
    """A second create is refused with a code and leaves no session; ending the first makes room."""
    first = store.create(REQUEST)
    with pytest.raises(ServiceError) as refusal:
        store.create(REQUEST)
    assert refusal.value.status == 403
    assert refusal.value.body["error"]["code"] == "CONCURRENCY_LIMIT_REACHED"
    assert store.newest_first() == [first]
    store.end(first, "caller")
    assert store.create(REQUEST).active


@pytest.mark.parametrize(("plan", "limit"), [("free", 1), ("explorer", 5), ("growth", 10), ("pro", 20)])
def test_plan_sets_the_number_of_sessions(plan: str, limit: int, clock: FakeClock):
    """Each plan allows its documented number of concurrent sessions, and no more."""
    errors = {**LIMIT_ERRORS, "sessions": LimitError(429)}
    store = SessionStore(Rules(PLANS[plan], limit_errors=errors), clock)
    for _ in range(limit):
        store.create(REQUEST)
    with pytest.raises(ServiceError) as refusal:
        store.create(REQUEST)
    assert refusal.value.status == 429


def test_usage_counts_the_new_session(store: SessionStore):
    """The snapshot after a create has the new session in it."""
    store.create(REQUEST)
    assert store.usage() == {
        "concurrency": {"current": 1, "max": 1, "available": 0},
        "minutes": {"total_remaining": 120},
    }


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 0), (1, 1), (60, 1), (61, 2), (450, 8)])
def test_minutes_are_rounded_up(seconds: int, minutes: int, store: SessionStore, clock: FakeClock):
    """A session costs whole minutes, rounded up: the documented 450 s are 8."""
    session = store.create(REQUEST)
    clock.advance(seconds=seconds)
    store.end(session, "caller")
    assert store.describe(session)["billing"]["minutes_consumed"] == minutes
    assert store.usage()["minutes"]["total_remaining"] == 120 - minutes


def test_included_minutes_go_first(clock: FakeClock):
    """The documented mixed bill: 45 minutes, 15 of them purchased."""
    plan = replace(PLANS["free"], included_minutes=30, purchased_minutes=100)
    store = SessionStore(Rules(plan), clock)
    session = store.create(REQUEST)
    clock.advance(minutes=45)
    store.end(session, "caller")
    assert store.describe(session)["billing"] == {
        "minutes_consumed": 45,
        "minutes_source": "mixed",
        "billing_status": "billed",
        "minutes_billed": 15,
    }


def test_no_minutes_no_session(clock: FakeClock):
    """With all minutes used a create is refused with the documented code and text."""
    store = SessionStore(Rules(replace(PLANS["free"], included_minutes=1)), clock)
    session = store.create(REQUEST)
    clock.advance(minutes=2)
    store.end(session, "caller")
    with pytest.raises(ServiceError, match="No minutes remaining") as refusal:
        store.create(REQUEST)
    assert refusal.value.body["error"]["code"] == "INSUFFICIENT_MINUTES"


@pytest.mark.parametrize(("seconds", "left"), [(0, 2), (1, 1), (61, 0)])
def test_running_sessions_count_against_the_minutes(seconds: int, left: int, clock: FakeClock):
    """A session that runs has used its minutes, rounded up; once they are all used the next create is refused."""
    store = SessionStore(Rules(replace(PLANS["pro"], included_minutes=2)), clock)
    store.create(REQUEST)
    clock.advance(seconds=seconds)
    assert store.minutes() == {
        "included_minutes": {"total": 2, "used": 2 - left, "remaining": left},
        "purchased_minutes": {"total": 0, "remaining": 0},
        "total_remaining": left,
    }
    if left:
        assert store.create(REQUEST).active
    else:
        with pytest.raises(ServiceError, match="No minutes remaining"):
            store.create(REQUEST)


def test_running_sessions_use_purchased_minutes_last(clock: FakeClock):
    """What a running session has used beyond the included minutes is taken from the purchased ones."""
    plan = replace(PLANS["free"], included_minutes=30, purchased_minutes=100)
    store = SessionStore(Rules(plan), clock)
    session = store.create(REQUEST)
    clock.advance(minutes=45)
    running = store.minutes()
    assert running["included_minutes"]["remaining"] == 0
    assert running["purchased_minutes"]["remaining"] == running["total_remaining"] == 85
    store.end(session, "caller")
    assert store.minutes() == running


def test_included_minutes_come_back_with_the_next_period(clock: FakeClock):
    """A new period has all included minutes; purchased ones that were used stay used."""
    plan = replace(PLANS["free"], included_minutes=30, purchased_minutes=100)
    store = SessionStore(Rules(plan), clock)
    session = store.create(REQUEST)
    clock.advance(minutes=45)
    store.end(session, "caller")
    clock.advance(days=17)
    assert store.minutes()["included_minutes"]["remaining"] == 30
    assert store.minutes()["purchased_minutes"]["remaining"] == 85


@pytest.mark.parametrize(
    ("plan", "subscribed", "now", "start", "end"),
    [
        ("free", "2024-01-15", "2024-01-31", "2024-01-01", "2024-02-01"),
        ("pro", "2024-01-15", "2024-01-15", "2024-01-15", "2024-02-15"),
        ("pro", "2024-01-15", "2024-03-14", "2024-02-15", "2024-03-15"),
        ("pro", "2024-01-31", "2024-02-29", "2024-02-29", "2024-03-31"),
        ("pro", "2023-12-31", "2024-01-01", "2023-12-31", "2024-01-31"),
    ],
)
def test_period(plan: str, subscribed: str, now: str, start: str, end: str):
    """The free plan's period is the calendar month, a paid one's begins on the day of its subscription."""
    moments = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (subscribed, now, start, end)]
    assert PLANS[plan].period(*moments[:2]) == tuple(moments[2:])


@pytest.mark.parametrize(
    ("limit", "details"),
    [("minutes", "minutes"), ("sessions", "concurrency")],
)
def test_refusal_of_a_limit_is_a_setting(limit: str, details: str, clock: FakeClock):
    """Status, code and details of a used-up limit follow the rules given, each limit for itself."""
    errors = {**LIMIT_ERRORS, limit: LimitError(402, "USED_UP", details=True)}
    plan = replace(
        PLANS["free"], max_sessions=int(limit != "sessions"), included_minutes=int(limit != "minutes")
    )
    store = SessionStore(Rules(plan, limit_errors=errors), clock)
    with pytest.raises(ServiceError) as refusal:
        store.create(REQUEST)
    error = refusal.value.body["error"]
    assert (refusal.value.status, error["code"], [*error["details"]]) == (402, "USED_UP", [details])
    store.rules = replace(store.rules, limit_errors={**errors, limit: LimitError(details=False)})
    with pytest.raises(ServiceError) as refusal:
        store.create(REQUEST)
    assert not {"code", "details"} & set(refusal.value.body["error"])


def test_image_avatar_needs_a_paid_plan(clock: FakeClock):
    """The free plan takes avatars by id only (HTTP 403); a paid one takes images."""
    image = replace(REQUEST, image="https://pictures.example/me.jpg")
    with pytest.raises(ServiceError) as refusal:
        SessionStore(Rules(PLANS["free"]), clock).create(image)
    assert refusal.value.status == 403
    assert pro(clock).create(image).active


def test_end_counts_once(store: SessionStore, clock: FakeClock):
    """Ending again changes neither the time, nor the bill, nor who ended it."""
    session = store.create(REQUEST)
    assert store.end(session, "caller")
    before = store.record(session)
    clock.advance(hours=1)
    assert not store.end(session, "sweep")
    assert store.record(session) == before


def test_duration_runs_until_the_end(store: SessionStore, clock: FakeClock):
    """A started session shows its running duration, an ended one the final one."""
    session = store.create(REQUEST)
    clock.advance(seconds=7)
    assert store.describe(session)["duration"] == 7
    store.end(session, "caller")
    clock.advance(seconds=7)
    assert store.describe(session)["duration"] == 7


def test_list_filters_by_status(clock: FakeClock):
    """`started` and `ended` filter, any other word lists all, newest first."""
    store = pro(clock)
    old, new = store.create(REQUEST), store.create(REQUEST)
    store.end(old, "caller")
    assert store.newest_first() == store.newest_first("nonsense") == [new, old]
    assert store.newest_first("started") == [new]
    assert store.newest_first("ended") == [old]


def test_session_expires(store: SessionStore, clock: FakeClock):
    """A session is due at its expiration, not before."""
    session = store.create(REQUEST)
    assert store.describe(session)["expiration"] == "2024-01-15T14:30:00Z"
    clock.advance(hours=4, seconds=-1)
    assert due(store) == []
    clock.advance(seconds=1)
    assert due(store) == ["expiry"]


def test_avatar_that_stays_alone_is_swept(store: SessionStore, clock: FakeClock):
    """An avatar that nobody joined for the sweep time is ended."""
    with_avatar(store)
    clock.advance(seconds=179)
    assert due(store) == []
    clock.advance(seconds=1)
    assert due(store) == ["sweep"]


@pytest.mark.parametrize(("visitors", "seconds"), [(False, 180), (True, 5)], ids=["sweep", "room_empty"])
def test_session_that_was_due_long_ago_is_billed_until_then(
    visitors: bool, seconds: int, store: SessionStore, clock: FakeClock
):
    """However far the clock was moved, a session whose avatar is alone ends, and costs, as if it had gone by itself."""
    session = with_avatar(store)
    if visitors:
        for count in (1, 0):
            store.note(session, {"event": "participants", "count": count})
    begin = clock()
    clock.advance(hours=3)
    ((_, by),) = store.due()
    store.end(session, by)
    assert session.ended_at == begin + timedelta(seconds=seconds)
    assert session.timeline[-1]["at"] == session.ended_at.isoformat(timespec="milliseconds")
    assert session.billing["minutes_consumed"] == -(-seconds // 60)


@pytest.mark.parametrize(
    "event", [{"event": "exit", "code": -9}, {"event": "avatar_failed", "message": "no room"}]
)
def test_dead_avatar_is_swept(event: dict, store: SessionStore):
    """A session whose avatar died or never came is ended."""
    store.note(with_avatar(store), event)
    assert due(store) == ["sweep"]


def test_emptied_room_ends_the_session(store: SessionStore, clock: FakeClock):
    """When the last participant has left for good, the session ends, long before the sweep."""
    session = with_avatar(store)
    store.note(session, {"event": "participants", "count": 1})
    clock.advance(hours=1)
    assert due(store) == []
    store.note(session, {"event": "participants", "count": 0})
    clock.advance(seconds=5)
    assert due(store) == ["room_empty"]


def test_participant_that_comes_back_keeps_the_session(store: SessionStore, clock: FakeClock):
    """A reconnecting participant, gone for a moment, ends nothing."""
    session = with_avatar(store)
    for count in (1, 0, 1):
        store.note(session, {"event": "participants", "count": count})
        clock.advance(seconds=3)
    clock.advance(minutes=10)
    assert due(store) == []


def test_without_sweep_and_expiry_only_callers_end_sessions(clock: FakeClock):
    """Leak tests: no rule ends a session, whatever happens, and its expiration is null."""
    store = pro(clock, sweep_after=None, expiry=False)
    left, dead = with_avatar(store), with_avatar(store)
    for count in (1, 0):
        store.note(left, {"event": "participants", "count": count})
    store.note(dead, {"event": "exit", "code": -9})
    clock.advance(days=1)
    assert due(store) == []
    assert store.describe(left)["expiration"] is None


@pytest.mark.parametrize("connected", [False, True])
def test_daily_session_that_nobody_connects_to_is_swept(
    connected: bool, store: SessionStore, clock: FakeClock
):
    """Nobody sees who is in a Daily room: a gateway connection is what keeps its session from the sweep."""
    session = store.create(CreateRequest("avat_1", RoomRequest("daily", "https://x.daily.co/y", "t")))
    store.note(session, {"event": "ready", "pid": 1})
    if connected:
        store.note(session, {"event": "gateway_connected"})
    clock.advance(seconds=179)
    assert due(store) == []
    clock.advance(seconds=1)
    assert due(store) == ([] if connected else ["sweep"])


def test_sweep_time_is_a_setting(clock: FakeClock):
    """The time that an avatar may be alone follows the rules given."""
    store = pro(clock, sweep_after=timedelta(seconds=2))
    with_avatar(store)
    clock.advance(seconds=2)
    assert due(store) == ["sweep"]


def test_session_shows_no_token(store: SessionStore):
    """The session token is in no repr and no record."""
    session = store.create(REQUEST)
    assert session.session_token not in repr(session)
    assert session.session_token not in str(store.record(session)) + str(store.describe(session))


def test_ids_are_unique_and_sort_by_time(clock: FakeClock):
    """Session ids have the documented form, differ, and sort by the time of their creation."""
    store = pro(clock)
    ids = []
    for _ in range(5):
        ids.append(store.create(REQUEST).session_id)
        clock.advance(milliseconds=1)
    assert all(len(i) == len("sess_") + 26 and i.startswith("sess_") for i in ids)
    assert ids == sorted(set(ids))


def test_bill_is_of_the_period_that_the_session_ended_in(clock: FakeClock):
    """A session whose limit lay in the last period is billed there, although the clock was moved to the next one."""
    plan = replace(PLANS["free"], included_minutes=60, max_session_duration=timedelta(minutes=30))
    store = SessionStore(Rules(plan), clock)
    for _ in range(2):
        session = store.create(REQUEST)
        clock.advance(minutes=20)
        store.end(session, "caller")
    session = store.create(REQUEST)
    clock.advance(days=40)
    store.end(session, "expiry")
    assert session.billing == {
        "minutes_consumed": 30,
        "minutes_source": "mixed",
        "billing_status": "billed",
        "minutes_billed": 10,
    }
    assert store.minutes()["included_minutes"]["remaining"] == 60


@pytest.mark.parametrize("by", ["caller", "gateway_closed", "room_empty"])
def test_no_session_outlives_its_limit(by: str, store: SessionStore, clock: FakeClock):
    """Whoever ends it between its limit and the service's next look, it expired, and costs no minute more."""
    session = store.create(REQUEST)
    clock.advance(hours=4, milliseconds=200)
    assert store.end(session, by)
    assert (session.ended_by, session.ended_at) == ("expiry", session.expiration)
    assert session.billing["minutes_consumed"] == 240


@pytest.mark.parametrize(("left", "by", "minutes"), [(False, "sweep", 3), (True, "room_empty", 1)])
def test_no_avatar_is_alone_beyond_its_time(
    left: bool, by: str, minutes: int, store: SessionStore, clock: FakeClock
):
    """However far the clock is moved, a session that was alone ended when its time was over, and is billed up to then."""
    session = with_avatar(store)
    for count in (1, 0) if left else ():
        store.note(session, {"event": "participants", "count": count})
    clock.advance(hours=1)
    assert due(store) == [by]
    store.end(session, by)
    assert session.billing["minutes_consumed"] == minutes
    assert session.timeline[-1] == {
        "at": session.ended_at.isoformat(timespec="milliseconds"),
        "event": "ended",
        "by": by,
    }
