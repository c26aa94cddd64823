"""How far the lips are from the voice, over the whole local chain: at the transport, and in a browser.

Text to speech, room server, avatar worker and our service, then a file that notes what comes to the transport when
(`agenthuman demo --record`), or SmallWebRTC and Chromium (`agenthuman demo`) with a script in the page that looks at
the picture and listens to the voice as the page gets them. The browser needs two idle cores; with less, its own
jitter buffers are what is measured.
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
from statistics import median
from typing import Any

import av
import numpy as np
from loguru import logger
from playwright.async_api import Page, async_playwright

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.demo._assistant import reply_to
from agenthuman_plugins.demo._recording import record
from agenthuman_plugins.demo._services import VIDEO_SIZE, running_services
from agenthuman_plugins.emulator.voice import Voice
from benchmarks._lips import Lips, in_step, openness
from benchmarks._row import Row

_QUESTION = "Tell me a story"
_INTERRUPTIONS = 6
_LIMIT_MS = 60_000.0
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)
# The counting of pixels is the one of `_lips.openness`.
_WITNESS = """async () => {
  const context = new AudioContext({ latencyHint: 0 });
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(document.getElementById("voice").srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize = 512);
  const face = document.getElementById("face");
  const [w, h] = [face.videoWidth, face.videoHeight];
  const area = [w * 2 / 5, h / 2, w / 5, h * 3 / 10].map(Math.round);
  const [across, down] = [area[2] / 2, area[3] / 2].map(Math.round); // half size: the browser has more to do
  const canvas = new OffscreenCanvas(across, down).getContext("2d", { willReadFrequently: true });
  window.seen = [];
  window.heard = [];
  const look = (now, { expectedDisplayTime }) => {
    canvas.drawImage(face, ...area, 0, 0, across, down);
    const pixels = canvas.getImageData(0, 0, across, down).data;
    let inside = 0;
    for (let i = 0; i < pixels.length; i += 4) {
      const [red, green, blue] = [pixels[i], pixels[i + 1], pixels[i + 2]];
      if (red < 95 && red - green > 22 && blue > green + 4) inside += 1;
    }
    window.seen.push([expectedDisplayTime, inside]);
    face.requestVideoFrameCallback(look);
  };
  face.requestVideoFrameCallback(look);
  setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    let energy = 0;
    for (const sample of samples) energy += sample * sample;
    const level = Math.sqrt(energy / samples.length);
    window.heard.push([performance.now(), level]);
  }, 10);
}"""
_NOTE_CLICK = """() => document.getElementById("interrupt").addEventListener(
  "click", () => { window.pressed = performance.now(); }, { capture: true, once: true })"""
# Resolves when there was no voice for 500 ms, with the moment at which that began.
_SILENT = """(since) => new Promise((resolve) => {
  const timer = setInterval(() => {
    const heard = window.heard.filter(([at]) => at >= since);
    const last = heard.findLastIndex(([, level]) => level > 0.01) + 1;
    if (heard.length && last < heard.length && heard.at(-1)[0] - heard[last][0] >= 500) {
      clearInterval(timer);
      resolve(heard[last][0]);
    }
  }, 10);
})"""


async def measure() -> list[Row]:
    logger.disable("pipecat")
    logger.disable("agenthuman_plugins")
    story = reply_to([{"role": "user", "content": _QUESTION}])
    pcm = await asyncio.to_thread(Voice().synthesize, story)
    exact = median((await asyncio.to_thread(in_step, pcm, VIDEO_SIZE, DEFAULT_AVATAR)).voice_behind_s())
    recorded = [1000 * (lag - exact) for lag in (await _recorded(story)).voice_behind_s()]
    async with _demo() as url, _page(url) as page:
        await page.wait_for_selector("#log .bot:not(.speaking)")  # the greeting has been said
        await page.evaluate(_WITNESS)
        await _ask(page)
        await page.wait_for_selector("#log li.bot:not(.speaking) >> text=ever since")
        await page.wait_for_selector("#interrupt:disabled")
        lips = Lips(
            *(await page.evaluate("[window.seen, window.heard].map((l) => l.map(([t, v]) => [t / 1000, v]))"))
        )
        silences = [await _interrupt(page) for _ in range(_INTERRUPTIONS)]
    lags = [1000 * (lag - exact) for lag in lips.voice_behind_s()]
    fps = len(lips.seen) / (lips.seen[-1][0] - lips.seen[0][0])
    return [
        Row("voice behind the lips, at the transport", recorded),
        Row("voice behind the lips, in the browser", lags),
        Row("distance of voice and lips, in the browser", [abs(lag) for lag in lags]),
        Row("interruption to silence, in the browser", silences),
        Row("pictures a second, in the browser", [fps], "fps"),
    ]


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


async def _interrupt(page: Page) -> float:
    """Interrupt a story and return how long its voice goes on, in milliseconds."""
    await _ask(page)
    await page.wait_for_selector("#log .bot.speaking >> text=every morning")
    await page.evaluate(_NOTE_CLICK)
    await page.click("#interrupt")  # the tool takes its time before it presses
    pressed = await page.evaluate("window.pressed")
    silent: Any = await page.evaluate(_SILENT, pressed)
    return float(silent - pressed)


@asynccontextmanager
async def _page(url: str) -> AsyncIterator[Page]:
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
            await page.goto(url)
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
