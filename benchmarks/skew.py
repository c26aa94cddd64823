"""How far the lips are from the voice, over the whole local chain: at the transport, and in a browser.

Text to speech, room server, avatar worker and our service, then a file that notes what comes to the transport when
(`agenthuman demo --record`), or SmallWebRTC and Chromium (`agenthuman demo`) with a script in the page that looks at
the picture and listens to the voice as the page gets them. The first second of each reply stands apart: that is where a
voice is fitted to its picture. The browser needs two idle cores; with less, its own jitter buffers are what is measured.
"""

import asyncio
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
from loguru import logger
from playwright.async_api import Page, async_playwright

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.demo._assistant import reply_to
from agenthuman_plugins.demo._recording import record
from agenthuman_plugins.demo._services import VIDEO_SIZE, running_services
from agenthuman_plugins.emulator.voice import Voice
from benchmarks._lips import Lips, Stretch, compare, in_step, openness
from benchmarks._row import Row
from benchmarks._witness import Witness

_QUESTION = "Tell me a story"
_FIRST_WORDS, _LAST_WORDS = "every morning", "ever since"
_STORIES = 2
_INTERRUPTIONS = 6
_MARGIN_S = 0.8  # around a reply
_LIMIT_MS = 60_000.0
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)


async def measure() -> list[Row]:
    logger.disable("pipecat")
    logger.disable("agenthuman_plugins")
    story, voice = reply_to([{"role": "user", "content": _QUESTION}]), Voice()
    at_once = await asyncio.to_thread(_exactly, voice, [story])
    by_sentence = await asyncio.to_thread(_exactly, voice, re.split(r"(?<=[.!?]) ", story))
    recorded = compare(await _recorded(story), at_once)
    spans, interruptions, fps = [], [], []
    async with _demo() as url, _page() as page:
        witness = Witness(page)
        await witness.prepare()
        await page.goto(url)
        await page.wait_for_selector("#log .bot:not(.speaking)")  # the greeting has been said
        await witness.begin()
        for _ in range(_STORIES):
            began, (shown_at, shown) = await witness.now_s(), await witness.presented()
            await _ask(page)
            await page.wait_for_selector(f"#log li:last-child.bot:not(.speaking) >> text={_LAST_WORDS}")
            spans.append((began, await witness.now_s() + _MARGIN_S))
            now, shown_by_now = await witness.presented()
            fps.append((shown_by_now - shown) / (now - shown_at))
        for _ in range(_INTERRUPTIONS):
            began = await witness.now_s()
            await _ask(page)
            interruptions.append(await witness.interrupt(after_words=_FIRST_WORDS))
            spans.append((began, interruptions[-1].pressed_s))
        lips = await witness.lips()
    replies = [compare(lips.between(began - _MARGIN_S, ended), by_sentence) for began, ended in spans]
    stretches = [stretch for reply in replies for stretch in reply]
    judged = [sum(s.voice_behind_s is not None for s in reply) / len(reply) for reply in replies]
    return [
        Row("voice behind the lips, at the transport", _behind_ms(recorded)),
        Row("voice behind the lips, in the browser", _behind_ms(stretches)),
        Row(
            "distance of voice and lips, in the browser, first second of a reply",
            [abs(ms) for ms in _behind_ms([s for s in stretches if s.is_first])],
        ),
        Row("… after that second", [abs(ms) for ms in _behind_ms([s for s in stretches if not s.is_first])]),
        Row("… stretches of a reply that could be judged", [100 * share for share in judged], "%"),
        Row("interruption to silence, in the browser", [i.silent_ms for i in interruptions]),
        Row("… of which until the pipeline has told the page", [i.told_ms for i in interruptions]),
        Row("… of which in the browser's jitter buffer", [i.buffered_ms for i in interruptions]),
        Row("pictures a second, in the browser", fps, "fps"),
    ]


def _exactly(voice: Voice, parts: list[str]) -> Lips:
    return in_step(b"".join(map(voice.synthesize, parts)), VIDEO_SIZE, DEFAULT_AVATAR)


def _behind_ms(stretches: list[Stretch]) -> list[float]:
    return [1000 * s.voice_behind_s for s in stretches if s.voice_behind_s is not None]


async def _recorded(story: str) -> Lips:
    """The story as it comes to the transport."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "story.mp4"
        async with running_services() as services:
            await record(services, story, path, lambda *_: None)
        return await asyncio.to_thread(_read, path)


def _read(path: Path) -> Lips:
    lips = Lips()
    with av.open(str(path)) as file:
        for picture in file.decode(video=0):
            rgb = picture.to_ndarray(format="rgb24").tobytes()
            lips.seen.append((float(picture.time or 0), openness(rgb, picture.width, picture.height)))
    with av.open(str(path)) as file:
        rate = file.streams.audio[0].rate
        voice = np.concatenate([block.to_ndarray()[0] for block in file.decode(audio=0)])
    piece = rate // 100
    lips.heard = [
        (start / rate, float(np.sqrt(np.mean(voice[start : start + piece] ** 2))))
        for start in range(0, len(voice), piece)
    ]
    return lips


async def _ask(page: Page) -> None:
    await page.fill("#text", _QUESTION)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#log li:last-child.bot.speaking")


@asynccontextmanager
async def _page() -> AsyncIterator[Page]:
    chromium = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))),
        None,
    )
    if chromium is None:
        raise SystemExit("No Chromium on PATH: install it, for example with `apt-get install chromium`.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        try:
            page = await browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(_LIMIT_MS)
            yield page
        finally:
            await browser.close()


@asynccontextmanager
async def _demo() -> AsyncIterator[str]:
    """Run `agenthuman demo` and give its page's address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agenthuman_plugins", "demo", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_LIMIT_MS / 1000):
            address = await _address(process)
        yield address
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    async for line in process.stdout:
        if found := re.search(rb"http://127\.0\.0\.1:\d+", line):
            return found[0].decode()
    raise SystemExit("The demo could not be started.")
