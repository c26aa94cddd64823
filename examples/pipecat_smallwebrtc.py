"""A Pipecat voice bot with a face, in the browser.

With keys:

    pip install "agenthuman-plugins[pipecat]" "pipecat-ai[openai,runner,webrtc]"
    export OPENAI_API_KEY=... AGENTHUMAN_API_KEY=...
    python pipecat_smallwebrtc.py

On this machine alone, with the emulator's avatar and an offline voice:

    pip install "agenthuman-plugins[demo]" "pipecat-ai[runner]"
    python pipecat_smallwebrtc.py --local

Open the address that it prints and press Connect. Type, or with `OPENAI_API_KEY` allow the microphone and talk.
"""

import argparse
import os
import sys

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

INSTRUCTION = (
    "You are a friendly assistant with a face. Your words are spoken: answer briefly, in plain text."
)

# --8<-- [start:transport]
TRANSPORTS = {
    "webrtc": lambda: TransportParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        video_out_enabled=True,
        video_out_is_live=True,
        video_out_width=640,
        video_out_height=480,
        video_out_framerate=30,  # above the 25 expected of the avatar, so that none queue up
    )
}
# --8<-- [end:transport]


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
    # --8<-- [start:pipeline]
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
    # --8<-- [end:pipeline]
    # --8<-- [start:worker]
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_out_sample_rate=16_000,  # the avatar's own rate: nothing is resampled on the way to it
            enable_metrics=True,
        ),
    )
    # --8<-- [end:worker]

    @transport.event_handler("on_client_connected")
    async def on_client_connected(_transport: BaseTransport, _client: object) -> None:
        context.add_message({"role": "user", "content": "Hello!"})
        await worker.queue_frame(LLMRunFrame())

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: BaseTransport, _client: object) -> None:
        await worker.cancel()  # ends the avatar's session, too

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
            avatar=AgentHumanVideoService(),
        )


# --8<-- [start:keys]
KEYS = ("OPENAI_API_KEY", "AGENTHUMAN_API_KEY")


def check_keys() -> None:
    """Say at the start what is missing: later, only this terminal would show it, and the page would stay empty."""
    if missing := [name for name in KEYS if not os.environ.get(name)]:
        sys.exit(f"Set {' and '.join(missing)}, or run with --local, which needs no key.")


# --8<-- [end:keys]
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
