"""What the page's pipeline and the recording's have in common: their parameters, and how they run."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Sequence

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.demo._services import VIDEO_FPS, VIDEO_SIZE
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

_STOP_TIMEOUT_S = 20.0  # the avatar's session is ended in it; the limits inside are shorter


def make_worker(processors: Sequence[FrameProcessor]) -> PipelineWorker:
    """Make a worker for a pipeline at the avatar's own sample rate, so that no sound is resampled on its way."""
    return PipelineWorker(
        Pipeline(list(processors)),
        params=PipelineParams(
            audio_in_sample_rate=SPEECH_SAMPLE_RATE,
            audio_out_sample_rate=SPEECH_SAMPLE_RATE,
            enable_metrics=True,
            send_initial_empty_metrics=False,
        ),
        enable_rtvi=False,  # the page has a protocol of its own
        enable_turn_tracking=False,
        idle_timeout_secs=None,  # a page may be looked at in silence
    )


def make_transport_params(*, audio_in: bool = False) -> TransportParams:
    """Make the parameters of an output that fits the avatar's picture: nothing is scaled, nothing queues up."""
    width, height = VIDEO_SIZE
    return TransportParams(
        audio_in_enabled=audio_in,
        audio_out_enabled=True,
        audio_out_end_silence_secs=0,
        video_out_enabled=True,
        video_out_is_live=True,
        video_out_width=width,
        video_out_height=height,
        video_out_framerate=VIDEO_FPS + 5,  # at the source's own rate, pictures wait for each other
    )


@contextlib.asynccontextmanager
async def running(worker: PipelineWorker) -> AsyncIterator[asyncio.Task[None]]:
    """Run the worker beside the block and cancel it at the end; gives the task that runs it."""
    runner = WorkerRunner(handle_sigint=False)  # signals are the program's business
    await runner.add_workers(worker)
    spare_collector()
    task = asyncio.create_task(runner.run(), name="pipeline")
    try:
        yield task
    finally:
        if not task.done():
            await runner.cancel()
        await asyncio.wait([task], timeout=_STOP_TIMEOUT_S)
        task.cancel()


def spare_collector() -> None:
    """Keep Python's garbage collector from looking through everything that is loaded, in mid-speech.

    The libraries are half a million objects. A full collection takes 100 ms for them, in which no sound leaves, and the
    many frames at the start of a reply bring one about: the browser then buffers the voice, and plays it that much
    later for seconds. What was left by the conversation before is collected here.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
