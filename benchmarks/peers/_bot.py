"""A whole bot around a service: a real pipeline with an output transport that plays in real time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    StartFrame,
    StopFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from benchmarks.peers._avatar import LOUD
from benchmarks.peers._vendor import Conditions, Vendor

FrameT = TypeVar("FrameT", bound=Frame)

FRAME_S = 0.02  # what a TTS sends at a time
_LIMIT_S = 30.0  # hang limit


@dataclass
class Heard:
    """A piece of audio that the transport played: its beginning, its first and last loud moment, and its samples."""

    at: float
    seconds: float
    loud: tuple[float, float] | None
    pcm: bytes


class Screen(BaseOutputTransport):
    """An output transport that takes as long for audio as it lasts.

    Attributes:
        audio: What was played.
        pictures: When pictures were shown.
        shows: Cleared, it takes no more pictures.
    """

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(
            TransportParams(
                audio_out_enabled=True,
                video_out_enabled=True,
                video_out_is_live=True,
                video_out_width=conditions.width,
                video_out_height=conditions.height,
                video_out_framerate=30,
            )
        )
        self.audio: list[Heard] = []
        self.pictures: list[float] = []
        self.shows = asyncio.Event()
        self.shows.set()
        self._free_at = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        seconds = len(frame.audio) / 2 / frame.num_channels / frame.sample_rate
        now = time.perf_counter()
        loud = np.flatnonzero(np.abs(np.frombuffer(frame.audio, np.int16).astype(int)) > LOUD)
        span = (now + loud[0] / frame.sample_rate, now + loud[-1] / frame.sample_rate) if len(loud) else None
        self.audio.append(Heard(now, seconds, span, frame.audio))
        self._free_at = max(self._free_at, now) + seconds
        await asyncio.sleep(max(0.0, self._free_at - now))
        return True

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        await self.shows.wait()
        self.pictures.append(time.perf_counter())
        return bool(frame)

    @property
    def speech(self) -> list[tuple[float, float]]:
        """First and last loud moment of every piece that has any."""
        return [piece.loud for piece in self.audio if piece.loud]


class Tap(FrameProcessor):
    """Notes what passes, and when.

    Attributes:
        seen: Frames; of pictures it keeps none, since whoever holds one is taken for a slow reader.
        pictures: When pictures passed, and their grey.
        tints: Their blue.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, Frame, FrameDirection]] = []
        self.pictures: list[tuple[float, int]] = []
        self.tints: list[int] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            self.pictures.append((time.perf_counter(), frame.image[0]))
            self.tints.append(frame.image[2])
        else:
            self.seen.append((time.perf_counter(), frame, direction))
        await self.push_frame(frame, direction)

    def of(self, kind: type[FrameT], direction: FrameDirection) -> list[tuple[float, FrameT]]:
        return [(at, frame) for at, frame, way in self.seen if way is direction and isinstance(frame, kind)]


