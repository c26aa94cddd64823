"""The conversation of one browser: its pipeline, and what page and pipeline tell each other."""

import asyncio
from typing import Any

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import ErrorFrame, InterruptionFrame, LLMMessagesAppendFrame, TTSSpeakFrame
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
    UserTurnStoppedMessage,
)
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies

from agenthuman_plugins.demo._assistant import GREETING, make_assistant, make_ears
from agenthuman_plugins.demo._call import Call, CallTransport
from agenthuman_plugins.demo._captions import Captions, Message
from agenthuman_plugins.demo._services import Services
from agenthuman_plugins.demo._tts import OfflineTTSService
from agenthuman_plugins.demo._worker import make_transport_params, make_worker, running
from agenthuman_plugins.emulator.voice import Voice

_CONNECT_TIMEOUT_S = 15.0  # for the browser, from its offer to the first media
_PING_TIMEOUT_S = 6.0  # the page pings every second; a hidden tab may be slowed down
_WATCH_S = 0.5
_MAX_TEXT = 500  # characters that the page may send at once

LEFT = "The page has left."
_SILENT = "The avatar has left, because this page was not heard of for some seconds."
_FAILED = "The conversation has failed; the demo's terminal may say why."


class Conversation:
    """One browser's talk with the avatar, from its offer until it leaves.

    Args:
        connection: The browser.
        services: Where the avatar comes from.
        voice: Speaks the replies.
        opening: What the avatar says first; `None` takes a greeting.
    """

    def __init__(self, connection: Call, services: Services, voice: Voice, opening: str | None) -> None:
        self._connection = connection
        self._services = services
        self._voice = voice
        self._opening: str | None = opening or GREETING
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._farewell: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait_over(self, *, timeout_s: float) -> bool:
        """Wait until the browser has left or the conversation was ended; `False` if it still goes on."""
        await asyncio.wait([self._farewell], timeout=timeout_s)
        return self._farewell.done()

    def end(self, farewell: str) -> None:
        """Let `run` come to its end; only the first call counts.

        Args:
            farewell: Sentence for the page, if it is still there.
        """
        if not self._farewell.done():
            self._farewell.set_result(farewell)

    async def run(self) -> None:
        """Talk until the browser has left or `end` was called. The avatar's session is ended on every way out."""
        try:
            vad = await asyncio.to_thread(SileroVADAnalyzer)  # loads a model
            worker = self._make_worker(vad)
            async with running(worker) as pipeline:
                await self._converse(worker, pipeline)
        finally:
            self.end(_FAILED)
            await self._connection.disconnect()  # type: ignore[no-untyped-call]

    async def _converse(self, worker: PipelineWorker, pipeline: asyncio.Task[None]) -> None:
        duties = {asyncio.create_task(self._watch()), asyncio.create_task(self._serve_page(worker))}
        ends: set[asyncio.Future[Any]] = {self._farewell, pipeline, *duties}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
        finally:
            self.end(_FAILED)
            self._tell({"type": "ended", "text": self._farewell.result()})
            for duty in duties:
                duty.cancel()
            await asyncio.wait(duties)

    def _make_worker(self, vad: SileroVADAnalyzer) -> PipelineWorker:
        ears = make_ears()
        avatar = self._services.make_avatar()
        transport = CallTransport(self._connection, make_transport_params(audio_in=True))
        turns = LLMUserAggregatorParams(
            vad_analyzer=vad,
            user_turn_strategies=UserTurnStrategies(
                start=[VADUserTurnStartStrategy()],
                stop=[SpeechTimeoutUserTurnStopStrategy(wait_for_transcript=ears is not None)],
            ),
        )
        if ears is None:
            turns.empty_user_turn = None  # every turn is empty: nobody hears words
        context = LLMContextAggregatorPair(LLMContext(), user_params=turns)
        worker = make_worker(
            [
                transport.input(),
                *([ears] if ears else []),
                context.user(),
                make_assistant(),
                OfflineTTSService(self._voice),
                avatar,
                transport.output(),
                Captions(self._tell, avatar_name=avatar.name),
                context.assistant(),
            ]
        )
        transport.add_event_handler("on_app_message", self._on_message)
        transport.add_event_handler("on_client_disconnected", self._on_client_gone)
        avatar.add_event_handler("on_avatar_connected", self._on_avatar_connected)
        avatar.add_event_handler("on_avatar_disconnected", self._on_avatar_disconnected)
        context.user().add_event_handler("on_user_turn_started", self._on_user_turn_started)
        context.user().add_event_handler("on_user_turn_stopped", self._on_user_turn_stopped)
        worker.add_event_handler("on_pipeline_error", self._on_error)
        return worker

    async def _watch(self) -> None:
        """Notice a browser that is gone without a word: its pings stay away."""
        loop = asyncio.get_running_loop()
        seen, limit = loop.time(), _CONNECT_TIMEOUT_S
        while loop.time() - seen < limit:
            await asyncio.sleep(_WATCH_S)
            if self._connection.is_connected():
                seen, limit = loop.time(), _PING_TIMEOUT_S
        self.end(_SILENT)

    async def _serve_page(self, worker: PipelineWorker) -> None:
        """Do what the page asks for, one thing after the other."""
        while True:
            match await self._inbox.get():
                case {"type": "sound"} if self._opening:  # the user hears from now on
                    await worker.queue_frame(TTSSpeakFrame(self._opening))
                    self._opening = None
                case {"type": "text", "text": str(text)} if text.strip():
                    self._opening = None
                    await worker.queue_frame(InterruptionFrame())
                    # What was heard of the reply before must be in the context ahead of the new message.
                    await worker.flush_pipeline()
                    message: Any = {"role": "user", "content": text.strip()[:_MAX_TEXT]}
                    await worker.queue_frame(LLMMessagesAppendFrame([message], run_llm=True))
                case {"type": "interrupt"}:
                    await worker.queue_frame(InterruptionFrame())
                case _:
                    pass

    def _tell(self, message: Message) -> None:
        self._connection.send_app_message(message)

    async def _on_message(self, _: object, message: Message, __: str) -> None:
        self._inbox.put_nowait(message)

    async def _on_client_gone(self, *_: object) -> None:
        self.end(LEFT)

    async def _on_avatar_connected(self, *_: object) -> None:
        self._tell({"type": "avatar", "here": True})

    async def _on_avatar_disconnected(self, *_: object) -> None:
        self._tell({"type": "avatar", "here": False})

    async def _on_user_turn_started(self, *_: object) -> None:
        self._tell({"type": "hearing", "on": True})

    async def _on_user_turn_stopped(self, _: object, __: object, message: UserTurnStoppedMessage) -> None:
        self._tell({"type": "hearing", "on": False, "text": message.content or ""})

    async def _on_error(self, _: PipelineWorker, frame: ErrorFrame) -> None:
        self._tell({"type": "error", "text": frame.error})
