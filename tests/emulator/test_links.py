"""The states of a link, and the page that it opens."""

from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator
from tests.demo.test_browser import browsing
from tests.emulator.conftest import FakeClock
from tests.emulator.fakes import World
from tests.emulator.walk.walk import AGENT

_LATER, _PAST = "2024-02-15T10:30:00Z", "2024-01-14T10:30:00Z"


@pytest.fixture
def rules() -> dict[str, Any]:
    return {"plan": "pro"}


async def answer(world: World, method: str, path: str, **body: Any) -> Any:
    reply = await world.http.request(method, path, json=body or None)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def linked(world: World, **limits: Any) -> dict[str, Any]:
    agent = (await answer(world, "POST", "/v1/agents", **AGENT))["agent"]
    return (await answer(world, "POST", "/v1/links", agent_id=agent["agent_id"], **limits))["link"]


# What the owner changes, then the status that is shown, and whether the link starts a session.
_CHANGES = [
    ({}, "active"),
    ({"status": "paused"}, "paused"),
    ({"status": "expired"}, "expired"),
    ({"expires_at": _LATER}, "active"),
    ({"expires_at": _PAST}, "expired"),
    ({"expires_at": _PAST, "status": "paused"}, "expired"),
]


@pytest.mark.parametrize(("change", "status"), _CHANGES)
async def test_states(change: dict[str, Any], status: str, world: World):
    """A link is what its owner set, and expired once its date has passed; only an active one starts a session."""
    link = await linked(world)
    path = f"/v1/links/{link['link_id']}"
    changed = (await answer(world, "PUT", path, **change))["link"] if change else link
    assert changed["status"] == status
    for asked in ("active", "paused", "expired"):
        listed = (await answer(world, "GET", f"/v1/links?status={asked}"))["links"]
        assert [each["link_id"] for each in listed] == ([link["link_id"]] if asked == status else [])
    started = await world.http.post("/v1/links/start-session", json={"link_id": link["link_id"]})
    assert started.status_code == (200 if status == "active" else 403)


async def test_expired_link_can_be_activated_again(world: World):
    """Setting `expired` leaves the date alone, so that setting `active` undoes it."""
    link = await linked(world, expires_at=_LATER)
    path = f"/v1/links/{link['link_id']}"
    expired = (await answer(world, "PUT", path, status="expired"))["link"]
    assert (expired["status"], expired["expires_at"]) == ("expired", _LATER)
    assert (await answer(world, "PUT", path, status="active"))["link"] == link


async def test_link_expires_by_date_and_by_uses(world: World, clock: FakeClock):
    """The last use, and the moment of its date, expire a link; more uses or a later date bring it back."""
    link = await linked(world, use_limit=1, expires_at=_LATER)
    path = f"/v1/links/{link['link_id']}"
    await answer(world, "POST", "/v1/links/start-session", link_id=link["link_id"])
    assert (await answer(world, "GET", path))["link"]["status"] == "expired"
    assert (await answer(world, "PUT", path, use_limit=2))["link"]["status"] == "active"
    clock.advance(days=31)
    assert (await answer(world, "GET", path))["link"]["status"] == "expired"
    assert (await answer(world, "PUT", path, expires_at=None))["link"]["status"] == "active"


async def test_link_opens_a_page():
    """The address of a preview is a page, without a key; looking at it uses nothing up."""
    async with (
        Emulator(media=False) as emulator,
        httpx.AsyncClient(base_url=emulator.url, trust_env=False) as http,
    ):
        preview = await http.post(
            "/v1/avatars/preview", json={"avatar_id": "avat_1"}, headers={"x-api-key": emulator.api_key}
        )
        for _ in range(2):
            page = await http.get(preview.json()["url"])
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        script = await http.get("/viewer/link.js")
        assert "/v1/links/start-session" in script.text
        assert (await http.get(page.url, headers={"host": "elsewhere.example"})).status_code == 400
        assert emulator.sessions() == []


@pytest.mark.media
async def test_page_of_a_link_shows_its_avatar(chromium: str):
    """Opening a preview starts its session, once, and shows the face; opening it again says why there is none."""
    async with (
        Emulator(plan="pro", room_server="embedded") as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        url = (await client.avatars.preview("PUBLIC/Avatars/sara-office")).url
        async with browsing(chromium, url) as (page, complaints):
            await page.wait_for_selector("#veil.lifted", state="attached")
            [session] = emulator.sessions()
            assert page.url == f"{emulator.watch_url}/{session['session_id']}"
            assert session["avatar"] == "PUBLIC/Avatars/sara-office"
            assert complaints == []
            await page.goto(url)
            await page.wait_for_selector("#veil-text >> text=Link is expired.")
            assert len(emulator.sessions()) == 1
            await page.goto(f"{emulator.url}/s/%E0%A4%A")  # cut off within a character
            await page.wait_for_selector("#veil-text >> text=Link not found.")
