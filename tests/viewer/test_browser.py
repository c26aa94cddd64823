"""The emulator's page at `/watch` in a headless Chromium, while a bot speaks through the avatar."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from agenthuman_plugins.client import AsyncAgentHuman, LiveKitRoom, Session
from agenthuman_plugins.client.rooms import ON_BEHALF_OF
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import media_interface
from agenthuman_plugins.emulator.voice import SAMPLE_RATE, Voice
from agenthuman_plugins.speech import AvatarConnected, LiveKitSpeechLink, PlaybackFinished, PlaybackStarted
from tests.demo.test_browser import FLAGS, HEARD, WITNESS, browsing, when

pytestmark = pytest.mark.media

EXAMPLES = Path(__file__).parents[2] / "examples"
WAIT_S = 30.0  # hang limit of every wait
TELL_REFUSALS = """{
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    const played = play.call(this);
    played.catch(({ name }) => console.info(name));
    return played;
  };
}"""
SPEECH = "Once upon a time there was a fox who lived at the edge of a very quiet forest."


@asynccontextmanager
async def emulating(kind: str) -> AsyncIterator[tuple[Emulator, AsyncAgentHuman]]:
    async with Emulator(plan="explorer", room_server=kind) as emulator:
        await emulator.wait_ready()
        async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client:
            yield emulator, client


@asynccontextmanager
async def speaking_in(url: str, token: str) -> AsyncIterator[LiveKitSpeechLink]:
    """The bot's own link."""
    link = LiveKitSpeechLink(url, token, media=False)
    await link.connect(timeout_s=WAIT_S)
    try:
        yield link
    finally:
        await link.aclose()


def bot(session: Session) -> tuple[str, str]:
    """How the bot joins a room that the service made."""
    assert session.room is not None
    assert session.room.url is not None
    assert session.room.token is not None
    return session.room.url, session.room.token.get_secret_value()


async def say(link: LiveKitSpeechLink, pcm: bytes) -> PlaybackFinished:
    """Speak to the end."""
    await link.send(pcm)
    await link.end_utterance()
    async with asyncio.timeout(WAIT_S):
        async for event in link.events():
            if isinstance(event, PlaybackFinished):
                return event
            assert isinstance(event, AvatarConnected | PlaybackStarted), event
    raise AssertionError("The link was lost.")


async def seen(page: Page) -> None:
    await page.wait_for_selector("#veil.lifted", state="attached")


async def test_a_user_watches_and_the_bot_notices_nothing(a_room_server: str, chromium: str) -> None:
    """Two windows see the face move and hear the voice; the speech goes to its end, and nobody else is in the room."""
    pcm = Voice().synthesize(SPEECH)
    async with (
        emulating(a_room_server) as (emulator, client),
        browsing(chromium, emulator.watch_url) as (first, complaints),
        browsing(chromium, emulator.watch_url) as (second, more_complaints),
    ):
        for page in (first, second):
            await page.wait_for_selector("#status >> text=Waiting for a session")
        async with client.sessions.open() as session, speaking_in(*bot(session)) as link:
            for page in (first, second):
                await seen(page)
                await page.evaluate(WITNESS)
            speech = asyncio.create_task(say(link, pcm))
            for page in (first, second):
                await page.wait_for_selector("#status >> text=Speaking")
                await page.evaluate(HEARD, {"loud": True, "ms": 0, "since": 0})
            finished = await speech
            assert not finished.interrupted
            assert finished.position_s == pytest.approx(len(pcm) / 2 / SAMPLE_RATE, abs=0.1)
            for page in (first, second):
                await page.wait_for_selector("#status >> text=Live")
                witness = await page.evaluate("witness")
                assert witness["changes"] > 10, "the face does not move"
                assert sum(level["loud"] for level in witness["levels"]) > 50
            [record] = emulator.sessions()
            counts = [event["count"] for event in record["timeline"] if event["event"] == "participants"]
            assert max(counts) == 1, "the avatar noticed a viewer"
        for page in (first, second):
            await page.wait_for_selector("#status >> text=Ended")
            await page.wait_for_selector("#veil-text >> text=Ended: the program ended it.")
        assert complaints == more_complaints == []


async def test_the_page_goes_on_to_the_next_session(a_room_server: str, chromium: str) -> None:
    """The page of the newest session shows one after the other, that of one session stays with it."""
    async with (
        emulating(a_room_server) as (emulator, client),
        browsing(chromium, emulator.watch_url) as (newest, complaints),
        client.sessions.open() as first,
        browsing(chromium, f"{emulator.watch_url}/{first.session_id}") as (own, own_complaints),
    ):
        for page in (newest, own):
            await page.wait_for_selector(f"#session-id >> text={first.session_id}")
            await seen(page)
        async with client.sessions.open() as second:
            await newest.wait_for_selector(f"#session-id >> text={second.session_id}")
            await newest.wait_for_selector("#status >> text=Live")
            await seen(newest)
            assert await own.inner_text("#session-id") == first.session_id
            assert await own.inner_text("#status") == "Live"
        assert own_complaints == complaints == []