@dataclass
class Bot:
    """A pipeline that runs: tap, service, tap, transport, tap, assistant's context."""

    pipeline: Pipeline
    before: Tap
    behind: Tap
    screen: Screen
    beyond: Tap
    vendor: Vendor
    context: LLMContext
    worker: PipelineWorker = field(init=False)
    running: asyncio.Task[None] = field(init=False)
    started: asyncio.Event = field(init=False)

    async def start(self, *, setup_timeout_s: float = 20.0) -> None:
        """Run the pipeline, the first time or once more, with a worker of its own."""
        self.started = started = asyncio.Event()
        self.worker = PipelineWorker(
            self.pipeline,
            params=PipelineParams(audio_out_sample_rate=self.vendor.conditions.output_rate),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
            setup_timeout_secs=setup_timeout_s,
        )

        @self.worker.event_handler("on_pipeline_started")
        async def on_started(*_: object) -> None:
            started.set()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        self.running = asyncio.create_task(runner.run())

    async def ready(self) -> None:
        """Wait until the pipeline has started and the avatar is connected."""
        async with asyncio.timeout(_LIMIT_S):
            await self.started.wait()
        await self.until(lambda: self.vendor.is_there)

    async def send(self, *frames: Frame) -> None:
        await self.worker.queue_frames(frames)

    async def end(self, frame: Frame | None = None) -> None:
        """End the run with this frame; by default an `EndFrame`."""
        await self.send(frame or EndFrame())
        await asyncio.wait([self.running], timeout=_LIMIT_S)

    async def cancel(self) -> None:
        await self.worker.cancel()
        await asyncio.wait([self.running], timeout=_LIMIT_S)

    async def say(
        self,
        *pieces: bytes | Frame,
        rate: int,
        context_id: str = "c1",
        paced: bool = False,
        end_pts: int | None = None,
    ) -> None:
        """Send a reply as an LLM and a TTS do.

        Args:
            *pieces: Speech, and frames that go between it.
            rate: Hz of the speech.
            context_id: TTS context of the reply.
            paced: Whether the speech comes at the pace of speech, or at once.
            end_pts: Presentation time of the frames that end the reply, which a TTS with word times sets.
        """
        await self.send(LLMFullResponseStartFrame(), TTSStartedFrame(context_id=context_id))
        began, count = time.perf_counter(), 0
        for piece in pieces:
            if isinstance(piece, Frame):
                await self.send(piece)
                continue
            size = round(rate * FRAME_S) * 2
            for start in range(0, len(piece), size):
                await self.send(TTSAudioRawFrame(piece[start : start + size], rate, 1, context_id=context_id))
                count += 1
                if paced:
                    await asyncio.sleep(max(0.0, began + count * FRAME_S - time.perf_counter()))
        ends = (TTSStoppedFrame(context_id=context_id), LLMFullResponseEndFrame())
        for end in ends:
            end.pts = end_pts
        await self.send(*ends)

    async def until(self, condition: Callable[[], object], *, limit_s: float = _LIMIT_S) -> bool:
        """Look often until the condition holds: what is measured has its own time stamps."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not condition():  # noqa: ASYNC110 - of many things, none of which tells
                    await asyncio.sleep(0.01)
                return True
        return False

    def turns(self) -> list[tuple[float, bool]]:
        """When the bot started (true) and stopped (false) speaking."""
        kinds = (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)
        return [
            (at, isinstance(frame, kinds[0]))
            for at, frame, way in self.behind.seen
            if isinstance(frame, kinds) and way is FrameDirection.UPSTREAM
        ]

    def interruption(self) -> float:
        """When the service was given the interruption."""
        return self.before.of(InterruptionFrame, FrameDirection.DOWNSTREAM)[0][0]


@contextlib.asynccontextmanager
async def bot(
    vendor: Vendor, *, setup_timeout_s: float = 20.0, wait: bool = True, in_branch: bool = False
) -> AsyncIterator[Bot]:
    """Run a bot with a service of this vendor until the context ends.

    Args:
        vendor: Whose service.
        setup_timeout_s: How long the pipeline may take to be set up.
        wait: Whether to wait for the avatar.
        in_branch: Whether the service is in a branch of a `ParallelPipeline`, beside one that passes nothing.
    """
    async with vendor.service() as service:
        context = LLMContext([])
        before, behind, beyond = Tap(), Tap(), Tap()
        screen = Screen(vendor.conditions)
        pipeline = Pipeline(
            [
                before,
                ParallelPipeline([service], [Deaf()]) if in_branch else service,
                behind,
                screen,
                beyond,
                LLMContextAggregatorPair(context).assistant(),
            ]
        )
        made = Bot(pipeline, before, behind, screen, beyond, vendor, context)
        await made.start(setup_timeout_s=setup_timeout_s)
        try:
            if wait:
                await made.ready()
            yield made
        finally:
            if not made.running.done():
                await made.worker.cancel()
            await asyncio.wait([made.running], timeout=_LIMIT_S)


class Deaf(FrameProcessor):
    """A branch that takes no part in the speech."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, SystemFrame | EndFrame | StopFrame):
            await self.push_frame(frame, direction)


def tone(seconds: float, rate: int) -> bytes:
    """A tone that is at its full level from the first to the last sample."""
    t = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sign(np.sin(2 * np.pi * 220 * t + 0.1))).astype(np.int16).tobytes()


def silence(seconds: float, rate: int) -> bytes:
    return bytes(2 * round(seconds * rate))
