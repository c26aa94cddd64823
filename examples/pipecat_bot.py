"""A Pipecat voice bot with a face, in one file.

    pip install "agenthuman-plugins[pipecat]" "pipecat-ai[openai,runner,webrtc]"
    export OPENAI_API_KEY=… AGENTHUMAN_API_KEY=…
    python pipecat_bot.py

Open the address that it prints, and talk. For a bot without any key, run `agenthuman demo`.
"""

import os

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
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
        video_out_framerate=30,  # above the avatar's 25: at its own rate, pictures wait for each other
    )
}
# --8<-- [end:transport]


async def run_bot(transport: BaseTransport) -> None:
    key = os.environ["OPENAI_API_KEY"]
    context = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    stt = OpenAISTTService(api_key=key)
    llm = OpenAILLMService(api_key=key, settings=OpenAILLMService.Settings(system_instruction=INSTRUCTION))
    tts = OpenAITTSService(api_key=key)
    # --8<-- [start:pipeline]
    pipeline = Pipeline(
        [
            transport.input(),
            stt,
            context.user(),
            llm,
            tts,
            AgentHumanVideoService(),
            transport.output(),
            context.assistant(),
        ]
    )
    # --8<-- [end:pipeline]
    worker = PipelineWorker(pipeline, params=PipelineParams(enable_metrics=True))

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: BaseTransport, _client: object) -> None:
        await worker.cancel()  # ends the avatar's session, too

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()


async def bot(runner_args: RunnerArguments) -> None:
    await run_bot(await create_transport(runner_args, TRANSPORTS))


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
