"""A bot around the service: a real pipeline, a fake account, and an avatar in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
from pipecat.frames.frames import (
    Frame,
    OutputAudioRawFrame,
    OutputTransportReadyFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.client import Session
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.virtual_time import VirtualTimeLoop

FrameT = TypeVar("FrameT", bound=Frame)

RATE = 16_000
WAIT_S = 20.0  # hang limit of every wait
SLOW_END_S = 1.0  # virtual, of a bot that is cancelled; none takes a tenth of it


class FakeClient:
    """An account whose sessions are counted.

    Attributes:
        opened: Ids of all sessions.
        ended: Ids of those that were ended.
        failure: What opening a session raises.
        open_now: Set to let sessions open.
        end_now: Set to let sessions end.
    """

    def __init__(self, failure: Exception | None = None) -> None:
        self.opened: list[str] = []
        self.ended: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.failure = failure
        self.open_now = asyncio.Event()
        self.open_now.set()
        self.end_now = asyncio.Event()
        self.end_now.set()
        self.sessions = SimpleNamespace(open=self._open)

    @property
    def leaked(self) -> set[str]:
        return set(self.opened) - set(self.ended)

    @contextlib.asynccontextmanager
    async def _open(self, **options: Any) -> AsyncIterator[Session]:
        self.options.append(options)
        await self.open_now.wait()
        if self.failure:
            raise self.failure
        session_id = f"sess_{len(self.opened) + 1}"
        session = Session(session_id=session_id, status="started", session_token="token")
        self.opened.append(session.session_id)
        try:
            yield session
        finally:
            await self.end_now.wait()
            self.ended.append(session.session_id)


class Tap(FrameProcessor):
    """Keeps the frames that pass in one direction, and lets a test wait for them."""

    def __init__(self, direction: FrameDirection) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self._direction = direction
        self._arrived = asyncio.Condition()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is self._direction:
            async with self._arrived:
                self.frames.append(frame)
                self._arrived.notify_all()
        await self.push_frame(frame, direction)

    def of(self, kind: type[FrameT]) -> list[FrameT]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def until(self, condition: Callable[[], object], *, limit_s: float = WAIT_S) -> None:
        async with asyncio.timeout(limit_s), self._arrived:
            await self._arrived.wait_for(condition)


class Output(BaseOutputTransport):
    """A transport that plays in real time, from the moment at which it may."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.played_s = 0.0
        self.plays = asyncio.Event()
        self.plays.set()

    async def start(self, frame: Frame) -> None:
        await super().start(frame)  # type: ignore[arg-type]
        await self.set_transport_ready(frame)  # type: ignore[arg-type]

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        await self.plays.wait()
        await asyncio.sleep(frame.num_frames / frame.sample_rate)
        self.played_s += frame.num_frames / frame.sample_rate
        return True


@dataclass
class Bot:
    """A running pipeline: tap, service, tap."""

    service: AgentHumanVideoService
    worker: PipelineWorker
    up: Tap
    down: Tap
    client: Any
    links: list[InProcessSpeechLink]
    events: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    processed: set[type[Frame]] = field(default_factory=set)
    happened: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self, *frames: Frame) -> None:
        await self.worker.queue_frames(frames)

    async def say(self, *pieces: bytes | Frame, context_id: str = "c1", rate: int = RATE) -> None:
        """Send a whole reply; frames among the pieces go between the speech."""
        await self.send(TTSStartedFrame(context_id=context_id))
        for piece in pieces:
            await self.send(*speech(piece, context_id, rate) if isinstance(piece, bytes) else [piece])
        await self.send(TTSStoppedFrame(context_id=context_id))

    async def until_event(self, name: str, count: int = 1) -> None:
        async with asyncio.timeout(WAIT_S), self.happened:
            await self.happened.wait_for(lambda: len(self.events.get(name, [])) >= count)

    async def until_processed(self, kind: type[Frame]) -> None:
        """Wait until the service has taken a frame, whether or not that leaves."""
        async with asyncio.timeout(WAIT_S), self.happened:
            await self.happened.wait_for(lambda: kind in self.processed)

    async def until_stopped(self, context_id: str) -> None:
        """Wait until the stop frame of a reply has left."""
        await self.down.until(lambda: any(f.context_id == context_id for f in self.down.of(TTSStoppedFrame)))

    async def until_context(self, context: LLMContext) -> None:
        """Wait until the LLM's context holds something."""
        async with asyncio.timeout(WAIT_S):
            while not context.messages:  # noqa: ASYNC110 - Pipecat tells nobody
                await asyncio.sleep(0.01)

    def voice(self, context_id: str | None = None) -> np.ndarray:
        """The speech that left downstream."""
        pcm = b"".join(f.audio for f in self.down.of(TTSAudioRawFrame) if context_id in (None, f.context_id))
        return np.frombuffer(pcm, np.int16)


