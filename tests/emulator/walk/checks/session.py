"""The session's schema, today's."""

from datetime import UTC, datetime, timedelta

import httpx

from agenthuman_plugins.client import Session
from tests.contract.bodies import load as documented
from tests.emulator.fakes import OWN_ROOM
from tests.emulator.walk import models
from tests.emulator.walk.walk import Walk, check, client_of, create_body, shape


@check()
async def schema(walk: Walk):
    session = await walk.create()
    started, example = await walk.session(session), documented("session-schema-created-own-room")
    del example["session_token"]  # in the answer to a create alone
    assert shape(started) == shape(example | {"duration": 0})
    await walk.end(session)
    ended = await walk.session(session)
    assert shape(ended) == shape(documented("session-schema-ended-own-room"))
    for each in (session, started, ended):
        models.Session.model_validate(each)


@check()
async def status_words(walk: Walk):
    session = await walk.create()
    assert (await walk.session(session))["status"] == "started"
    await walk.end(session)
    assert (await walk.session(session))["status"] == "ended"


@check()
async def created_is_waited_for():
    states = [
        {"success": True, "session": {"session_id": "sess_1", "status": status}}
        for status in ("created", "created", "started")
    ]
    answers = [httpx.Response(404), httpx.Response(404), *(httpx.Response(200, json=each) for each in states)]
    async with client_of(*answers) as (client, asked):
        session = await client.sessions.start("sess_1")
    assert len(asked) == len(answers)
    assert session.status == "started"


@check()
async def started_at(walk: Walk):
    assert (await walk.session(await walk.create()))["started_at"] == "2024-01-15T10:30:00Z"


@check()
async def ended_at(walk: Walk):
    session = await walk.create()
    assert (await walk.session(session))["ended_at"] is None
    walk.clock.advance(minutes=5)
    await walk.end(session)
    assert (await walk.session(session))["ended_at"] == "2024-01-15T10:35:00Z"


@check()
async def ends_at_its_expiration(walk: Walk):
    session = await walk.create()
    walk.clock.now = datetime.fromisoformat(session["expiration"]) - timedelta(seconds=1)
    walk.service.tick()
    assert (await walk.session(session))["status"] == "started"
    walk.clock.advance(seconds=1)
    walk.service.tick()
    assert (await walk.session(session))["status"] == "ended"


@check(expiry=False)
async def without_expiration(walk: Walk):
    assert (await walk.create())["expiration"] is None


@check()
async def aspect_ratio(walk: Walk):
    assert (await walk.session(await walk.create(aspect_ratio="1:1")))["aspect_ratio"] == "1:1"


@check()
async def duration_while_it_runs(walk: Walk):
    session = await walk.create()
    for seconds in (7, 12):
        walk.clock.now = datetime(2024, 1, 15, 10, 30, seconds, tzinfo=UTC)
        assert (await walk.session(session))["duration"] == seconds


@check()
async def duration_when_ended(walk: Walk):
    session = await walk.ended(seconds=330)
    walk.clock.advance(hours=1)
    assert (await walk.session(session))["duration"] == 330


@check()
def duration_may_be_null():
    for status in ("started", "ended"):
        assert Session(session_id="sess_1", status=status, duration=None).duration is None
        assert Session(session_id="sess_1", status=status, duration=7).duration == 7


@check()
async def metadata(walk: Walk):
    assert (await walk.session(await walk.create()))["metadata"] == {}


@check()
async def billing_of_ended_sessions(walk: Walk):
    session = await walk.create()
    assert "billing" not in await walk.session(session)
    await walk.end(session)
    assert "billing" in await walk.session(session)


@check()
async def billing(walk: Walk):
    example = documented("session-schema-ended-own-room")["billing"]
    assert set((await walk.ended(minutes=45))["billing"]) == set(example)


@check(minutes=30, purchased_minutes=100)
async def mixed_minutes(walk: Walk):
    example = documented("session-schema-ended-own-room")
    session = await walk.ended(minutes=45)
    assert (session["duration"], session["billing"]) == (example["duration"], example["billing"])


@check(minutes=10, purchased_minutes=100)
async def words_of_billing(walk: Walk):
    plan, purchased = [(await walk.ended(minutes=10))["billing"] for _ in range(2)]
    assert (plan["minutes_source"], plan["minutes_billed"]) == ("plan", 0)
    assert (purchased["minutes_source"], purchased["minutes_billed"]) == ("purchased", 10)


@check(plan="free")
async def slot_is_freed(walk: Walk):
    session = await walk.create()
    await walk.end(session)
    assert walk.service.job(walk.service.store.get(session["session_id"])) is None
    answer = await walk.ok("POST", "/v1/sessions", create_body(room=OWN_ROOM))
    assert answer["usage"]["concurrency"]["current"] == 1


@check()
def unknown_words():
    assert not Session(session_id="sess_1", status="active").has_ended
    assert Session(session_id="sess_1", status="completed").has_ended
    assert not Session(session_id="sess_1", status="new").has_ended


@check()
def unknown_fields():
    assert Session.model_validate({"session_id": "sess_1", "mood": "good"}).model_extra == {"mood": "good"}
