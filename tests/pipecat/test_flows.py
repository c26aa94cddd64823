"""Pipecat Flows with an avatar: actions run when the words before them were said."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pipecat.flows.actions import ActionManager
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.filters.null_filter import NullFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.client import DailyRoom
from tests.pipecat.bot import Tap, running, sentence, speech, tone
from tests.pipecat.transport import Playing
from tests.virtual_time import in_virtual_time

WAIT_S = 30.0  # hang limit of every wait


class Voice(FrameProcessor):
    """A TTS that says everything in 0.3 s."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, TTSSpeakFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(TTSStartedFrame(context_id=frame.text))
        for piece in speech(tone(0.3), frame.text):
            await self.push_frame(piece)
        await self.push_frame(sentence(frame.text, frame.text))
        await self.push_frame(TTSStoppedFrame(context_id=frame.text))


@in_virtual_time
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Flows warns of its own built-in actions
@pytest.mark.parametrize("in_branch", [False, True], ids=["plain", "branch"])
@pytest.mark.parametrize("direct", [False, True], ids=["proxied", "direct"])
async def test_actions_run_when_the_words_before_them_were_said(direct: bool, in_branch: bool) -> None:
    """A function between two sentences runs between them, and the goodbye is said to its end."""
    after, said_before = Tap(FrameDirection.DOWNSTREAM), []
    options: dict[str, Any] = (
        {"room": DailyRoom("https://example.daily.co/room", "token"), "link_options": {"voice": False}}
        if direct
        else {}
    )

    def around(service: FrameProcessor) -> FrameProcessor:
        bot = [Voice(), service]
        return ParallelPipeline(bot, [NullFilter()]) if in_branch else Pipeline(bot)

    async with running(behind=[Playing(), after], around=around, **options) as bot:
        await bot.until_event("on_avatar_connected")
        actions = ActionManager(bot.worker, flow_manager=SimpleNamespace())

        async def note(_action: dict[str, Any], _flow: object) -> None:
            said_before.extend(f.text for f in after.of(TTSTextFrame))

        async with asyncio.timeout(WAIT_S):
            await actions.execute_actions(
                [
                    {"type": "tts_say", "text": "One moment."},
                    {"type": "function", "handler": note},
                    {"type": "tts_say", "text": "Done."},
                    {"type": "end_conversation", "text": "Bye."},
                ]
            )
        await after.until(lambda: after.of(EndFrame))
        assert said_before == ["One moment."]
        assert [f.text for f in after.of(TTSTextFrame)] == ["One moment.", "Done.", "Bye."]
        assert len(bot.events["on_playback_finished"]) == 3