def tone(seconds: float, rate: int = RATE, hz: float = 220.0, loud: int = 8000) -> bytes:
    """A tone that begins and ends at its full level, so that its edges can be found."""
    t = np.arange(round(seconds * rate)) / rate
    return (loud * np.sign(np.sin(2 * np.pi * hz * t + 0.1))).astype(np.int16).tobytes()


def speech(pcm: bytes, context_id: str | None = None, rate: int = RATE) -> list[TTSAudioRawFrame]:
    """Speech as a TTS sends it: 20 ms frames."""
    size = rate // 50 * 2
    return [
        TTSAudioRawFrame(pcm[i : i + size], rate, 1, context_id=context_id) for i in range(0, len(pcm), size)
    ]


def sentence(text: str, context_id: str | None = None) -> TTSTextFrame:
    """Text as a TTS without word times sends it."""
    kind = "text_type" if "text_type" in TTSTextFrame.__dataclass_fields__ else "aggregated_by"  # until 1.12
    frame = TTSTextFrame(text, **{kind: "sentence"})
    frame.context_id = context_id
    return frame


def word(text: str, pts: int, context_id: str | None = None) -> TTSTextFrame:
    """A word as a TTS with word times sends it."""
    frame = sentence(text, context_id)
    frame.pts = pts
    return frame


@contextlib.asynccontextmanager
async def running(
    client: FakeClient | None = None,
    *,
    link_options: dict[str, Any] | None = None,
    transport_ready: bool = True,
    settings: dict[str, Any] | None = None,
    behind: Sequence[FrameProcessor] = (),
    around: Callable[[FrameProcessor], FrameProcessor] = lambda service: service,
    worker_options: dict[str, Any] | None = None,
    **service_options: Any,
) -> AsyncIterator[Bot]:
    """Run a bot with a fake account; whatever way it ends, no session may be left open."""
    service_options["settings"] = AgentHumanVideoService.Settings(**settings or {})
    client = client or FakeClient()
    links: list[InProcessSpeechLink] = []

    clock = asyncio.get_running_loop().time  # which a test may run in virtual time

    def make_link(_: Session, rate: int) -> InProcessSpeechLink:
        links.append(InProcessSpeechLink(audio_sample_rate=rate, clock=clock, **(link_options or {})))
        return links[-1]

    service = AgentHumanVideoService(client=client, link_factory=make_link, **service_options)
    async with running_service(
        service,
        client,
        links,
        transport_ready=transport_ready,
        behind=behind,
        around=around,
        worker_options=worker_options,
    ) as bot:
        yield bot
    assert not client.leaked


@contextlib.asynccontextmanager
async def running_service(
    service: AgentHumanVideoService,
    client: Any = None,
    links: list[InProcessSpeechLink] | None = None,
    *,
    transport_ready: bool = True,
    behind: Sequence[FrameProcessor] = (),
    around: Callable[[FrameProcessor], FrameProcessor] = lambda service: service,
    worker_options: dict[str, Any] | None = None,
) -> AsyncIterator[Bot]:
    """Run a bot around a service that was made elsewhere.

    `behind` comes after the last tap; `around` puts the service into a pipeline in the pipeline.
    """
    up, down = Tap(FrameDirection.UPSTREAM), Tap(FrameDirection.DOWNSTREAM)
    worker = PipelineWorker(
        Pipeline([up, around(service), down, *behind]),
        params=PipelineParams(audio_out_sample_rate=RATE),
        cancel_on_idle_timeout=False,
        **{"enable_rtvi": False, **(worker_options or {})},
    )
    bot = Bot(service, worker, up, down, client, links if links is not None else [])
    _record_events(bot)
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(*_: object) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running_bot = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(WAIT_S):
            await started.wait()
        if transport_ready:
            await down.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)
        yield bot
    finally:
        loop = asyncio.get_running_loop()
        cancelled_at = loop.time()
        await worker.cancel()
        ended, _ = await asyncio.wait(
            [running_bot], timeout=WAIT_S
        )  # the runner swallows a time-out's cancel
        assert ended, "the bot hangs"
        if isinstance(loop, VirtualTimeLoop):  # where waiting costs nothing, nobody else would notice
            assert loop.time() - cancelled_at < SLOW_END_S, "the bot is slow to go"
        running_bot.result()


def _record_events(bot: Bot) -> None:
    @bot.service.event_handler("on_after_process_frame")
    async def on_processed(_: object, frame: Frame) -> None:
        async with bot.happened:
            bot.processed.add(type(frame))
            bot.happened.notify_all()

    for name in list(bot.service._event_handlers):
        if not name.startswith("on_") or name.startswith(("on_before", "on_after")):
            continue

        async def handler(_: object, *arguments: Any, name: str = name) -> None:
            async with bot.happened:
                bot.events.setdefault(name, []).append(arguments)
                bot.happened.notify_all()

        bot.service.add_event_handler(name, handler)
