"""The emulator's window in a headless Chromium, as a new user uses it."""

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page

from agenthuman_plugins import AgentHumanError
from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator
from tests.demo.test_browser import HEARD, WITNESS, browsing
from tests.emulator.pictures import portrait

pytestmark = pytest.mark.chain

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_S = 60.0  # hang limit
VIEWS = ("sessions", "avatars", "faults")
DROP = """async ([selector, picture]) => {
  const bytes = Uint8Array.from(atob(picture), (char) => char.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "face.png", { type: "image/png" }));
  document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""
# Notes whose rows are touched.
TOUCHED = """() => {
  window.touched = new Set();
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      const row = target.nodeType === Node.TEXT_NODE ? target.parentElement.closest("tr") : target.closest("tr");
      touched.add(row?.querySelector("a").title ?? "the list");
    }
  }).observe(document.querySelector("#list tbody"), { childList: true, subtree: true, characterData: true, attributes: true });
}"""


@asynccontextmanager
async def showing(
    chromium: str, **options: object
) -> AsyncIterator[tuple[Emulator, AsyncAgentHuman, Page, list[str]]]:
    """An emulator, a client of it, its window, and what the page complained about or asked of others."""
    async with Emulator(**{"plan": "growth", "media": False, **options}) as emulator:  # type: ignore[arg-type]
        await emulator.wait_ready()
        async with (
            AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url, max_retries=0) as client,
            browsing(chromium, emulator.window_url) as (page, complaints),
        ):
            await page.wait_for_selector("#link[data-state=live]")
            yield emulator, client, page, complaints


@pytest.mark.media
async def test_a_new_user_sees_what_the_emulator_does(a_room_server: str, chromium: str) -> None:
    """From the empty page over a session that speaks, a fault and an expiry to a reset."""
    async with showing(chromium, media=True, room_server=a_room_server) as (
        emulator,
        client,
        page,
        complaints,
    ):
        await page.wait_for_selector("#no-sessions >> text=sessions.create")

        # A session appears by itself, with its face.
        async with client.sessions.open() as session:
            await page.wait_for_selector(f"#session-id >> text={session.session_id}")
            await page.wait_for_selector("#veil.lifted", state="attached")
        await page.wait_for_selector("#status >> text=Ended")

        # The example of the LangChain tutorial is the next; it speaks, and is seen and heard.
        example = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / "langchain_agent.py"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "AGENTHUMAN_API_KEY": emulator.api_key, "AGENTHUMAN_BASE_URL": emulator.url},
        )
        await page.wait_for_selector("#veil.lifted", state="attached")
        await page.evaluate(WITNESS)
        await page.wait_for_selector("#status >> text=Speaking")
        await page.evaluate(HEARD, {"loud": True, "ms": 0, "since": 0})
        await page.wait_for_selector("#chart rect.speech", state="attached")
        async with asyncio.timeout(LIMIT_S):
            output, _ = await example.communicate()
        assert b"tool: Spoken: " in output
        assert (await page.evaluate("witness"))["pictures"] > 0
        await page.wait_for_selector("#list tr[aria-current] >> text=by the program")
        await page.wait_for_selector("#events >> text=Finished speaking after")
        counts = [event.get("count") for event in emulator.sessions()[0]["timeline"]]
        assert max(filter(None, counts)) == 1, "the avatar noticed the window"

        # A fault is prepared, and used up by the next create.
        await page.click("nav >> text=Faults")
        await page.select_option("#request-faults select[name=target]", label="the next create")
        await page.click("#request-faults button:text-is('Error')")
        await page.wait_for_selector("#pending >> text=POST /v1/sessions, 1 time")
        with pytest.raises(AgentHumanError, match="Injected fault"):
            await client.sessions.create()
        await page.wait_for_selector("#none-waiting:visible")

        # A session comes to its limit hours before its time.
        await page.click("nav >> text=Sessions")
        session = await client.sessions.create()
        await page.wait_for_selector(f"#session-id >> text={session.session_id}")
        await page.click("#expire:enabled")
        await page.wait_for_selector("#list tr[aria-current] >> text=time limit")
        await page.wait_for_selector("#veil-text >> text=time limit of the plan")

        # A reset asks first.
        await page.click("#reset")
        await page.click("dialog >> text=Cancel")
        assert len(emulator.sessions()) == 3
        await page.click("#reset")
        await page.wait_for_selector("#reset-text >> text=3 sessions")
        await page.click("dialog button.danger")
        await page.wait_for_selector("#no-sessions:visible")
        assert emulator.sessions() == []
        assert [each for each in complaints if "409" not in each] == []


@pytest.mark.media
async def test_a_fault_reaches_the_avatar_that_is_watched(chromium: str) -> None:
    """A crash hits the session that is chosen, at once, and shows in its timeline."""
    async with showing(chromium, media=True, room_server="embedded", sweep=False) as (_, client, page, __):
        session = await client.sessions.create()
        await page.wait_for_selector("#events >> text=The avatar is ready")
        await page.click("nav >> text=Faults")
        await page.select_option("#avatar-faults select", label=f"running now: {session.session_id}")
        await page.click("#avatar-faults button:text-is('Crash')")
        await page.wait_for_selector("#avatar-faults button:text-is('Set')")
        await page.wait_for_selector("#avatar-faults button:text-is('Crash')")
        await page.click("nav >> text=Sessions")
        await page.wait_for_selector("#events >> text=Fault: avatar_crash")
        await page.wait_for_selector("#chart path.bad", state="attached")
        await page.wait_for_selector("#list >> text=Avatar gone")


async def test_a_picture_is_dropped(chromium: str) -> None:
    """It becomes an avatar by drop, anywhere in the view, and by choice of a file; what makes no avatar says why."""
    async with showing(chromium) as (emulator, _, page, complaints):
        await page.click("nav >> text=Avatars")
        await page.evaluate(DROP, ["#drop", base64.b64encode(portrait()).decode()])
        await page.wait_for_selector("#cards >> text=Yours")
        await page.set_input_files(
            "#picture", {"name": "face.png", "mimeType": "image/png", "buffer": portrait()}
        )
        await page.wait_for_selector("#count-avatars:text-is('5')")
        await page.set_input_files(
            "#picture", {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
        )
        await page.wait_for_selector("#notice:visible >> text=x.png: ")
        assert (await page.inner_text("#notice")).endswith("webp image.")
        await page.click("nav >> text=Faults")
        await page.wait_for_selector("#notice", state="hidden")
        await page.click("nav >> text=Avatars")
        await page.evaluate(DROP, ["#cards", base64.b64encode(portrait()).decode()])
        await page.wait_for_selector("#count-avatars:text-is('6')")
        assert sum(avatar["own"] for avatar in emulator.export()["avatars"]) == 3
        assert [each for each in complaints if "400" not in each] == []


async def test_the_keyboard_is_enough(chromium: str) -> None:
    """Tab reaches every control in its order, arrows go through the sessions, Escape leaves the reset."""
    async with showing(chromium) as (emulator, client, page, complaints):
        first = await client.sessions.create()
        second = await client.sessions.create()
        await page.wait_for_selector(f"#session-id >> text={second.session_id}")
        reached = []
        for _ in range(40):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate("document.activeElement.id || document.activeElement.textContent")
            )
            if reached[-1] == second.session_id:
                break
        assert reached[3:10] == ["export", "reset", "pause", "+1 min", "+10 min", "+1 h", "expire"], reached
        await page.keyboard.press("ArrowDown")
        await page.wait_for_selector(f"#session-id >> text={first.session_id}")
        assert page.url.endswith(f"#sessions/{first.session_id}")
        await page.focus("#pause")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#pause >> text=Resume")
        assert emulator.clock.paused
        await page.focus("#reset")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Escape")
        assert len(emulator.sessions()) == 2
        assert complaints == []


@pytest.mark.parametrize("width", [360, 861, 1280])
async def test_nothing_is_wider_than_the_screen(width: int, chromium: str) -> None:
    """Every view and a session with a long timeline fit; on a phone a session opens alone, and Back leads to the list."""
    async with showing(chromium) as (emulator, client, page, _):
        await page.set_viewport_size({"width": width, "height": 700})
        session = await client.sessions.create(metadata={"note": "wide" * 100})
        record = emulator._service.store.get(session.session_id)
        for name in ("ready", "utterance_started", "utterance_finished") * 20:
            emulator._service.store.note(record, {"event": name, "position_s": 1.0})
            emulator.clock.advance(seconds=4)
        emulator.fail("status", path="/v1/" + "long" * 50)
        await page.wait_for_selector("#count-faults:text-is('1')")
        for view in (*VIEWS, f"sessions/{session.session_id}"):
            await page.evaluate("view => { location.hash = view; }", view)
            await page.wait_for_selector(f"#{view.partition('/')[0]}:visible")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        await page.wait_for_selector("#events >> text=Starts speaking")
        assert await page.is_visible("#list") == (width > 860)
        if width <= 860:
            await page.click("#back")
            await page.wait_for_selector("#list:visible")


async def test_a_phone_shows_the_list_or_a_session(chromium: str) -> None:
    """A reset leads from an open session to the list, and a page that becomes narrow shows no session below the list."""
    async with showing(chromium) as (emulator, client, page, _):
        session = await client.sessions.create()
        await page.wait_for_selector("#detail:visible")
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.wait_for_selector("#detail", state="hidden")
        await page.click(f"#list a[title={session.session_id}]")
        await page.wait_for_selector("#list", state="hidden")
        emulator.reset()
        await page.wait_for_selector("#no-sessions:visible")


@pytest.mark.parametrize(
    ("event", "reason"),
    [({"event": "exit", "code": 70}, "swept: failed"), ({"event": "ready"}, "swept: alone")],
)
async def test_a_swept_session_says_why(event: dict[str, object], reason: str, chromium: str) -> None:
    """The avatar failed, or nobody joined."""
    async with showing(chromium) as (emulator, client, page, _):
        session = await client.sessions.create()
        record = emulator._service.store.get(session.session_id)
        emulator._service.store.note(record, event)
        emulator.clock.advance(minutes=3)
        await page.wait_for_selector(f"#list >> text={reason}")
        await page.wait_for_selector(f"#events >> text=Ended, {reason}")


async def test_the_page_follows_the_system(chromium: str) -> None:
    """Dark or light as the system is, and without motion where it asks for none."""
    async with showing(chromium) as (_, client, page, __):
        await client.sessions.create()
        await page.wait_for_selector("#list tbody tr")
        pages = []
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            pages.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert await page.evaluate("document.getAnimations().length") == 0
        assert pages[0] != pages[1]


async def test_only_changed_rows_are_drawn(chromium: str) -> None:
    """With ten sessions, an event of one of them touches no other row, and leaves the list as it is."""
    async with showing(chromium, slots=10) as (emulator, client, page, complaints):
        sessions = [await client.sessions.create() for _ in range(10)]
        await page.wait_for_selector("#count-sessions:text-is('10')")
        emulator.clock.pause()
        await page.wait_for_selector("#pause >> text=Resume")
        await page.evaluate("new Promise(requestAnimationFrame)")
        await page.evaluate(TOUCHED)
        record = emulator._service.store.get(sessions[3].session_id)
        emulator._service.store.note(record, {"event": "avatar_failed", "message": "no room"})
        await page.wait_for_selector("#list >> text=Avatar failed")
        assert await page.evaluate("[...touched]") == [sessions[3].session_id]
        assert complaints == []


async def test_the_page_comes_back_with_the_emulator(chromium: str) -> None:
    """While it is away the page says so; afterwards it shows the new one's state by itself."""
    async with Emulator(media=False) as first:
        port = int(first.url.rpartition(":")[2])
        async with browsing(chromium, first.window_url) as (page, _):
            async with httpx.AsyncClient(base_url=first.url, headers={"x-api-key": first.api_key}) as http:
                await http.post("/v1/sessions", json={"avatar": "avat_1", "room": {"platform": "proxy"}})
            await page.wait_for_selector("#list tbody tr")
            await first.__aexit__(None, None, None)
            await page.wait_for_selector("#link >> text=Not connected")
            await page.wait_for_selector("#notice:visible >> text=The emulator does not answer")
            async with Emulator(media=False, port=port):
                await page.wait_for_selector("#link[data-state=live]")
                await page.wait_for_selector("#notice", state="hidden")
                await page.wait_for_selector("#no-sessions:visible")


async def test_texts_of_others_are_shown_as_they_are(chromium: str) -> None:
    """Metadata and faults are text, whatever they look like; what would turn or hide the rest is spelt out."""
    markup = "<img src=x onerror=alert(1)>"
    async with showing(chromium) as (emulator, client, page, complaints):
        await client.sessions.create(metadata={"note": f"{markup}\u202eeno", "client_ref": "lc-1"})
        await page.wait_for_selector("#session-facts >> text=note")
        facts = await page.inner_text("#session-facts")
        assert f"{markup}\\u202eeno" in facts
        emulator.fail("status", path=f"/v1/{markup}\u202eeno")
        await page.wait_for_selector("#pending li", state="attached")
        assert f"{markup}\\u202eeno" in str(await page.text_content("#pending"))
        assert complaints == []
