"""The voice agent's example in a headless Chromium, as a user types, sees, hears and interrupts."""

import asyncio
import os
import re
import signal
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from agenthuman_plugins.emulator.rooms import media_interface
from agenthuman_plugins.emulator.voice import SAMPLE_RATE, Voice
from tests.demo.test_browser import FLAGS, HEARD, WITNESS

EXAMPLE = Path(__file__).parents[3] / "examples" / "langchain_voice_agent.py"
LIMIT_S = 60.0  # hang limits
WAIT_MS = 30_000
STORY = "They have been jumping together ever since."

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(
        media_interface() is None,
        reason="no network interface besides loopback, which browsers leave out for video",
    ),
]


@asynccontextmanager
async def running() -> AsyncIterator[str]:
    """The example, without any key; gives its page's address."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AGENTHUMAN_", "OPENAI_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), "--port", "0"),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            line = (await process.stdout.readline()).decode()
            while (found := re.search(r"at (http://127\.0\.0\.1:\d+)", line)) is None:
                line = (await process.stdout.readline()).decode()
                assert line, "the example ended without an address"
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(LIMIT_S):
            _, complaints = await process.communicate()
    assert process.returncode == 0
    assert b"could not be ended" not in complaints
    assert b"Traceback" not in complaints, complaints.decode()


@asynccontextmanager
async def browsing(chromium: str, url: str, *flags: str) -> AsyncIterator[tuple[Page, list[str]]]:
    """A page at `url`, and what it asked of others or complained about."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *flags])
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: request.url.startswith(url) or complaints.append(request.url))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            await page.goto(url)
            yield page, complaints
        finally:
            await browser.close()


async def ask(page: Page, words: str) -> None:
    await page.fill("#text", words)
    await page.keyboard.press("Enter")


async def test_talk_and_barge_in(chromium: str) -> None:
    """Face and voice answer a typed sentence; interrupted while the model still writes, it remembers what was heard."""
    async with running() as url, browsing(chromium, url) as (page, complaints):
        await page.wait_for_selector("#veil.lifted", state="attached")
        await page.evaluate(WITNESS)
        await page.wait_for_selector("#log .bot.speaking >> text=Hello")
        await ask(page, "Tell me a story")
        await page.wait_for_selector("#log .bot.speaking >> text=Once upon")
        begun = await page.evaluate("performance.now()")
        await page.evaluate(HEARD, {"loud": True, "ms": 0, "since": begun})
        assert (await page.evaluate("witness"))["changes"] > 10, "the face does not move"

        # The story is written for five seconds and spoken for twenty: the model is still at it.
        pressed = await page.evaluate("performance.now()")
        await ask(page, "What did you just say?")
        await page.wait_for_selector("#log .bot.cut >> text=Once upon")
        silent = await page.evaluate(HEARD, {"loud": False, "ms": 400, "since": pressed})
        assert silent - pressed < 2_000
        cut = await page.inner_text("#log .bot.cut >> text=Once upon")
        assert STORY not in cut
        answer = page.locator("#log .bot:last-child:not(.speaking):not(.cut)", has_text="The last thing")
        await answer.wait_for()
        heard = cut.removesuffix(" — interrupted").strip()
        assert (await answer.inner_text()) == f"The last thing that you heard from me was: {heard}"
        assert not complaints


async def test_interrupt_button_and_microphone(chromium: str, tmp_path: Path) -> None:
    """Escape interrupts, and so does a voice in the microphone; without a key the page says what it cannot do."""
    with wave.open(str(tmp_path / "user.wav"), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(Voice().synthesize("Excuse me, I would like to say something, too."))
    user = f"--use-file-for-fake-audio-capture={tmp_path / 'user.wav'}"
    async with running() as url, browsing(chromium, url, user) as (page, complaints):
        await page.wait_for_selector("#log .bot.speaking >> text=Hello")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#log .bot.cut")
        await ask(page, "Tell me a story")
        await page.wait_for_selector("#log .bot.speaking >> text=Once")
        await page.click("#mic")
        await page.wait_for_selector("#log .note >> text=OPENAI_API_KEY")
        await page.locator("#log .bot.cut").nth(1).wait_for()
        assert not complaints
