"""Every documented body parses into a model that holds all it said."""

import json
from typing import Any

import pytest

from agenthuman_plugins.client import APIStatusError, DailyRoom, Session, SessionRoom
from agenthuman_plugins.client._answers import Answer, understand
from agenthuman_plugins.client._calls import sessions as session_calls
from tests.contract.bodies import (
    BODIES,
    EMPTY,
    ERRORS,
    FOLDER,
    OTHERS,
    Body,
    as_dumped,
    dumped,
    load,
    read,
)


def test_every_body_is_read_by_something() -> None:
    """A body that no test reads judges nobody."""
    claimed = [*(body.name for body in BODIES), *EMPTY, *ERRORS, *OTHERS]
    assert sorted(claimed) == sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)
def test_body_round_trips(body: Body) -> None:
    """The model holds every documented key and value, under the documented names; times are aware."""
    documented = load(body.name)
    assert dumped(body.read(documented)) == as_dumped(body.told(documented))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)
def test_model_reads_its_own_dump(body: Body) -> None:
    """What is kept as JSON can be read back; only the secrets are masked in it."""
    value = body.read(load(body.name))
    for each in value if isinstance(value, list) else [value]:
        kept = type(each).model_validate_json(each.model_dump_json(by_alias=True))
        assert kept.model_dump(mode="json") == each.model_dump(mode="json")


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)
def test_documented_fields_are_typed(body: Body) -> None:
    """Only `message` is left to the unknown fields: every other documented one has a name and a type."""

    def unknown(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(unknown, value))
        if not hasattr(value, "model_extra"):
            return set()
        return set(value.model_extra).union(*(unknown(item) for _, item in value))

    # The face of an avatar is early data; no page of today has it.
    assert unknown(body.read(load(body.name))) <= {"message", "face_id", "face_name"}


@pytest.mark.parametrize("name", sorted(EMPTY))
def test_body_that_says_nothing_more_is_success(name: str) -> None:
    """A delete has no value."""
    assert read(EMPTY[name], load(name)) is None


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_error_body_gives_its_message(name: str, status: int) -> None:
    """Each documented error is told in its own words, at whatever status it comes."""
    body = load(name)
    with pytest.raises(APIStatusError) as caught:
        understand(Answer(status, {}, json.dumps(body).encode()), lambda value: value, ())
    told = body["error"] if isinstance(body["error"], str) else body["error"]["message"]
    assert str(caught.value).startswith(told)
    assert caught.value.body == body


@pytest.mark.parametrize(
    "body", [each for each in BODIES if "schema" in each.name and "session" in each.name]
)
def test_session_schema_is_the_same_alone_in_a_get_and_in_a_list(body: Body) -> None:
    """A session is one model, wherever it stands."""
    bare = load(body.name)
    alone = Session.model_validate(bare)
    assert read(session_calls.get_session("sess_1"), {"success": True, "session": bare}) == alone
    assert read(session_calls.list_sessions(), {"success": True, "sessions": [bare]}) == [alone]


def test_room_of_a_session_without_an_id_can_still_be_read() -> None:
    """The one endpoint that we leave out answers with a room of the form that we know."""
    room = SessionRoom.model_validate(load("openclaw-initiated")["room"])
    assert room.url == "wss://your-livekit-host.livekit.cloud"
    assert room.token is not None


def test_create_sends_none_of_the_early_names() -> None:
    """What early pages sent is not sent any more."""
    early = load("session-create-request-early")
    call = session_calls.create_session(
        avatar=early["avatar_id"],
        room=DailyRoom(early["room"]["url"], early["room"]["token"]),
        aspect_ratio="4:3",
        metadata=None,
    )
    assert call.json is not None
    assert set(call.json) == {"avatar", "aspect_ratio", "room", "metadata"}
    assert set(call.json["room"]) == {"platform", "url", "token"}
