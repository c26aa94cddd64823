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

from agenthuman_plugins.client import AgentHumanError, Session, _calls
from agenthuman_plugins.client._answers import Answer, understand

CONTRACT = Path(__file__).parent.parent / "contract"
SESSION_BODIES = [
    "session-created-own-room",
    "session-created-managed",
    "session-end-own-room",
    "session-end-managed",
    "session-get-managed",
]
BARE_SESSIONS = [
    "session-schema-created-own-room",
    "session-schema-ended-own-room",
    "session-schema-created-managed",
    "session-schema-started-managed",
    "session-schema-ended-managed",
]
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
    call = call or _calls.create_session(avatar=None, room=None, aspect_ratio="4:3", metadata=None)
    return understand(Answer(200, {}, json.dumps(body).encode()), call.parse, ())


def comparable(dumped: Any, documented: Any) -> Any:
    """The dump with secrets and renamed tokens put back as the page has them."""
    if isinstance(documented, dict):
        names = {"access_token": "session_token"}
        return {key: comparable(dumped[names.get(key, key)], value) for key, value in documented.items()}
    return documented if dumped == "**********" else dumped


@pytest.mark.parametrize("name", SESSION_BODIES)
def test_documented_session_body_parses_and_round_trips(name: str) -> None:
    """Every documented reply of the four calls parses into a Session that holds all it said."""
    documented = contract(name)["session"]
    session = parse(contract(name))
    dumped = session.model_dump(mode="json", exclude_unset=True)
    assert comparable(dumped, documented) == documented
    assert session.session_id == documented["session_id"]
    assert session.started_at is None or session.started_at.tzinfo is not None


@pytest.mark.parametrize("name", BARE_SESSIONS)
def test_documented_session_schema_parses(name: str) -> None:
    """Every documented example of the schema pages parses, alone, in a get and in a list."""
    body = contract(name)
    alone = Session.model_validate(body)
    assert parse({"success": True, "session": body}, _calls.get_session("sess_1")) == alone
    assert parse({"success": True, "sessions": [body]}, _calls.list_sessions()) == [alone]
    dumped = alone.model_dump(mode="json", exclude_unset=True)
    assert comparable(dumped, body) == body


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
    """`roomURL` and `participantToken` become `room.url` and a secret `room.token`."""
    room = parse(PROXY).room
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
