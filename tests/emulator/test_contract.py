"""The emulator's bodies against the documented ones: the same keys, values of the same types."""

import json
from pathlib import Path
from typing import Any

from agenthuman_plugins.emulator._errors import LIMIT_ERRORS, TooManyRequestsError, no_minutes
from tests.emulator.conftest import FakeClock
from tests.emulator.fakes import OWN_ROOM, World

_CONTRACT = Path(__file__).parents[1] / "contract"
_FREE_FORM = {"metadata"}  # the caller's own


def documented(name: str) -> Any:
    return json.loads((_CONTRACT / f"{name}.json").read_text())


def shape(value: Any) -> Any:
    """Return keys and types instead of values; numbers are one type, as in JSON."""
    if isinstance(value, dict):
        return {key: "object" if key in _FREE_FORM else shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


async def test_create(world: World):
    """The create reply for an own room, on the free plan of the example."""
    reply = (await world.http.post("/v1/sessions", json={"avatar": "avat_1", "room": OWN_ROOM})).json()
    example = documented("session-created-own-room")
    assert shape(reply) == shape(example)
    assert reply["usage"] == example["usage"]
    assert reply["message"] == example["message"]
    for moment in ("started_at", "expiration"):
        assert reply["session"][moment] == example["session"][moment]


async def test_create_with_proxy(world: World):
    """The create reply of the undocumented platform has the session's whole schema, and the room.

    Its `duration` is 0, since the vendor's own service reads a number there.
    """
    reply = (
        await world.http.post("/v1/sessions", json={"avatar": "avat_1", "room": {"platform": "proxy"}})
    ).json()
    room = reply["session"].pop("room")
    assert shape(reply["session"]) == shape(documented("session-schema-created-own-room") | {"duration": 0})
    assert shape(room) == {"roomURL": "str", "participantToken": "str"}


async def test_started_session(world: World):
    """A started session is the schema page's, without its token and with a running duration."""
    session_id = (await world.create())["session_id"]
    session = (await world.http.get(f"/v1/sessions/{session_id}")).json()["session"]
    example = documented("session-schema-created-own-room")
    del example["session_token"]
    assert shape(session) == shape(example | {"duration": 0})
    assert (await world.http.get("/v1/sessions")).json() == {"success": True, "sessions": [session]}


async def test_ended_session(world: World, clock: FakeClock):
    """An ended session is the schema page's, with its bill."""
    session_id = (await world.create())["session_id"]
    clock.advance(minutes=45)
    await world.http.post(f"/v1/sessions/{session_id}/end")
    session = (await world.http.get(f"/v1/sessions/{session_id}")).json()["session"]
    example = documented("session-schema-ended-own-room")
    assert shape(session) == shape(example)
    assert session["duration"] == example["duration"]
    assert session["billing"]["minutes_consumed"] == example["billing"]["minutes_consumed"]


async def test_end(world: World, clock: FakeClock):
    """The end reply, in its newest form."""
    session_id = (await world.create())["session_id"]
    clock.advance(minutes=5)
    reply = (await world.http.post(f"/v1/sessions/{session_id}/end")).json()
    example = documented("session-end-own-room")
    assert reply == example | {"session": example["session"] | {"session_id": session_id}}


async def test_errors(world: World):
    """The errors of these calls are the documented ones, word for word."""
    unkeyed = await world.http.get("/v1/sessions", headers={"x-api-key": ""})
    assert unkeyed.json() == documented("error-auth-401")
    assert (await world.http.get("/v1/sessions/none")).json() == documented("error-not-found-404")
    foreign = await world.http.post("/v1/sessions", json={"avatar": "avat_exclusive", "room": OWN_ROOM})
    assert foreign.json() == documented("error-access-denied-403")
    nameless = (await world.http.post("/v1/sessions", json={"room": OWN_ROOM})).json()
    example = documented("error-bad-request-400")
    assert shape(nameless) == shape(example)
    assert nameless["error"]["message"] == example["error"]["message"]
    assert no_minutes(LIMIT_ERRORS["minutes"], {}).body == documented("error-insufficient-minutes")
    assert TooManyRequestsError({}).body == documented("error-rate-limit-429")
