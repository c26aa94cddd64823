"""What a user of the demo's page sees and hears, noted in the page on its own clock.

It notes when each picture is meant to be displayed and how far its mouth is open, and every 10 ms how loud the voice is
behind the browser's jitter buffer. What it leaves out: the sound card's own delay, which no page can see.
"""

from dataclasses import dataclass
from typing import Any

from playwright.async_api import Page

from benchmarks._lips import Lips

# Before the page's own scripts: the peer connection is kept, since it alone knows the jitter buffers.
_KEEP_PEER = """{
  const Plain = RTCPeerConnection;
  window.RTCPeerConnection = class extends Plain { constructor(...of) { super(...of); window.peer = this; } };
}"""
# The counting of pixels is the one of `_lips.openness`.
_WATCH = """async () => {
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
  window.told = []; // when the page was told of each interruption
  window.presented = [0, 0]; // the newest picture: when, and its number
  const look = (now, { expectedDisplayTime, presentedFrames }) => {
    canvas.drawImage(face, ...area, 0, 0, across, down);
    const pixels = canvas.getImageData(0, 0, across, down).data;
    let inside = 0;
    for (let i = 0; i < pixels.length; i += 4) {
      const [red, green, blue] = [pixels[i], pixels[i + 1], pixels[i + 2]];
      if (red < 95 && red - green > 22 && blue > green + 4) inside += 1;
    }
    window.seen.push([expectedDisplayTime, inside]);
    window.presented = [expectedDisplayTime, presentedFrames];
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
  new MutationObserver((changes) => {
    if (changes.some(({ target }) => target.classList.contains("cut"))) window.told.push(performance.now());
  }).observe(document.getElementById("log"), { attributeFilter: ["class"], subtree: true });
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
_JITTER_BUFFER = """async () => {
  const of = [...(await window.peer.getStats()).values()];
  const voice = of.find(({ type, kind }) => type === "inbound-rtp" && kind === "audio");
  return [voice.jitterBufferDelay, voice.jitterBufferEmittedCount];
}"""


@dataclass(frozen=True, slots=True)
class Interruption:
    """One press on the page's button; moments on the page's clock in seconds, the rest in milliseconds.

    Attributes:
        pressed_s: When it was pressed.
        told_ms: Until the page was told that the bot is interrupted: the data channel both ways, and the pipeline.
        buffered_ms: For how long the voice before it waited in the browser's jitter buffer.
        silent_ms: Until nothing was heard.
    """

    pressed_s: float
    told_ms: float
    buffered_ms: float
    silent_ms: float


class Witness:
    """Sits in the demo's page.

    Args:
        page: The page, before it was opened.
    """

    def __init__(self, page: Page) -> None:
        self._page = page

    async def prepare(self) -> None:
        """Be there when the page opens."""
        await self._page.add_init_script(_KEEP_PEER)

    async def begin(self) -> None:
        """Begin to note; picture and voice must be there."""
        await self._page.evaluate(_WATCH)

    async def now_s(self) -> float:
        """The page's time."""
        return 0.001 * float(await self._page.evaluate("performance.now()"))

    async def presented(self) -> tuple[float, int]:
        """When the newest picture was shown, and how many there were by then: those that no script saw, too."""
        at, number = await self._page.evaluate("window.presented")
        return at / 1000, number

    async def lips(self) -> Lips:
        """What was seen and heard so far."""
        script = "[window.seen, window.heard].map((points) => points.map(([t, v]) => [t / 1000, v]))"
        seen, heard = await self._page.evaluate(script)
        return Lips([tuple(point) for point in seen], [tuple(point) for point in heard])

    async def interrupt(self, *, after_words: str) -> Interruption:
        """Press the button when the reply has come to these words, and wait for the silence."""
        page = self._page
        before: Any = await page.evaluate(_JITTER_BUFFER)
        await page.wait_for_selector(f"#log li:last-child.bot.speaking >> text={after_words}")
        await page.evaluate(_NOTE_CLICK)
        after: Any = await page.evaluate(_JITTER_BUFFER)
        await page.click("#interrupt")  # the tool takes its time before it presses
        pressed = float(await page.evaluate("window.pressed"))
        silent = float(await page.evaluate(_SILENT, pressed))
        told = float(await page.evaluate("window.told.at(-1)"))
        waited_s, samples = (b - a for a, b in zip(before, after, strict=True))
        return Interruption(
            pressed / 1000, told - pressed, 1000 * waited_s / max(samples, 1), silent - pressed
        )
