"""A LangGraph agent with a face: it thinks and uses its tools, Pipecat listens, and the avatar speaks.

With keys:

    pip install "agenthuman-plugins[pipecat]" "pipecat-ai[openai,runner,webrtc]" langchain langchain-openai
    export OPENAI_API_KEY=... AGENTHUMAN_API_KEY=...
    python pipecat_langgraph.py

On this machine alone, with a scripted model, the emulator's avatar and an offline voice:

    pip install "agenthuman-plugins[demo]" "pipecat-ai[runner]" langchain
    python pipecat_langgraph.py --local

Open the address that it prints and press Connect. Type, or with `OPENAI_API_KEY` allow the microphone and talk.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph.state import CompiledStateGraph
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.pipecat import AgentHumanVideoService

KEYS = ("OPENAI_API_KEY", "AGENTHUMAN_API_KEY")
INSTRUCTION = (
    "You are a friendly assistant with a face. Your words are spoken: answer briefly, in plain text."
)

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


@tool
def time_of_day() -> str:
    """Tell the time in UTC."""
    return f"{datetime.now(UTC):%H:%M}"


# --8<-- [start:llm]
class LangGraphLLM(FrameProcessor):
    """Stands where the LLM service stands, and streams what the agent says.

    The agent keeps no memory of its own: Pipecat's context holds what was said, and of an interrupted reply only
    what the user has heard. An interruption cancels the agent, too.
    """

    def __init__(self, agent: CompiledStateGraph[Any, Any, Any, Any]) -> None:
        super().__init__()
        self._agent = agent

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context; everything else passes."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        try:
            await self._answer({"messages": frame.context.get_messages()})
        except Exception as error:  # noqa: BLE001 - the bot must hear of it and go on
            await self.push_error("The agent failed", exception=error)
        finally:
            await self.push_frame(LLMFullResponseEndFrame())

    async def _answer(self, state: dict[str, Any]) -> None:
        async for message, _ in self._agent.astream(state, stream_mode="messages"):
            if isinstance(message, AIMessageChunk | AIMessage) and message.text:  # no tool calls, no results
                await self.push_frame(LLMTextFrame(message.text))


# --8<-- [end:llm]


class ScriptedModel(BaseChatModel):
    """Asks the tool, then tells what it said."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> "ScriptedModel":
        """Take the tools, which this model knows anyway."""
        del tools
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            message = AIMessage(f"Hello! My watch says that it is {messages[-1].text}.")
        else:
            wish = {"name": time_of_day.name, "args": {}, "id": "call_1", "type": "tool_call"}
            message = AIMessage("", tool_calls=[wish])
        return ChatResult(generations=[ChatGeneration(message=message)])


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
            audio_out_sample_rate=16_000,  # the avatar's own rate: nothing is resampled on the way to it
            enable_metrics=True,
        ),
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

    def make_llm(model: BaseChatModel) -> LangGraphLLM:
        return LangGraphLLM(create_agent(model, [time_of_day], system_prompt=INSTRUCTION))

    if getattr(runner_args.cli_args, "local", False):
        from agenthuman_plugins.demo.local import local_services  # noqa: PLC0415 - only needed without keys

        async with local_services() as local:
            await run_bot(
                transport,
                runner_args,
                stt=local.stt,
                llm=make_llm(ScriptedModel()),
                tts=local.tts,
                avatar=local.avatar,
            )
    else:
        key = os.environ["OPENAI_API_KEY"]
        await run_bot(
            transport,
            runner_args,
            stt=OpenAISTTService(api_key=key),
            llm=make_llm(init_chat_model("openai:gpt-5-mini")),
            tts=OpenAITTSService(api_key=key),
            avatar=AgentHumanVideoService(),
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
