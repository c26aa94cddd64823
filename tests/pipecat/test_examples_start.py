"""How the bots start: what they need is said at once, and `--local` serves a page that needs nobody else."""

import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pipecat.runner import run
from playwright.async_api import async_playwright

with warnings.catch_warnings():
    # Pipecat's TTS module defines classes that it has deprecated itself, and warns of its own definitions.
    warnings.simplefilter("ignore", DeprecationWarning)
    from agenthuman_plugins.demo.local import serve_page

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDED = {
    "pipecat_smallwebrtc.py": ["OPENAI_API_KEY", "AGENTHUMAN_API_KEY"],
    "pipecat_daily.py": ["OPENAI_API_KEY", "AGENTHUMAN_API_KEY", "DAILY_API_KEY"],
    "pipecat_langgraph.py": ["OPENAI_API_KEY", "AGENTHUMAN_API_KEY"],
    "pipecat_realtime.py": ["OPENAI_API_KEY", "AGENTHUMAN_API_KEY"],
    "pipecat_livekit.py": [
        *("OPENAI_API_KEY", "AGENTHUMAN_API_KEY"),
        *("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"),
    ],
    "deployment/bot.py": ["OPENAI_API_KEY", "AGENTHUMAN_API_KEY", "ROOM_URL"],
}
WITHOUT_KEYS = ", or run with --local, which needs no key"

Start = Callable[..., None]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs an example with these variables; a server that it would start fails the test."""

    def begin(*_: object) -> None:
        pytest.fail("the server was started")

    def start(example: str, *arguments: str, **environment: str) -> None:
        for name in {name for names in NEEDED.values() for name in names}:
            monkeypatch.setenv(name, environment.get(name, ""))
        monkeypatch.setattr(run, "main", begin)
        monkeypatch.setattr(sys, "argv", [example, *arguments])
        runpy.run_path(str(EXAMPLES / example), run_name="__main__")

    return start


@pytest.mark.parametrize("example", NEEDED)
def test_a_missing_key_is_named_at_the_start(example: str, start: Start) -> None:
    """Without its keys, a bot ends at once with one sentence that names every variable, and the way without keys."""
    with pytest.raises(SystemExit) as ended:
        start(example)
    other_way = "" if example.startswith("deployment") else WITHOUT_KEYS
    assert ended.value.code == f"Set {' and '.join(NEEDED[example])}{other_way}."


def test_only_what_is_missing_is_named(start: Start) -> None:
    """A key that is set is not asked for."""
    with pytest.raises(SystemExit, match=r"^Set AGENTHUMAN_API_KEY, or"):
        start("pipecat_smallwebrtc.py", OPENAI_API_KEY="key")


def test_every_bot_is_in_the_table() -> None:
    """No example of a bot is left out of these tests."""
    assert {path.name for path in EXAMPLES.glob("pipecat_*.py")} == {*NEEDED} - {"deployment/bot.py"}


@pytest.mark.parametrize(
    "example", [name for name in NEEDED if name.startswith("pipecat") and "livekit" not in name]
)
def test_local_needs_no_key_and_brings_its_page(
    example: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --local, no key is asked for, and the page is served before the runner adds its own."""
    app = FastAPI()
    monkeypatch.setattr(run, "app", app)
    with pytest.raises(pytest.fail.Exception, match="the server was started"):
        start(example, "--local")
    assert "/client" in {getattr(route, "path", None) for route in app.routes}


async def test_our_page_goes_before_the_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner's address leads to our page and its files, which a browser lets load nothing from elsewhere."""
    app = FastAPI()
    monkeypatch.setattr(run, "app", app)
    serve_page()
    app.mount("/client", FastAPI())  # as the runner does afterwards
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", follow_redirects=True
    ) as http:
        page = await http.get("/")
        assert page.url.path == "/client/"
        assert "Talk to the avatar" in page.text
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert (await http.get("/client/main.js")).status_code == 200
        assert (await http.get("/client/viewer/call.js")).status_code == 200


@pytest.mark.chain
async def test_page_from_another_machine_can_send_text(chromium: str) -> None:
    """Under plain http and another name than localhost a browser lacks some functions; sending text needs none of them."""
    page_files = Path(sys.modules[serve_page.__module__].__file__ or "").parent / "page"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.route("**/*.js", lambda route: route.fulfill(path=page_files / "server.js"))
        await page.route("**/client/", lambda route: route.fulfill(body="", content_type="text/html"))
        await page.goto("http://bot.example/client/")
        write = "(await import('./server.js')).server.write({ type: 'text', text: 'Hello' })"
        sent = await page.evaluate(f"async () => [{write}, {write}]")
        assert not await page.evaluate("isSecureContext")
        await browser.close()
    assert [message["data"]["content"] for message in sent] == ["Hello", "Hello"]
    assert sent[0]["id"] != sent[1]["id"]
