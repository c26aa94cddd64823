"""`POST /v1/links/start-session`."""

from typing import Any

import httpx

from tests.contract.bodies import load as documented
from tests.emulator.walk.walk import Walk, check, client_of, shape

_PATH = "/v1/links/start-session"


@check()
async def needs_no_key(walk: Walk):
    body = {"link_id": (await walk.link())["link_id"]}
    assert await walk.ok("POST", _PATH, body, headers={"x-api-key": ""})


@check()
async def key_is_not_sent():
    async with client_of(httpx.Response(200, json=documented("link-session-started"))) as (client, asked):
        await client.links.start_session("lnk_1")
    assert "x-api-key" not in asked[0].headers


@check()
async def key_may_be_there(walk: Walk):
    assert await walk.start_by_link(await walk.link())


@check()
async def link_is_required(walk: Walk):
    bodies: list[tuple[dict[str, Any], int]] = [
        ({}, 400),
        ({"link_id": ""}, 400),
        ({"link_id": "lnk_none"}, 404),
    ]
    for body, status in bodies:
        assert (await walk.refused("POST", _PATH, body))[0] == status


@check()
async def picture_is_required(walk: Walk):
    agent = await walk.agent(avatar_image_url=None)
    link = (await walk.ok("POST", "/v1/links", {"agent_id": agent["agent_id"]}))["link"]
    assert (await walk.refused("POST", _PATH, {"link_id": link["link_id"]}))[0] == 400
    assert walk.emulator.sessions() == []


@check(plan="pro")
async def default_ratio(walk: Walk):
    link = await walk.link()
    for changes in ({}, {"aspect_ratio": "16:9"}, {"aspect_ratio": None}):
        await walk.start_by_link(link, **changes)
        assert walk.record()["aspect_ratio"] == "4:3"


@check()
async def ratio(walk: Walk):
    await walk.start_by_link(await walk.link(), aspect_ratio="3:4")
    assert walk.record()["aspect_ratio"] == "3:4"


@check()
async def reply(walk: Walk):
    answer = await walk.start_by_link(await walk.link())
    assert shape(answer) == shape(documented("link-session-started"))


@check()
async def identity(walk: Walk):
    assert (await walk.start_by_link(await walk.link()))["agent_identity"] == "agenthuman-avatar-agent"


@check(proxy_rooms=False)
async def makes_the_room(walk: Walk):
    answer = await walk.start_by_link(await walk.link())
    job = walk.service.job(walk.service.store.get(answer["session_id"]))
    assert job is not None
    assert answer["livekit_url"] == job.url
    assert answer["participant_token"] not in ("", job.token)


@check(plan="pro")
async def shows_the_avatar(walk: Walk):
    uploaded = await walk.upload()
    agent = await walk.agent(avatar_image_url=uploaded["image_url"])
    link = (await walk.ok("POST", "/v1/links", {"agent_id": agent["agent_id"]}))["link"]
    await walk.start_by_link(link)
    assert walk.record()["avatar"] == uploaded["avatar_id"]


@check()
async def counts_a_use(walk: Walk):
    link = await walk.link()
    await walk.start_by_link(link)
    assert (await walk.ok("GET", f"/v1/links/{link['link_id']}"))["link"]["uses"] == 1


@check()
async def is_a_session(walk: Walk):
    session = await walk.start_by_link(await walk.link())
    assert (await walk.session(session))["status"] == "started"
    assert (await walk.usage())["concurrency"]["current"] == 1
    await walk.end(session)
    assert (await walk.session(session))["status"] == "ended"
