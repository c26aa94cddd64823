"""A Pipecat voice bot with a face, in a Daily room; it logs what the avatar does, and opens no session before it speaks.

With keys:

    pip install "agenthuman-plugins[pipecat]" "pipecat-ai[daily,openai,runner]"
    export OPENAI_API_KEY=... AGENTHUMAN_API_KEY=... DAILY_API_KEY=...
    python pipecat_daily.py -t daily

On this machine alone, with a browser in place of the Daily room:

    pip install "agenthuman-plugins[demo]" "pipecat-ai[runner]"
    python pipecat_daily.py --local

Open the address that it prints. With `--local`, press Connect and type.
"""

import argparse
import os
import sys
from typing import Any

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.pipecat import AgentHumanVideoService

KEYS = ("OPENAI_API_KEY", "AGENTHUMAN_API_KEY", "DAILY_API_KEY")
INSTRUCTION = (
    "You are a friendly assistant with a face. Your words are spoken: answer briefly, in plain text."
)

PICTURE: dict[str, Any] = {
    "video_out_enabled": True,
    "video_out_is_live": True,
    "video_out_width": 640,
    "video_out_height": 480,
    "video_out_framerate": 30,  # above the 25 expected of the avatar, so that none queue up
}


def daily_params() -> TransportParams:
    from pipecat.transports.daily.transport import DailyParams  # noqa: PLC0415 - not needed for --local

    return DailyParams(audio_in_enabled=True, audio_out_enabled=True, **PICTURE)


TRANSPORTS = {
    "daily": daily_params,
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True, **PICTURE),
}


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
        pipeline,
        params=PipelineParams(
            audio_out_sample_rate=16_000,
            enable_metrics=True,
        ),
    )

    # --8<-- [start:events]
    @avatar.event_handler("on_avatar_connected")
    async def on_avatar_connected(_avatar: AgentHumanVideoService) -> None:
        logger.info(f"The avatar of session {avatar.session_id} is connected")

    @avatar.event_handler("on_fallback_started")
    async def on_fallback_started(_avatar: AgentHumanVideoService, reason: str) -> None:
        logger.warning(f"The bot speaks without its avatar: {reason}")

    @avatar.event_handler("on_fallback_ended")
    async def on_fallback_ended(_avatar: AgentHumanVideoService) -> None:
        logger.info("The avatar speaks again")

    # --8<-- [end:events]

    @transport.event_handler("on_client_connected")
    async def on_client_connected(_transport: BaseTransport, _client: object) -> None:
        context.add_message({"role": "user", "content": "Hello!"})
        await worker.queue_frame(LLMRunFrame())

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: BaseTransport, _client: object) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


async def bot(runner_args: RunnerArguments) -> None:
    transport = await create_transport(runner_args, TRANSPORTS)
    if getattr(runner_args.cli_args, "local", False):
        from agenthuman_plugins.demo.local import local_services  # noqa: PLC0415 - only needed without keys

        async with local_services() as local:
            await run_bot(
                transport, runner_args, stt=local.stt, llm=local.llm, tts=local.tts, avatar=local.avatar
            )
    else:
        key = os.environ["OPENAI_API_KEY"]
        await run_bot(
            transport,
            runner_args,
            stt=OpenAISTTService(api_key=key),
            llm=OpenAILLMService(
                api_key=key, settings=OpenAILLMService.Settings(system_instruction=INSTRUCTION)
            ),
            tts=OpenAITTSService(api_key=key),
            # --8<-- [start:avatar]
            avatar=AgentHumanVideoService(
                connect="first_speech",  # the room may be empty for a while
                settings=AgentHumanVideoService.Settings(max_idle_secs=120),
            ),
            # --8<-- [end:avatar]
        )


def check_keys() -> None:
    """Say at the start what is missing: later, only this terminal would show it, and the page would stay empty."""
    if missing := [name for name in KEYS if not os.environ.get(name)]:
        sys.exit(f"Set {' and '.join(missing)}, or run with --local, which needs no key.")


if __name__ == "__main__":
    from pipecat.runner.run import main

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--local", action="store_true", help="run without keys, on the emulator")
    if "--local" in sys.argv:
        from agenthuman_plugins.demo.local import serve_page

        serve_page()
    elif not {"-h", "--help"}.intersection(sys.argv):
        check_keys()
    main(parser)
