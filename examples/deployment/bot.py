"""A bot with a face for a container: one process for each call, which ends well when its machine is shut down.

Pipecat Cloud and Pipecat's runner call `bot`. Elsewhere, one container for each call runs this file, with the address
of a Daily room in ROOM_URL and a token for it in ROOM_TOKEN:

    pip install -r requirements.txt
    export OPENAI_API_KEY=... AGENTHUMAN_API_KEY=... ROOM_URL=... ROOM_TOKEN=...
    python bot.py
"""

import asyncio
import os
import signal
import sys
from typing import Any

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import EndFrame, LLMRunFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import DailyRunnerArguments, RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.pipecat import AgentHumanVideoService

KEYS = ("OPENAI_API_KEY", "AGENTHUMAN_API_KEY", "ROOM_URL")
FLEET = "support"  # in the metadata of every session, so that a job finds those that were left open
DRAIN_SECS = float(os.environ.get("DRAIN_SECS", "90"))  # for a call to end by itself after SIGTERM
GOODBYE = "I am sorry, I have to go now. Please call again in a moment. Goodbye!"
INSTRUCTION = (
    "You are a friendly assistant with a face. Your words are spoken: answer briefly, in plain text."
)


def daily_params() -> Any:
    from pipecat.transports.daily.transport import DailyParams  # noqa: PLC0415 - only where the room is Daily's

    return DailyParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        video_out_enabled=True,
        video_out_is_live=True,
        video_out_width=640,
        video_out_height=480,
        video_out_framerate=30,  # above the 25 expected of the avatar, so that none queue up
    )


async def run_bot(
    transport: BaseTransport,
    runner_args: RunnerArguments,
    *,
    stt: FrameProcessor,
    llm: FrameProcessor,
    tts: FrameProcessor,
    avatar: AgentHumanVideoService,
) -> None:
    context = LLMContext()
    aggregators = LLMContextAggregatorPair(
        context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    pipeline = Pipeline(
        [
            transport.input(),
            stt,
            aggregators.user(),
            llm,
            tts,
            avatar,
            transport.output(),
            aggregators.assistant(),
        ]
    )
    worker = PipelineWorker(
        pipeline, params=PipelineParams(audio_out_sample_rate=16_000, enable_metrics=True)
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(_transport: BaseTransport, _client: object) -> None:
        context.add_message({"role": "user", "content": "Hello!"})
        await worker.queue_frame(LLMRunFrame())

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: BaseTransport, _client: object) -> None:
        await worker.cancel()

    if runner_args.handle_sigterm:
        drain_on_sigterm(worker)
    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


# --8<-- [start:drain]
def drain_on_sigterm(worker: PipelineWorker) -> None:
    """Let the call end by itself after SIGTERM; after DRAIN_SECS the bot says goodbye and ends it."""
    loop = asyncio.get_running_loop()
    draining: set[asyncio.Task[None]] = set()

    async def drain() -> None:
        logger.warning(f"SIGTERM: this call has {DRAIN_SECS:g} s left")
        await asyncio.sleep(DRAIN_SECS)
        # EndFrame waits until the avatar has said it. Then the session is ended.
        await worker.queue_frames([TTSSpeakFrame(GOODBYE), EndFrame()])

    def on_sigterm() -> None:
        if not draining:
            draining.add(loop.create_task(drain()))

    loop.add_signal_handler(signal.SIGTERM, on_sigterm)


# --8<-- [end:drain]


async def bot(runner_args: RunnerArguments) -> None:
    key = os.environ["OPENAI_API_KEY"]
    await run_bot(
        await create_transport(runner_args, {"daily": daily_params}),
        runner_args,
        stt=OpenAISTTService(api_key=key),
        llm=OpenAILLMService(api_key=key, settings=OpenAILLMService.Settings(system_instruction=INSTRUCTION)),
        tts=OpenAITTSService(api_key=key),
        avatar=AgentHumanVideoService(
            connect="first_speech",  # the caller may not have joined yet
            metadata={"fleet": FLEET},
            settings=AgentHumanVideoService.Settings(max_idle_secs=120),
        ),
    )


async def main() -> None:
    if missing := [name for name in KEYS if not os.environ.get(name)]:
        sys.exit(f"Set {' and '.join(missing)}.")
    runner_args = DailyRunnerArguments(room_url=os.environ["ROOM_URL"], token=os.environ.get("ROOM_TOKEN"))
    runner_args.handle_sigint = runner_args.handle_sigterm = True  # the process is ours alone
    await bot(runner_args)


if __name__ == "__main__":
    asyncio.run(main())
