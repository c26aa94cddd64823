"""A speech-to-speech model with a face: one model hears and speaks, and the avatar says what it says.

With keys:

    pip install "agenthuman-plugins[pipecat]" "pipecat-ai[openai,runner,webrtc]"
    export OPENAI_API_KEY=... AGENTHUMAN_API_KEY=...
    python pipecat_realtime.py

On this machine alone, with a scripted model, the emulator's avatar and an offline voice:

    pip install "agenthuman-plugins[demo]" "pipecat-ai[runner]"
    python pipecat_realtime.py --local

Open the address that it prints and press Connect. Allow the microphone and talk; with `--local`, type.
"""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.pipecat import AgentHumanVideoService

KEYS = ("OPENAI_API_KEY", "AGENTHUMAN_API_KEY")
INSTRUCTION = "You are a friendly assistant with a face. Answer briefly."

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


class ScriptedModel(FrameProcessor):
    """Stands where the model stands, and pushes what OpenAI's pushes: the transcript, and speech without a context."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context; everything else passes. An interruption cancels the answer."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self._answer(_reply_to(frame.context.get_messages()))
        else:
            await self.push_frame(frame, direction)

    async def _answer(self, text: str) -> None:
        from agenthuman_plugins.emulator.voice import SAMPLE_RATE, Voice  # noqa: PLC0415 - only needed without keys

        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(TTSStartedFrame())
        for sentence in re.findall(r"\S.*?[.!?]\s*", text):
            shown, said = LLMTextFrame(sentence), TTSTextFrame(sentence, "sentence")
            shown.append_to_context = False
            said.includes_inter_frame_spaces = True
            pcm = await asyncio.to_thread(Voice().synthesize, sentence)
            await self.push_frame(shown)
            await self.push_frame(said)
            await self.push_frame(TTSAudioRawFrame(pcm, SAMPLE_RATE, 1))
        await self.push_frame(TTSStoppedFrame())
        await self.push_frame(LLMFullResponseEndFrame())


def _reply_to(messages: Sequence[Any]) -> str:
    _, *typed = [message["content"] for message in messages if message["role"] == "user"]
    if not typed:
        return "Hello! I hear and speak by myself. This face speaks for me. Type something."
    return f"You said: {str(typed[-1]).rstrip('.!?')}. I have only a short script."


async def run_bot(
    transport: BaseTransport,
    runner_args: RunnerArguments,
    *,
    model: FrameProcessor,
    avatar: AgentHumanVideoService,
) -> None:
    context = LLMContext()
    aggregators = LLMContextAggregatorPair(context)
    # --8<-- [start:pipeline]
    pipeline = Pipeline(
        [
            transport.input(),
            aggregators.user(),
            model,  # hears and speaks: neither speech-to-text nor text-to-speech
            avatar,
            transport.output(),
            aggregators.assistant(),
        ]
    )
    # --8<-- [end:pipeline]
    worker = PipelineWorker(
        pipeline, params=PipelineParams(audio_out_sample_rate=24_000, enable_metrics=True)
    )

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
            await run_bot(transport, runner_args, model=ScriptedModel(), avatar=local.avatar)
    else:
        # --8<-- [start:model]
        model = OpenAIRealtimeLLMService(
            api_key=os.environ["OPENAI_API_KEY"],
            settings=OpenAIRealtimeLLMService.Settings(system_instruction=INSTRUCTION),
        )
        # --8<-- [end:model]
        await run_bot(transport, runner_args, model=model, avatar=AgentHumanVideoService())


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
