"""`GET /v1/sessions/{session_id}`."""

from tests.contract.bodies import load as documented
from tests.emulator.walk import models
from tests.emulator.walk.walk import Walk, check


@check()
async def reply(walk: Walk):
    session = await walk.create()
    answer = await walk.ok("GET", f"/v1/sessions/{session['session_id']}")
    assert set(answer) == {"success", "session"}
    assert (answer["success"], answer["session"]["session_id"]) == (True, session["session_id"])


@check()
async def unknown_id(walk: Walk):
    reply = await walk.http.get("/v1/sessions/sess_none")
    assert (reply.status_code, reply.json()) == (404, documented("error-not-found-404"))


@check()
async def no_token(walk: Walk):
    assert "session_token" not in await walk.session(await walk.create())


@check()
async def newest_schema(walk: Walk):
    models.Session.model_validate(await walk.session(await walk.create()))
