"""What the reader of a page about Pipecat has: a bot with a voice, and an avatar service behind it."""

import os
from types import SimpleNamespace

from pipecat.pipeline.parallel_pipeline import ParallelPipeline  # noqa: F401
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from agenthuman_plugins.pipecat import AgentHumanVideoService


class Transport(BaseTransport):
    """A transport to nowhere."""

    def __init__(self) -> None:
        super().__init__()
        for event in ("on_audio_track_subscribed", "on_client_connected", "on_client_disconnected"):
            self._register_event_handler(event)

    def input(self) -> FrameProcessor:
        return IdentityFilter()

    def output(self) -> FrameProcessor:
        return BaseOutputTransport(TransportParams(audio_out_enabled=True))


class Aggregators:
    """Both sides of a context."""

    def user(self) -> FrameProcessor:
        return IdentityFilter()

    assistant = user


transport = Transport()
context_aggregator = aggregators = Aggregators()
stt, llm, tts, model, notes, my_audio_processor = (IdentityFilter() for _ in range(6))
key = other_key = os.environ["AGENTHUMAN_API_KEY"]
runner_args = SimpleNamespace(url="wss://livekit.example.com", room_name="lobby", token="a-token")
token, room_name = "a-token", "lobby"
avatar = AgentHumanVideoService()
pipeline = Pipeline([transport.input(), avatar])
worker = PipelineWorker(pipeline)
