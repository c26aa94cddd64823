"""A bot whose far end is a processor that only looks and listens, in place of a transport."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pipecat.frames.frames import ErrorFrame, Frame, OutputTransportReadyFrame, StartFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.pipecat import AgentHumanVideoService

RATE = 16_000
LIMIT_S = 60.0  # hang limit


class Errors(FrameProcessor):
    """In front of the service: what goes wrong there comes by here."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            self.seen.append(frame.error)
        await self.push_frame(frame, direction)


@contextlib.asynccontextmanager
async def running(
    front: FrameProcessor, service: AgentHumanVideoService, witness: FrameProcessor
) -> AsyncIterator[PipelineWorker]:
    """Run the service between the two until the context ends; begins when its avatar is connected."""
    worker = PipelineWorker(
        Pipeline([front, service, witness]),
        params=PipelineParams(audio_out_sample_rate=RATE),
        idle_timeout_secs=None,
        enable_rtvi=False,
    )
    started, connected = asyncio.Event(), asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(_: object, __: StartFrame) -> None:
        started.set()

    @service.event_handler("on_avatar_connected")
    async def on_connected(_: object) -> None:
        connected.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(LIMIT_S):
            await started.wait()
            await connected.wait()
        await witness.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)
        yield worker
    finally:
        await worker.cancel()
        await asyncio.wait([running], timeout=LIMIT_S)
