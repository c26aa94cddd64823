"""The vendor's own readers of the answers, and the schema pages as strict models."""

from typing import Any

from tests.emulator.fakes import OWN_ROOM
from tests.emulator.walk import models
from tests.emulator.walk.walk import DAILY_ROOM, PROXY_ROOM, Walk, check, create_body


@check()
async def proxied_session(walk: Walk):
    session = await walk.create(room=PROXY_ROOM)
    read = models.VendorSession.model_validate(session)
    assert read.room.roomURL == session["room"]["roomURL"]


@check(plan="pro")
async def room_answers(walk: Walk):
    for room in (OWN_ROOM, DAILY_ROOM):
        answer = await walk.ok("POST", "/v1/sessions", create_body(room=room))
        assert isinstance(answer["session"]["session_id"], str)


@check()
async def end_answer(walk: Walk):
    session = await walk.create(room=PROXY_ROOM)
    reply = await walk.http.post(f"/v1/sessions/{session['session_id']}/end", json={})
    assert reply.is_success


@check()
async def request_without_metadata(walk: Walk):
    body = {"avatar": "avat_01KMZHXFPBVCXA5ATK85HCP8G1", "aspect_ratio": "4:3", "room": {"platform": "proxy"}}
    assert (await walk.ok("POST", "/v1/sessions", body))["session"]["metadata"] == {}


@check(plan="pro")
async def session_schema(walk: Walk):
    for room in (OWN_ROOM, DAILY_ROOM, PROXY_ROOM):
        created = await walk.ok("POST", "/v1/sessions", create_body(room=room))
        made = created["session"].pop("room", None)
        models.Created.model_validate(created)
        if room is PROXY_ROOM:
            models.VendorRoom.model_validate(made)
        ended: Any = (await walk.end(created["session"]))["session"]
        for session in (ended, await walk.session(created["session"])):
            models.Session.model_validate(session)
    for session in (await walk.ok("GET", "/v1/sessions"))["sessions"]:
        models.Session.model_validate(session)


@check(plan="pro")
async def account_schemas(walk: Walk):
    uploaded = await walk.upload()
    del uploaded["success"]
    models.Avatar.model_validate(uploaded)
    listed = await walk.ok("GET", "/v1/avatars")
    for avatar in (*listed["public_avatars"], *listed["my_avatars"]):
        models.Avatar.model_validate(avatar)
    models.Link.model_validate(await walk.link())
    for agent in (await walk.ok("GET", "/v1/agents"))["agents"]:
        models.Agent.model_validate(agent)
    await walk.create()
    models.Usage.model_validate(await walk.usage())


@check(plan="pro")
async def refusals(walk: Walk):
    paths = (await walk.ok("GET", "/openapi.json"))["paths"]
    refused = []
    for path, methods in paths.items():
        for method in methods:
            if path.startswith("/v1/"):
                refused += [
                    await walk.http.request(method, path, json=[]),
                    await walk.http.request(method, path, headers={"x-api-key": "wrong"}),
                ]
    assert len({reply.status_code for reply in refused}) > 2
    for reply in refused:
        if reply.is_error:
            models.Error.model_validate(reply.json())
