"""Documented bodies, both generations, and answers that no page documents."""

import contextlib
import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agenthuman_plugins.client import AgentHumanError, Session
from agenthuman_plugins.client._answers import Answer, understand
from agenthuman_plugins.client._calls import sessions as session_calls

CONTRACT = Path(__file__).parent.parent / "contract"
# Ours, from the fields that the vendor's own Pipecat service reads; not on the public pages.
PROXY = {
    "success": True,
    "session": {
        "session_id": "sess_1",
        "status": "started",
        "session_token": "seeded-session-token",
        "started_at": "2024-01-15T10:30:00Z",
        "duration": None,
        "room": {"roomURL": "wss://rooms.example.com", "participantToken": "seeded-participant-token"},
    },
}


def contract(name: str) -> Any:
    return json.loads((CONTRACT / f"{name}.json").read_text())


def parse(body: Any, call: Any = None) -> Any:
    call = call or session_calls.create_session(avatar=None, room=None, aspect_ratio="4:3", metadata=None)
    return understand(Answer(200, {}, json.dumps(body).encode()), call.parse, ())


def test_both_generations_give_one_token() -> None:
    """`session_token` and the older `access_token` are one field, and secret."""
    new, old = parse(contract("session-created-own-room")), parse(contract("session-created-managed"))
    assert new.session_token.get_secret_value() == "session_token_xxxxxxxxxxxxx"
    assert old.session_token.get_secret_value() == "access_token_xxxxxxxxxxxxx"


def test_create_reply_carries_usage() -> None:
    """The usage beside the session is on the session, where the caller has it."""
    usage = parse(contract("session-created-own-room")).usage
    assert (usage.concurrency.available, usage.minutes.total_remaining) == (0, 120)


def test_ended_session_tells_its_bill() -> None:
    """Times are aware, the duration is in seconds, and the bill is there."""
    session = Session.model_validate(contract("session-schema-ended-own-room"))
    assert session.has_ended
    assert session.ended_at == datetime(2024, 1, 15, 11, 15, tzinfo=UTC)
    assert session.duration == 2_700
    assert session.billing is not None
    assert session.billing.minutes_billed == 15


def test_room_that_the_service_made() -> None:
    """`roomURL` and `participantToken` become `room.url` and a secret `room.token`, and are dumped as they came."""
    room = parse(PROXY).room
    assert room.model_dump(mode="json", by_alias=True, exclude_unset=True) == {
        "roomURL": "wss://rooms.example.com",
        "participantToken": "**********",
    }
    assert (room.url, room.token.get_secret_value()) == (
        "wss://rooms.example.com",
        "seeded-participant-token",
    )


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ("created", False),
        ("started", False),
        ("active", False),
        ("ended", True),
        ("completed", True),
        ("new", False),
    ],
)
def test_any_status_parses(status: str, ended: bool) -> None:
    """Old and unknown states parse as they are; only known ends count as one."""
    session = Session(session_id="sess_1", status=status)
    assert (session.status, session.has_ended) == (status, ended)


def test_value_that_does_not_fit_is_none() -> None:
    """A known field of another type does not cost us the session."""
    session = Session.model_validate(
        {"session_id": "sess_1", "expiration": "tomorrow", "duration": {}, "room": "here", "billing": [1]}
    )
    assert (session.expiration, session.duration, session.room, session.billing) == (None, None, None, None)


def test_time_without_zone_is_utc() -> None:
    """Documented times are UTC; one without a zone is too."""
    session = Session.model_validate({"session_id": "sess_1", "started_at": "2024-01-15T10:30:00.000"})
    assert session.started_at == datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


def test_unknown_fields_are_kept() -> None:
    """What we do not know stays readable, also deeper down."""
    session = Session.model_validate({"session_id": "sess_1", "mood": "good", "billing": {"currency": "EUR"}})
    assert session.model_extra == {"mood": "good"}
    assert session.billing is not None
    assert session.billing.model_extra == {"currency": "EUR"}


def test_secrets_are_not_in_repr_or_dump() -> None:
    """No token is in what gets printed or serialised."""
    session = parse(PROXY)
    for text in (repr(session), str(session), session.model_dump_json(), str(session.model_dump())):
        assert "seeded" not in text


@pytest.mark.parametrize(
    "unknown",
    [
        {"gateway_token": "seeded-1"},
        {"access_token": "seeded-2"},  # beside `session_token`, so neither of the two is the other
        {"gateway": {"clientSecret": "seeded-3"}},
        {"gateway_uri": "wss://gateway.example.com/?key=seeded-4"},
        {"room": {"roomURL": "wss://rooms.example.com/?access_token=seeded-5", "agentToken": "seeded-6"}},
    ],
)
def test_secrets_in_unknown_fields_are_not_in_repr(unknown: dict[str, Any]) -> None:
    """What the service adds one day is kept, but not printed if it looks like a secret."""
    session = parse({"session": PROXY["session"] | unknown})
    assert "seeded" not in f"{session!r} {session}"
    assert "seeded" in str(session.model_extra | (session.room.model_extra if session.room else {}))


def test_repr_shows_what_the_answer_told() -> None:
    """Fields that the answer left out do not crowd the others."""
    session = Session.model_validate({"session_id": "sess_1", "ended_at": None, "mood": "good"})
    assert repr(session) == "Session(session_id='sess_1', ended_at=None, mood='good')"


def test_session_pickles() -> None:
    """A session survives pickling, its token included."""
    session = parse(PROXY)
    copy = pickle.loads(pickle.dumps(session))
    assert copy == session
    assert isinstance(copy.session_token, SecretStr)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from([*Session.model_fields, "access_token", "unknown"])


@given(
    session=st.dictionaries(_FIELDS, _JSON, max_size=8),
    rest=st.dictionaries(st.text(max_size=8), _JSON, max_size=3),
)
def test_any_answer_gives_a_session_or_our_error(session: dict[str, Any], rest: dict[str, Any]) -> None:
    """Whatever JSON comes, with fields added, missing or of other types: a Session or one of our errors."""
    for body in ({**rest, "session": session}, session, rest, [session]):
        with contextlib.suppress(AgentHumanError):
            assert isinstance(parse(body), Session)
