"""What a session costs a process, in both modes: `python -m benchmarks cost`.

Bots are added to one process, each speaking without a pause, until the pictures that leave a bot are fewer than 24 a
second (in direct mode: until the speech goes out slower than it is spoken). That point is printed as saturated.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psutil
from loguru import logger
from pipecat.frames.frames import Frame, StartFrame, TTSAudioRawFrame, TTSStartedFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from rich.console import Console
from rich.table import Table

from agenthuman_plugins import LiveKitRoom
from agenthuman_plugins.client import Session
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech import InProcessSpeechLink
from benchmarks import _results
from benchmarks.peers._avatar import FPS
from benchmarks.peers._bot import FRAME_S, Screen, tone
from benchmarks.peers._vendor import Conditions

_STEPS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_SETTLE_S = 1.5
_WINDOW_S = 4.0
_FEWEST_FPS = 24.0
_RATE = 16_000
_LIMIT_S = 60.0  # hang limit
_ROOM = LiveKitRoom(url="wss://room.example", avatar_token="test")


@dataclass(frozen=True)
class Mode:
    """What the bots do.

    Attributes:
        name: For the table.
        size: Of the picture; `None` where no picture passes.
        service: Whether there is a service; without one the speech is thrown away.
        most: How many bots to go up to.
    """

    name: str
    size: tuple[int, int] | None = None
    service: bool = True
    most: int = _STEPS[-1]


@dataclass(frozen=True)
class Point:
    """One point of the curve.

    Attributes:
        bots: How many there were.
        cpu: Cores that the process used.
        others: Part of the machine that other processes kept busy meanwhile: they saturate it, too.
        fps: Pictures a second of the bot that had the fewest; in direct mode the same for 40 ms of speech.
    """

    bots: int
    cpu: float
    others: float
    fps: float

    @property
    def saturated(self) -> bool:
        """Whether that was too much."""
        return self.fps < _FEWEST_FPS


_MODES = (
    Mode("proxied, 640x480", (640, 480)),
    Mode("proxied, 1280x960", (1280, 960)),
    Mode("direct"),
    Mode("no service: the measurement itself", service=False, most=8),
)


async def report(console: Console) -> None:
    """Measure, print and write `benchmarks/results.md`."""
    logger.remove()
    logging.disable(logging.WARNING)
    curves = {mode: await _curve(mode) for mode in _MODES}
    table = Table("mode", "sessions", "CPU", "a session", "others", "fewest fps", title="cost")
    rows = [(mode.name, *_cells(point)) for mode, curve in curves.items() for point in curve]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _results.write("cost", _markdown(rows))


async def _curve(mode: Mode) -> list[Point]:
    points: list[Point] = []
    process = psutil.Process()
    async with contextlib.AsyncExitStack() as stack:
        bots: list[_Speaking] = []
        for count in (step for step in _STEPS if step <= mode.most):
            while len(bots) < count:
                bots.append(await stack.enter_async_context(_speaking(mode)))
            await asyncio.sleep(_SETTLE_S)
            before, cpu, began = [bot.blocks for bot in bots], _cpu_s(process), time.perf_counter()
            psutil.cpu_percent()
            await asyncio.sleep(_WINDOW_S)
            passed_s = time.perf_counter() - began
            cores = (_cpu_s(process) - cpu) / passed_s
            others = max(0.0, psutil.cpu_percent() / 100 - cores / (psutil.cpu_count() or 1))
            fps = min((bot.blocks - was) / passed_s for bot, was in zip(bots, before, strict=True))
            points.append(Point(count, cores, others, fps))
            if points[-1].saturated:
                break
    return points


def _cpu_s(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


class _Screen(Screen):
    """Counts and keeps nothing."""

    shown = 0

    async def write_video_frame(self, frame: Any) -> bool:
        self.shown += 1
        return bool(frame)

    async def write_audio_frame(self, frame: Any) -> bool:
        now, seconds = time.perf_counter(), frame.num_frames / frame.sample_rate
        # A wake-up that comes late makes no hole: a transport that plays slowly would slow down the picture, too.
        self._free_at = (self._free_at if now - self._free_at < seconds else now) + seconds
        await asyncio.sleep(max(0.0, self._free_at - now))
        return True


class _Heard(InProcessSpeechLink):
    """An avatar that counts the speech it is sent."""

    sent_s = 0.0

    async def send(self, pcm: bytes) -> int:
        self.sent_s += len(pcm) / 2 / _RATE
        return await super().send(pcm)


class _Nothing(FrameProcessor):
    """Throws speech away."""

    sent_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.sent_s += frame.num_frames / frame.sample_rate
        else:
            await self.push_frame(frame, direction)


@dataclass
class _Speaking:
    """A bot that speaks without a pause."""

    mode: Mode
    screen: _Screen
    links: list[_Heard] = field(default_factory=list)
    nothing: "_Nothing | None" = None

    @property
    def blocks(self) -> float:
        """Pictures that left the bot; in direct mode blocks of 40 ms of speech."""
        if self.mode.size:
            return self.screen.shown
        sent_s = self.nothing.sent_s if self.nothing else sum(link.sent_s for link in self.links)
        return sent_s * FPS

    def link(self, _: Session, rate: int) -> _Heard:
        if self.mode.size:
            width, height = self.mode.size
            picture = bytes(3 * width * height)
            link = _Heard(draw=lambda *_: picture, width=width, height=height, audio_sample_rate=rate)
        else:  # its media go elsewhere, so that it has next to none
            link = _Heard(width=2, height=2, fps=5, audio_sample_rate=rate, voice=False)
        self.links.append(link)
        return link


@contextlib.asynccontextmanager
async def _speaking(mode: Mode) -> AsyncIterator[_Speaking]:
    width, height = mode.size or (640, 480)
    bot = _Speaking(mode, _Screen(Conditions(width=width, height=height)))
    service: FrameProcessor
    if mode.service:
        service = AgentHumanVideoService(
            client=_account(), link_factory=bot.link, room=None if mode.size else _ROOM
        )
    else:
        service = bot.nothing = _Nothing()
    worker = PipelineWorker(
        Pipeline([service, bot.screen]),
        params=PipelineParams(audio_out_sample_rate=_RATE),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(_: object, __: StartFrame) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(_LIMIT_S):
        await started.wait()
    speaking = asyncio.create_task(_speak(worker))
    try:
        yield bot
    finally:
        speaking.cancel()
        await asyncio.wait([speaking])
        await worker.cancel()
        await asyncio.wait([running], timeout=_LIMIT_S)


async def _speak(worker: PipelineWorker) -> None:
    pcm = tone(FRAME_S, _RATE)
    await worker.queue_frame(TTSStartedFrame(context_id="c1"))
    began, count = time.perf_counter(), 0
    while True:
        await worker.queue_frame(TTSAudioRawFrame(pcm, _RATE, 1, context_id="c1"))
        count += 1
        await asyncio.sleep(max(0.0, began + count * FRAME_S - time.perf_counter()))


def _account() -> Any:
    """A client whose sessions open at once."""

    @contextlib.asynccontextmanager
    async def open_session(**_: object) -> AsyncIterator[Session]:
        yield Session(session_id="sess_benchmark", status="started")

    return SimpleNamespace(sessions=SimpleNamespace(open=open_session))


def _cells(point: Point) -> tuple[str, ...]:
    return (
        str(point.bots),
        f"{100 * point.cpu:.0f} %",
        f"{100 * point.cpu / point.bots:.1f} %",
        f"{100 * point.others:.0f} %",
        f"{point.fps:.1f}" + (" (saturated)" if point.saturated else ""),
    )


def _markdown(rows: list[tuple[str, ...]]) -> str:
    table_text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    where = _results.machine("pipecat-ai", "livekit")
    return f"""
## What a session costs

`.venv-pipecat-peers/bin/python -m benchmarks cost`: sessions in one process, added until one of them shows fewer than
{_FEWEST_FPS:g} pictures a second. 100 % is one core. Nothing beyond a measured point is extrapolated.

| mode | sessions | CPU | a session | others | fewest fps |
| --- | --- | --- | --- | --- | --- |
{table_text}

Method. Every bot speaks without a pause (20 ms frames, 16 kHz). Proxied, an avatar in the same process sends 25 pictures
a second through the service to an output transport of the same size, which throws them away: decoding before the service
and encoding behind it come on top (a LiveKit room and a WebRTC transport, each in native threads). Direct, the avatar
publishes elsewhere and the bot sends speech only; there "fps" counts blocks of 40 ms of speech that left the bot. "No
service" is the same bot without the service: Pipecat and the source of the speech. "Others" is the part of the whole
machine that other processes kept busy: where that is much, the point of saturation is theirs as well.

Measured on {where}.
"""
