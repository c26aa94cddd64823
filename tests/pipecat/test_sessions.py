"""Sessions are billed: when one is opened, and that each is ended."""

import asyncio
import os
import signal
from typing import Any

import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    FunctionCallResultFrame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.pipecat.bot import RATE, WAIT_S, FakeClient, running, sentence, tone


def _service(client: FakeClient, **options: Any) -> AgentHumanVideoService:
    return AgentHumanVideoService(
        client=client,  # type: ignore[arg-type]  # all that it uses
        link_factory=lambda _, rate: InProcessSpeechLink(audio_sample_rate=rate),
        **options,
    )


class _Trouble(FrameProcessor):
    """Another processor of the pipeline, which fails as told."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    async def setup(self, setup: FrameProcessorSetup) -> None:
        await super().setup(setup)
        if self._where == "setup hangs":
            await asyncio.Event().wait()
        if self._where == "setup raises":
            raise RuntimeError("test")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if self._where == "frame raises" and isinstance(frame, TTSAudioRawFrame):
            raise RuntimeError("test")
        await self.push_frame(frame, direction)


async def _run(worker: PipelineWorker, *, until: asyncio.Event | None = None, **runner_options: Any) -> None:
    """Run a bot until it ends by itself, or cancel it at an event."""
    runner = WorkerRunner(handle_sigint=False, **runner_options)
    await runner.add_workers(worker)
    running_bot = asyncio.create_task(runner.run())
    try:
        if until is not None:
            async with asyncio.timeout(WAIT_S):
                await until.wait()
            await worker.cancel()
    finally:
        done, _ = await asyncio.wait([running_bot], timeout=WAIT_S)
        assert done, "the bot hangs"


def _opened(service: AgentHumanVideoService) -> asyncio.Event:
    opened = asyncio.Event()

    @service.event_handler("on_session_started")
    async def on_session(*_: object) -> None:
        opened.set()

    return opened


@pytest.mark.parametrize("trouble", ["setup raises", "setup hangs", "frame raises"])
async def test_trouble_elsewhere_leaves_no_session(trouble: str) -> None:
    """Whatever fails around the service, before the pipeline has started or later, its session is ended."""
    client = FakeClient()
    service = _service(client)
    opened = _opened(service)
    worker = PipelineWorker(
        Pipeline([service, _Trouble(trouble)]),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
        setup_timeout_secs=0.5,
    )
    if trouble == "setup hangs":
        await _run(worker)
    else:
        await _run(worker, until=opened)
    assert client.opened == client.ended == ["sess_1"]


async def test_task_time_out_leaves_no_session() -> None:
    """A pipeline that Pipecat cancels because it is idle ends the session."""
    client = FakeClient()
    worker = PipelineWorker(Pipeline([_service(client)]), idle_timeout_secs=0.3, enable_rtvi=False)
    await _run(worker)
    assert client.opened == client.ended == ["sess_1"]


async def test_sigterm_leaves_no_session() -> None:
    """A bot whose runner handles SIGTERM ends its session before it exits."""
    client = FakeClient()
    service = _service(client)
    opened = _opened(service)
    worker = PipelineWorker(Pipeline([service]), cancel_on_idle_timeout=False, enable_rtvi=False)

    async def terminate() -> None:
        await opened.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    killer = asyncio.create_task(terminate())
    await _run(worker, handle_sigterm=True)
    await killer
    assert client.opened == client.ended == ["sess_1"]


async def test_session_waits_for_the_first_speech() -> None:
    """With connect="first_speech" nothing is billed before the bot speaks; that speech is held for the avatar."""
    client = FakeClient()
    async with running(client, connect="first_speech") as bot:
        await bot.send(sentence("hello"))
        await bot.until_processed(type(sentence("hello")))
        assert not client.options
        await bot.say(tone(0.2))
        await bot.until_event("on_playback_finished")
        assert client.opened == ["sess_1"]


async def test_bot_that_never_speaks_opens_no_session() -> None:
    """With connect="first_speech" a bot that ends unheard costs nothing."""
    client = FakeClient()
    async with running(client, connect="first_speech") as bot:
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
    assert not client.options


async def test_idle_session_is_ended_and_the_next_speech_opens_another() -> None:
    """After max_idle_secs without speech nobody is billed; it is no failure, and the avatar comes back on demand."""
    async with running(settings={"max_idle_secs": 0.3}) as bot:
        await bot.say(tone(0.6))  # longer than that, and not idle
        await bot.until_event("on_playback_finished")
        await bot.until_event("on_session_ended")
        assert bot.client.opened == bot.client.ended == ["sess_1"]
        await bot.say(tone(0.2), context_id="c2")
        await bot.until_event("on_playback_finished", 2)
        assert bot.client.opened == ["sess_1", "sess_2"]
        assert not bot.up.of(ErrorFrame)
        assert not bot.events.get("on_fallback_started")


async def test_fifty_rapid_interruptions_leave_nothing_stuck() -> None:
    """After any number of interruptions, in any state, the next reply plays whole and nothing else is heard."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        for number in range(50):
            if number % 3:
                await bot.say(tone(1.0), context_id=f"old{number}")
            if number % 5 == 0:
                await asyncio.sleep(0.02)  # sometimes the avatar has begun
            await bot.send(InterruptionFrame())
        # Interruptions overtake speech on its way to the service: the last one must come behind all of it.
        await bot.send(FunctionCallResultFrame("f", "call", {}, "result"))
        await bot.until_processed(FunctionCallResultFrame)
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: len(bot.down.of(InterruptionFrame)) == 51)
        pcm = tone(0.2, hz=700)
        await bot.say(pcm, context_id="new")
        await bot.until_stopped("new")
        assert bot.voice("new")[: len(pcm) // 2].tobytes() == pcm
        assert bot.service._delivery.idle
        assert not bot.up.of(ErrorFrame)


async def test_idle_interruption_sends_nothing() -> None:
    """With nothing in flight an interruption reaches neither the avatar nor the books."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        told: list[str] = []

        async def interrupt() -> None:
            told.append("interrupt")

        bot.links[0].interrupt = interrupt  # type: ignore[method-assign]
        await bot.send(InterruptionFrame())
        await bot.say(tone(0.1))
        await bot.until_stopped("c1")
        await bot.send(InterruptionFrame())
        await bot.say(tone(0.1), context_id="c2")
        await bot.until_stopped("c2")
        assert not told


async def test_programmatic_interruption_stops_the_avatar() -> None:
    """An interruption that a processor broadcasts counts like the user's."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(3.0), sentence("unheard"))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.down.broadcast_interruption()
        await bot.until_event("on_playback_finished")
        await bot.say(tone(0.1), context_id="c2")
        await bot.until_stopped("c2")
        assert len([f for f in bot.down.of(TTSStoppedFrame) if f.context_id == "c2"]) == 1
        assert len(bot.voice("c1")) < RATE
