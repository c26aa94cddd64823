"""`POST /v1/avatars/preview`."""

from typing import Any
from urllib.parse import urlsplit

from tests.contract.bodies import load as documented
from tests.emulator.walk.checks.links import opens_page_that_starts
from tests.emulator.walk.walk import Walk, check, shape

_PUBLIC = "PUBLIC/Avatars/sara-office"


async def _previewed(walk: Walk, avatar_id: str = "avat_1") -> dict[str, Any]:
    url = (await walk.ok("POST", "/v1/avatars/preview", {"avatar_id": avatar_id}))["url"]
    return {"link_id": url.rpartition("/")[2], "url": url}


@check()
async def avatar_is_required(walk: Walk):
    for body in ({}, {"avatar_id": ""}):
        assert await walk.refused("POST", "/v1/avatars/preview", body) == (400, "Avatar ID is required")


@check(plan="pro")
async def own_avatar(walk: Walk):
    assert await _previewed(walk, (await walk.upload())["avatar_id"])


@check()
async def public_avatar(walk: Walk):
    assert await _previewed(walk, _PUBLIC)


@check()
async def reply(walk: Walk):
    answer = await walk.ok("POST", "/v1/avatars/preview", {"avatar_id": "avat_1"})
    assert shape(answer) == shape(documented("avatar-preview"))


@check(plan="pro")
async def single_use(walk: Walk):
    link = await _previewed(walk)
    await walk.start_by_link(link)
    body = {"link_id": link["link_id"]}
    assert (await walk.refused("POST", "/v1/links/start-session", body))[0] >= 400


@check(plan="pro")
async def five_minutes(walk: Walk):
    early, late = await _previewed(walk), await _previewed(walk)
    walk.clock.advance(minutes=5, seconds=-1)
    await walk.start_by_link(early)
    walk.clock.advance(seconds=1)
    assert (await walk.refused("POST", "/v1/links/start-session", {"link_id": late["link_id"]}))[0] >= 400


@check()
async def temporary_agent(walk: Walk):
    await _previewed(walk)
    assert (await walk.ok("GET", "/v1/agents"))["agents"] == []
    assert (await walk.ok("GET", "/v1/links"))["links"] == []


@check(plan="pro")
async def shows_the_avatar(walk: Walk):
    for avatar_id in (_PUBLIC, (await walk.upload())["avatar_id"]):
        await walk.start_by_link(await _previewed(walk, avatar_id))
        assert walk.record()["avatar"] == avatar_id


@check(served=True)
async def opens_a_session(walk: Walk):
    assert await opens_page_that_starts(walk, (await _previewed(walk))["url"])


@check()
async def address(walk: Walk):
    assert urlsplit((await _previewed(walk))["url"]).netloc == walk.http.base_url.netloc.decode()
