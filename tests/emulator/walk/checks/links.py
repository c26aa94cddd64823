"""`/v1/links`."""

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from tests.contract.bodies import load as documented
from tests.emulator.pictures import portrait
from tests.emulator.walk import models
from tests.emulator.walk.walk import Walk, check, shape, web_with

_LIMITS = {"use_limit": 100, "expires_at": "2024-02-15T10:30:00Z"}


def _path(link: dict[str, Any]) -> str:
    return f"/v1/links/{link['link_id']}"


async def _get(walk: Walk, link: dict[str, Any]) -> dict[str, Any]:
    return (await walk.ok("GET", _path(link)))["link"]


async def _update(walk: Walk, link: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return (await walk.ok("PUT", _path(link), changes))["link"]


async def _starts_nothing(walk: Walk, link: dict[str, Any]) -> bool:
    before = len(walk.emulator.sessions())
    await walk.refused("POST", "/v1/links/start-session", {"link_id": link["link_id"]})
    return len(walk.emulator.sessions()) == before


async def _listed(walk: Walk, **params: str) -> list[str]:
    return [link["link_id"] for link in (await walk.ok("GET", "/v1/links", params=params))["links"]]


@check()
async def create_reply(walk: Walk):
    body = {"agent_id": (await walk.agent())["agent_id"], **_LIMITS}
    assert shape(await walk.ok("POST", "/v1/links", body)) == shape(documented("link-created"))


@check()
async def schema(walk: Walk):
    for limits in ({}, _LIMITS):
        models.Link.model_validate(await walk.link(**limits))


@check()
async def id(walk: Walk):  # noqa: A001 - the name of its fact
    assert (await walk.link())["link_id"].startswith("lnk_")


@check()
async def agent_is_required(walk: Walk):
    assert (await walk.refused("POST", "/v1/links", {}))[0] == 400


@check()
async def agent_is_the_callers(walk: Walk):
    assert (await walk.refused("POST", "/v1/links", {"agent_id": "agnt_none"}))[0] == 404


@check()
async def default_name(walk: Walk):
    assert "2024" in (await walk.link())["name"]


@check()
async def expires_never(walk: Walk):
    link = await walk.link()
    walk.clock.advance(days=10_000)
    assert (link["expires_at"], (await _get(walk, link))["status"]) == (None, "active")


@check(plan="pro")
async def without_limit(walk: Walk):
    link = await walk.link()
    for _ in range(3):
        await walk.start_by_link(link)
    assert (link["use_limit"], (await _get(walk, link))["status"]) == (None, "active")


@check()
async def use_limit_is_positive(walk: Walk):
    agent_id = (await walk.agent())["agent_id"]
    for use_limit in (0, -1, 1.5, "7"):
        body = {"agent_id": agent_id, "use_limit": use_limit}
        assert (await walk.refused("POST", "/v1/links", body))[0] == 400


@check()
async def expires_at(walk: Walk):
    assert (await walk.link(**_LIMITS))["expires_at"] == _LIMITS["expires_at"]
    body = {"agent_id": (await walk.agent())["agent_id"], "expires_at": "tomorrow"}
    assert (await walk.refused("POST", "/v1/links", body))[0] == 400


@check()
async def url(walk: Walk):
    link = await walk.link()
    assert link["url"].endswith(f"/s/{link['link_id']}")


@check()
async def address(walk: Walk):
    assert urlsplit((await walk.link())["url"]).netloc == walk.http.base_url.netloc.decode()


@check()
async def starts_active(walk: Walk):
    link = await walk.link()
    assert (link["status"], link["uses"]) == ("active", 0)


@check()
async def paused(walk: Walk):
    link = await walk.link()
    assert (await _update(walk, link, status="paused"))["status"] == "paused"
    assert await _starts_nothing(walk, link)
    assert (await _update(walk, link, status="active"))["status"] == "active"
    assert await walk.start_by_link(link)


@check()
async def expired_by_date(walk: Walk):
    link = await walk.link(expires_at="2024-01-15T10:31:00Z")
    walk.clock.advance(seconds=60)
    assert (await _get(walk, link))["status"] == "expired"
    assert await _starts_nothing(walk, link)


@check(plan="pro")
async def expired_by_uses(walk: Walk):
    link = await walk.link(use_limit=1)
    await walk.start_by_link(link)
    assert (await _get(walk, link))["status"] == "expired"
    assert await _starts_nothing(walk, link)


@check()
async def get_reply(walk: Walk):
    link = await walk.link()
    assert await walk.ok("GET", _path(link)) == {"success": True, "link": link}


@check()
async def list_reply(walk: Walk):
    await walk.link(**_LIMITS)
    assert shape(await walk.ok("GET", "/v1/links")) == shape(documented("link-list"))


@check()
async def list_by_status(walk: Walk):
    links = {
        "active": await walk.link(),
        "paused": await walk.link(),
        "expired": await walk.link(expires_at="2024-01-15T10:30:00Z"),
    }
    await _update(walk, links["paused"], status="paused")
    for status, link in links.items():
        assert await _listed(walk, status=status) == [link["link_id"]]


@check()
async def list_all(walk: Walk):
    links = [(await walk.link())["link_id"] for _ in range(2)]
    assert set(await _listed(walk)) == set(await _listed(walk, status="all")) == set(links)


@check()
async def order(walk: Walk):
    links = [(await walk.link())["link_id"] for _ in range(3)]
    assert await _listed(walk) == links[::-1]


@check()
async def update_reply(walk: Walk):
    link = await walk.link(**_LIMITS)
    changes = {"name": "Updated Name", "status": "paused", "expires_at": None}
    assert shape(await walk.ok("PUT", _path(link), changes)) == shape(documented("link-updated"))


@check()
async def update_keeps(walk: Walk):
    link = await walk.link(**_LIMITS)
    assert await _update(walk, link, name="New") == link | {"name": "New"}


@check()
async def name_is_cleared(walk: Walk):
    assert not (await _update(walk, await walk.link(name="Demo"), name=None))["name"]


@check()
async def name_when_cleared(walk: Walk):
    assert (await _update(walk, await walk.link(name="Demo"), name=None))["name"] is None


@check()
async def expiry_is_removed(walk: Walk):
    assert (await _update(walk, await walk.link(**_LIMITS), expires_at=None))["expires_at"] is None


@check()
async def limit_is_removed(walk: Walk):
    assert (await _update(walk, await walk.link(**_LIMITS), use_limit=None))["use_limit"] is None


@check(plan="pro")
async def limit_is_above_uses(walk: Walk):
    link = await walk.link()
    for _ in range(2):
        await walk.start_by_link(link)
    for use_limit in (0, 1, 2):
        assert (await walk.refused("PUT", _path(link), {"use_limit": use_limit}))[0] == 400
    assert (await _update(walk, link, use_limit=3))["use_limit"] == 3


@check()
async def delete_reply(walk: Walk):
    assert await walk.ok("DELETE", _path(await walk.link())) == documented("link-deleted")


@check()
async def permanent(walk: Walk):
    link = await walk.link()
    await walk.ok("DELETE", _path(link))
    assert (await walk.refused("GET", _path(link)))[0] == 404
    assert await _starts_nothing(walk, link)


@check()
async def voice_of_the_agent(walk: Walk):
    session = await walk.start_by_link(await walk.link())
    walk.happens(session, "ready", pid=1)
    walk.clock.advance(minutes=3)
    assert walk.record()["ended_by"] == "sweep"


@check()
async def pictures_of_other_sites(walk: Walk):
    link = await walk.link()
    with web_with(portrait()) as asked:
        await walk.start_by_link(link)
    assert asked == []
    assert walk.record()["avatar"]


@check(served=True)
async def opens_a_page(walk: Walk):
    assert await opens_page_that_starts(walk, (await walk.link())["url"])
    assert walk.emulator.sessions() == []


async def opens_page_that_starts(walk: Walk, url: str) -> bool:
    """Whether an address is a page that can be opened without a key, and whose script starts a session."""
    page = await walk.http.get(url, headers={"x-api-key": ""})
    assert page.headers["content-type"].startswith("text/html")
    scripts = [await walk.http.get(urljoin(url, src)) for src in re.findall(r'src="([^"]+)"', page.text)]
    return any("/v1/links/start-session" in script.text for script in scripts)
