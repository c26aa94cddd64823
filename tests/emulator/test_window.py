"""The routes of the emulator's window; the page itself is used in `test_window_browser.py`."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agenthuman_plugins.emulator import Emulator
from tests.emulator.pictures import portrait

HTML = {"accept": "text/html,*/*"}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(media=False, plan="explorer") as emulator:
        yield emulator


@pytest.fixture
async def browser(emulator: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the page; it sends no key."""
    async with httpx.AsyncClient(base_url=emulator.url, trust_env=False, timeout=10) as client:
        yield client


async def test_all_that_the_page_needs_comes_from_here(browser: httpx.AsyncClient) -> None:
    """Every file that the page or one of its modules names is served, and nothing else may be loaded."""
    page = await browser.get("/window")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    waiting = re.findall(r'(?:src|href)="([^"#]+)', page.text)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name == "/window/emulator/export":
            continue
        seen.add(name)
        answer = await browser.get(name)
        assert answer.status_code == 200, name
        assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        if name.endswith(".js"):
            base = name.rpartition("/")[0]
            named = re.findall(r'from "([^"]+)"', answer.text)
            waiting += [each.replace("./", f"{base}/", 1) if each.startswith(".") else each for each in named]
    assert {"/window/timeline.js", "/window/window.css", "/viewer/call.js", "/viewer/base.css"} <= seen


async def test_a_browser_at_the_address_of_the_api_is_led_to_the_page(browser: httpx.AsyncClient) -> None:
    """Everybody else finds nothing there, as before."""
    assert (await browser.get("/", headers=HTML)).headers["location"] == "/window"
    assert (await browser.get("/window/")).text == (await browser.get("/window")).text
    assert (await browser.get("/")).status_code == 404
    assert (await browser.post("/", headers=HTML)).status_code == 405


async def test_changes_arrive_by_themselves(browser: httpx.AsyncClient, emulator: Emulator) -> None:
    """The page is sent the state, then each change, as server-sent events."""
    async with browser.stream("GET", "/window/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()

        async def message() -> dict[str, Any]:
            async for line in lines:
                if line:
                    return dict(json.loads(line.removeprefix("data: ")))
            raise AssertionError("The stream has ended.")

        assert (await message())["fresh"] is True
        emulator.fail("delay")
        assert [fault["fault"] for fault in (await message())["faults"]] == ["delay"]


async def test_an_emulator_that_stops_waits_for_no_page() -> None:
    """An open page is let go at once."""
    emulator = await Emulator(media=False).__aenter__()
    async with (
        httpx.AsyncClient(trust_env=False, timeout=10) as browser,
        browser.stream("GET", f"{emulator.url}/window/events") as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        await emulator.__aexit__(None, None, None)
        assert [line async for line in lines if line] == []  # no error: the stream was ended, not cut


async def test_the_page_can_do_what_it_shows(browser: httpx.AsyncClient, emulator: Emulator) -> None:
    """Clock, faults, export and reset, without the key."""
    clock = (await browser.post("/window/emulator/clock", json={"advance_s": 60})).json()["clock"]
    assert clock["offset_s"] == 60
    await browser.post("/window/emulator/faults", json={"fault": "delay"})
    assert [fault["fault"] for fault in (await browser.get("/window/emulator/export")).json()["faults"]] == [
        "delay"
    ]
    refusal = await browser.post("/window/emulator/faults", json={"fault": "nothing"})
    assert (refusal.status_code, refusal.json()["error"]["message"]) == (400, "Unknown fault")
    await browser.post("/window/emulator/reset")
    assert emulator.export()["faults"] == []


async def test_a_picture_becomes_an_avatar(browser: httpx.AsyncClient, emulator: Emulator) -> None:
    """By the checks of upload-face; a file that is no picture is refused with the service's words."""
    made = await browser.post("/window/avatars", content=portrait())
    assert made.status_code == 200, made.text
    assert made.json()["avatar_id"] in [
        avatar["avatar_id"] for avatar in emulator.export()["avatars"] if avatar["own"]
    ]
    refusal = await browser.post("/window/avatars", content=b"no picture")
    assert refusal.status_code == 400
    assert refusal.json()["error"]["message"]


async def test_the_plan_bounds_the_avatars() -> None:
    """On the free plan a picture is refused before it is read."""
    async with Emulator(media=False) as emulator, httpx.AsyncClient(trust_env=False) as browser:
        assert (await browser.post(f"{emulator.url}/window/avatars", content=portrait())).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/window"),
        ("GET", "/window/window.js"),
        ("GET", "/window/events"),
        ("GET", "/window/emulator/export"),
        ("POST", "/window/emulator/reset"),
        ("POST", "/window/avatars"),
        ("GET", "/emulator/health"),
    ],
)
async def test_other_sites_cannot_use_it(method: str, path: str, browser: httpx.AsyncClient) -> None:
    """No key is needed, so only pages from here are answered."""
    assert (
        await browser.request(method, path, headers={"origin": "https://evil.example"})
    ).status_code == 403
    assert (await browser.request(method, path, headers={"host": "evil.example"})).status_code == 400


async def test_the_service_itself_still_needs_its_key(browser: httpx.AsyncClient) -> None:
    """The window opens neither the API nor the control calls; health alone is open."""
    for path in ("/v1/sessions", "/emulator/export", "/emulator/clock", "/emulator/sessions"):
        assert (await browser.get(path)).status_code == 401, path
    assert (await browser.post("/emulator/reset")).status_code == 401
    health = (await browser.get("/emulator/health")).json()
    assert (health["success"], health["status"]) == (True, "ok")


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
async def test_the_address_of_the_page(host: str, address: str) -> None:
    """It can be opened in a browser, also where the emulator listens everywhere."""
    async with Emulator(media=False, host=host) as emulator, httpx.AsyncClient(trust_env=False) as client:
        assert emulator.window_url == f"http://{address}:{emulator.url.rpartition(':')[2]}/window"
        assert "<title>Agent Human emulator" in (await client.get(emulator.window_url)).text