async def test_a_room_of_the_applications_own(a_room_server: str, chromium: str) -> None:
    """A room on the emulator's room server can be watched, too, whatever the avatar is called in it."""
    async with emulating(a_room_server) as (emulator, client):
        assert emulator._rooms is not None
        server = await emulator._rooms.ready()
        token = server.mint(room="lobby", identity="face", kind="agent", attributes={ON_BEHALF_OF: "bot"})
        agent_token = server.mint(room="lobby", identity="bot", kind="agent")
        room = LiveKitRoom(server.url, avatar_token=token, agent_token=agent_token)
        async with (
            client.sessions.open(room=room) as session,
            browsing(chromium, f"{emulator.watch_url}/{session.session_id}") as (page, complaints),
        ):
            await seen(page)
            assert complaints == []


async def test_sound_waits_for_the_user_where_the_browser_wants_it(a_room_server: str, chromium: str) -> None:
    """A button asks for it, any key is enough, and M mutes."""
    flags = [flag for flag in FLAGS if "autoplay" not in flag]
    async with (
        emulating(a_room_server) as (emulator, client),
        client.sessions.open() as session,
        speaking_in(*bot(session)),
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=[*flags, "--autoplay-policy=document-user-activation-required"]
        )
        page = await browser.new_page()
        await page.add_init_script(TELL_REFUSALS)
        # Whatever Playwright evaluates counts as a user's gesture, hence nothing before the refusal.
        async with page.expect_console_message(lambda message: message.text == "NotAllowedError"):
            await page.goto(emulator.watch_url)
        await page.wait_for_selector("#sound:visible")
        await seen(page)
        await page.keyboard.press("Tab")
        await page.wait_for_selector("#sound", state="hidden")
        assert not await page.evaluate("document.getElementById('voice').paused")
        await page.keyboard.press("m")
        await page.wait_for_selector("#mute[aria-pressed=true]")
        assert await page.evaluate("document.getElementById('voice').muted")
        await browser.close()


async def test_an_example_is_watched_from_its_first_word(chromium: str) -> None:
    """A new user opens the address that the example prints, presses Enter, and sees and hears the avatar."""
    if media_interface() is None:
        pytest.skip("no network interface besides loopback, which browsers and LiveKit do not use")
    keyboard, terminal = os.openpty()
    example = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "langchain_agent.py"),
        stdin=terminal,
        stdout=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("AGENTHUMAN_")},
    )
    os.close(terminal)
    assert example.stdout is not None
    with os.fdopen(keyboard, "wb", buffering=0) as keys:
        async with asyncio.timeout(WAIT_S):
            address = (await example.stdout.readline()).decode().removeprefix("Watch and listen: ").strip()
            assert b"press Enter" in await example.stdout.readline()
        async with browsing(chromium, address) as (page, complaints):
            await page.wait_for_selector("#status >> text=Waiting for a session")
            keys.write(b"\n")
            await seen(page)
            await page.evaluate(WITNESS)
            await page.wait_for_selector("#status >> text=Speaking")
            await page.evaluate(HEARD, {"loud": True, "ms": 0, "since": 0})
            await page.evaluate(when("witness.pictures > 0"))
            async with asyncio.timeout(WAIT_S):
                output, _ = await example.communicate()
            assert b"tool: Spoken: " in output
            assert [complaint for complaint in complaints if "ERR_CONNECTION_REFUSED" not in complaint] == []


async def test_a_page_that_was_closed_is_gone_at_once(a_room_server: str, chromium: str) -> None:
    """The viewer leaves the room with the last browser, long before a silent one would be taken as gone."""
    async with (
        emulating(a_room_server) as (emulator, client),
        client.sessions.open() as session,
        speaking_in(*bot(session)),
    ):
        before = {task.get_name() for task in asyncio.all_tasks()}
        async with browsing(chromium, emulator.watch_url) as (page, _):
            await seen(page)
            await page.goto("about:blank")
            async with asyncio.timeout(5):
                while watching() - before:  # noqa: ASYNC110 - the viewer tells nobody
                    await asyncio.sleep(0.05)


def watching() -> set[str]:
    """What a viewer has running."""
    names = {"a browser", "watched room", "join as a viewer", "leave as a viewer", "the avatar's video"}
    names |= {"the avatar's audio", "jitter buffer"}
    return names & {task.get_name() for task in asyncio.all_tasks()}
