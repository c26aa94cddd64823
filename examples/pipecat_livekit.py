"""A Pipecat voice bot with a face in your LiveKit room, where the avatar publishes by itself (direct mode).

It needs Pipecat 1.13 or newer. With keys:

    pip install "agenthuman-plugins[pipecat]" "pipecat-ai[livekit,openai,runner]>=1.13"
    export OPENAI_API_KEY=... AGENTHUMAN_API_KEY=...
    export LIVEKIT_URL=... LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=...
    python pipecat_livekit.py -t livekit

On this machine alone, with a LiveKit server, an avatar and a voice of its own:

    pip install "agenthuman-plugins[demo]" "pipecat-ai[livekit]>=1.13"
    python pipecat_livekit.py --local

It then prints the address and the token with which a LiveKit client joins as a guest.
"""

import asyncio
import os
import sys
import uuid

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.capabilities import BotCapabilities
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import LiveKitRunnerArguments, RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import BaseTransport
from pipecat.transports.livekit.transport import LiveKitParams, LiveKitTransport
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins import LiveKitRoom
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech import AVATAR_IDENTITY

KEYS = ("OPENAI_API_KEY", "AGENTHUMAN_API_KEY", "LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
INSTRUCTION = (
    "You are a friendly assistant with a face. Your words are spoken: answer briefly, in plain text."
)
SPEECH_IDENTITY = "speech"  # joins beside the bot's transport; the avatar listens to it
OURS = {AVATAR_IDENTITY, SPEECH_IDENTITY}  # who is in the room and no guest

# No video out: the avatar publishes its picture and voice. Audio out is for the time without an avatar.
TRANSPORTS = {"livekit": lambda: LiveKitParams(audio_in_enabled=True, audio_out_enabled=True)}


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
    # --8<-- [start:capabilities]
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(audio_out_sample_rate=16_000, enable_metrics=True),
        # The avatar sends the video, which Pipecat cannot know: clients would hide it.
        capabilities=BotCapabilities(video_out=True),
    )
    # --8<-- [end:capabilities]

    # --8<-- [start:room]
    @transport.event_handler("on_audio_track_subscribed")
    async def on_audio_track_subscribed(transport: LiveKitTransport, identity: str) -> None:
        if identity == AVATAR_IDENTITY:
            await transport.mute_participant(identity)  # or the bot would hear itself, and be interrupted

    @transport.event_handler("on_client_connected")
    async def on_client_connected(_transport: LiveKitTransport, client: dict[str, str]) -> None:
        if client["id"] not in OURS:
            context.add_message({"role": "user", "content": "Hello!"})
            await worker.queue_frame(LLMRunFrame())

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: LiveKitTransport, client: dict[str, str]) -> None:
        if client["id"] not in OURS:
            await worker.cancel()  # ends the avatar's session, too

    # --8<-- [end:room]

    @avatar.event_handler("on_avatar_connected")
    async def on_avatar_connected(_avatar: AgentHumanVideoService) -> None:
        logger.info(f"The avatar of session {avatar.session_id} is in the room")

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


async def bot(runner_args: LiveKitRunnerArguments) -> None:
    key = os.environ["OPENAI_API_KEY"]
    # --8<-- [start:mint]
    room = LiveKitRoom.mint(
        runner_args.url,
        os.environ["LIVEKIT_API_KEY"],
        os.environ["LIVEKIT_API_SECRET"],
        runner_args.room_name,
        agent_identity=SPEECH_IDENTITY,
    )
    avatar = AgentHumanVideoService(
        room=room,
        connect="first_speech",  # the guest may come late, and an empty room would be billed
    )
    # --8<-- [end:mint]
    await run_bot(
        await create_transport(runner_args, TRANSPORTS),
        runner_args,
        stt=OpenAISTTService(api_key=key),
        llm=OpenAILLMService(api_key=key, settings=OpenAILLMService.Settings(system_instruction=INSTRUCTION)),
        tts=OpenAITTSService(api_key=key),
        avatar=avatar,
    )


async def run_locally() -> None:
    from agenthuman_plugins.demo.local import livekit_room, local_services  # noqa: PLC0415 - only needed here

    name = f"room-{uuid.uuid4().hex[:8]}"
    async with (
        livekit_room(name, agent_identity=SPEECH_IDENTITY) as room,
        local_services(room=room.avatar, connect="first_speech") as local,
    ):
        runner_args = LiveKitRunnerArguments(room_name=name, url=room.url, token=room.bot_token)
        transport = await create_transport(runner_args, TRANSPORTS)
        print(f"Join {room.url} as a guest with the token {room.guest_token}", flush=True)
        await run_bot(
            transport, runner_args, stt=local.stt, llm=local.llm, tts=local.tts, avatar=local.avatar
        )


def check_keys() -> None:
    """Say at the start what is missing: later, only this terminal would show it."""
    if missing := [name for name in KEYS if not os.environ.get(name)]:
        sys.exit(f"Set {' and '.join(missing)}, or run with --local, which needs no key.")


if __name__ == "__main__":
    if "--local" in sys.argv:
        asyncio.run(run_locally())
    else:
        from pipecat.runner.run import main

        if not {"-h", "--help"}.intersection(sys.argv):
            check_keys()
        main()
