"""`POST /v1/sessions/{session_id}/end`."""

import httpx

from tests.contract.bodies import load as documented
from tests.emulator.walk.walk import Walk, check, client_of


@check()
async def reply(walk: Walk):
    session = await walk.create()
    walk.clock.advance(minutes=5)
    answer, example = await walk.end(session), documented("session-end-own-room")
    example["session"]["session_id"] = session["session_id"]
    assert answer == example


@check(plan="pro")
async def no_body(walk: Walk):
    for body in (None, {}):
        session = await walk.create()
        assert (await walk.ok("POST", f"/v1/sessions/{session['session_id']}/end", body))["success"] is True


@check()
async def ends_the_session(walk: Walk):
    session = await walk.create()
    await walk.end(session)
    assert (await walk.session(session))["status"] == "ended"
    assert walk.record()["ended_by"] == "caller"


@check()
async def again(walk: Walk):
    session = await walk.create()
    first = await walk.end(session)
    before = await walk.session(session)
    walk.clock.advance(hours=1)
    assert await walk.end(session) == first
    assert await walk.session(session) == before


@check()
async def unknown_id(walk: Walk):
    for method in ("POST", "PUT"):
        assert await walk.refused(method, "/v1/sessions/sess_none/end") == (404, "Session not found")


@check()
async def as_before(walk: Walk):
    answer = await walk.end(await walk.create(), "PUT")
    assert answer["message"] == documented("session-end-managed")["message"]


@check()
async def other_form():
    answers = httpx.Response(405), httpx.Response(200, json=documented("session-end-managed"))
    async with client_of(*answers) as (client, asked):
        assert (await client.sessions.end("sess_1")).has_ended
    assert [request.method for request in asked] == ["POST", "PUT"]


@check()
async def end_is_asked_for(walk: Walk):
    async with walk.client.sessions.open(avatar="avat_1"):
        assert walk.record()["status"] == "started"
    assert (walk.record()["status"], walk.record()["ended_by"]) == ("ended", "caller")
