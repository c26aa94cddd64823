"""The service in the branches of a parallel pipeline or a switcher, and in pipelines in pipelines."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import ServiceSwitcher
from pipecat.processors.filters.frame_filter import FrameFilter
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.filters.null_filter import NullFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.client import DailyRoom
from agenthuman_plugins.pipecat.picture._pump import CAN_SCALE
from tests.pipecat.bot import Tap, running, sentence, tone
from tests.pipecat.transport import Playing
from tests.virtual_time import in_virtual_time

WAIT_S = 30.0  # hang limit of every wait

Around = Callable[[FrameProcessor], FrameProcessor]


def in_branch(service: FrameProcessor) -> FrameProcessor:
    return ParallelPipeline([service], [NullFilter()])


def in_switcher(service: FrameProcessor) -> FrameProcessor:
    return ServiceSwitcher([service, NullFilter()])


def in_branch_of_branch(service: FrameProcessor) -> FrameProcessor:
    return ParallelPipeline(
        [Pipeline([ParallelPipeline([IdentityFilter(), service], [NullFilter()])])], [NullFilter()]
    )


class Through(FrameProcessor):
    """Passes everything, which its class does not tell."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(WAIT_S):
        await event.wait()


def names(tap: Tap, *kinds: type[Frame]) -> list[str]:
    """The frames of some kinds in order, texts as what they say; one name for several in a row of one kind."""
    said = [
        frame.text if isinstance(frame, TTSTextFrame) else type(frame).__name__
        for frame in tap.frames
        if isinstance(frame, kinds)
    ]
    return [name for at, name in enumerate(said) if at == 0 or said[at - 1] != name]


AROUND = [
    pytest.param(in_branch, id="branch"),
    pytest.param(in_switcher, id="switcher"),
    pytest.param(in_branch_of_branch, id="branch of a branch"),
]


@in_virtual_time
@pytest.mark.parametrize("around", AROUND)
async def test_a_goodbye_begins_at_once(around: Around) -> None:
    """Voice and pictures of a goodbye come as the avatar speaks, not when it has spoken and the end may leave."""
    transport, after = Playing(), Tap(FrameDirection.DOWNSTREAM)
    async with running(behind=[transport, after], around=around) as bot:
        await bot.until_event("on_avatar_connected")
        await wait_for(transport.seen)
        pcm = tone(0.6)
        await bot.say(pcm, sentence("good"), tone(0.4), sentence("bye"))
        await bot.send(EndFrame())
        await wait_for(transport.heard)
        shown = len(transport.pictures)
        assert not bot.events.get("on_playback_finished")
        assert not bot.down.of(EndFrame)
        await after.until(lambda: after.of(EndFrame))
        assert len(transport.pictures) - shown >= 15  # of 25 in the second that the goodbye takes
        voice = np.frombuffer(bytes(transport.voice), np.int16)
        assert np.array_equal(np.trim_zeros(voice), np.frombuffer(pcm + tone(0.4), np.int16))
        told = names(after, TTSStartedFrame, BotStartedSpeakingFrame, TTSTextFrame, TTSStoppedFrame, EndFrame)
        assert told == [
            "TTSStartedFrame",
            "BotStartedSpeakingFrame",
            "good",
            "bye",
            "TTSStoppedFrame",
            "EndFrame",
        ]
        # Words and voice pass through two tasks of the transport: whether the last word or this comes first is chance.
        assert names(after, BotStoppedSpeakingFrame, TTSStoppedFrame) == [
            "BotStoppedSpeakingFrame",
            "TTSStoppedFrame",
        ]
        ids = [frame.id for frame in bot.down.frames]
        assert len(ids) == len(set(ids))


@in_virtual_time
async def test_speech_after_the_end_was_announced_still_begins_at_once() -> None:
    """A TTS in the same branch makes the goodbye while the pipeline already holds the end."""

    class Goodbye(FrameProcessor):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, EndFrame):
                await self.push_frame(TTSStartedFrame(context_id="bye"))
                await self.push_frame(TTSAudioRawFrame(tone(0.4), 16_000, 1, context_id="bye"))
                await self.push_frame(TTSStoppedFrame(context_id="bye"))
            await self.push_frame(frame, direction)

    transport = Playing()
    async with running(
        behind=[transport], around=lambda service: ParallelPipeline([Goodbye(), service], [NullFilter()])
    ) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(EndFrame())
        await wait_for(transport.heard)
        assert not bot.events.get("on_playback_finished")
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert np.array_equal(np.trim_zeros(bot.voice()), np.frombuffer(tone(0.4), np.int16))


@in_virtual_time
async def test_with_a_processor_behind_the_avatar_the_rest_is_plain_audio() -> None:
    """What could change or record sound is not passed by: it gets the rest as plain audio, and the end at once."""
    transport, through = Playing(), Through()
    async with running(
        behind=[transport], around=lambda service: ParallelPipeline([service, through], [NullFilter()])
    ) as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(30.0)
        await bot.say(pcm, sentence("good"))
        await bot.until_event("on_playback_started")
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert np.array_equal(np.trim_zeros(bot.voice()), np.frombuffer(pcm, np.int16))
        assert names(bot.down, TTSTextFrame, TTSStoppedFrame, EndFrame) == [
            "good",
            "TTSStoppedFrame",
            "EndFrame",
        ]


@in_virtual_time
@pytest.mark.parametrize("around", AROUND)
async def test_a_goodbye_in_a_branch_can_be_interrupted(around: Around) -> None:
    """The pipeline around keeps the interruption from the branch, but the avatar stops all the same."""
    transport = Playing()
    async with running(behind=[transport], around=around) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(10.0), sentence("unheard"))
        await bot.send(EndFrame())
        await wait_for(transport.heard)
        await bot.up.push_frame(InterruptionFrame())  # the worker sends nothing behind an end
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert len(transport.voice) < 2 * 16_000 * 8
        assert not bot.down.of(TTSTextFrame)
        assert names(bot.down, InterruptionFrame, TTSStoppedFrame, EndFrame) == [
            "InterruptionFrame",
            "TTSStoppedFrame",
            "EndFrame",
        ]


@in_virtual_time
async def test_a_lost_avatar_leaves_its_goodbye_to_plain_audio() -> None:
    """What it has not said comes from the transport, behind what it has said, and before the end."""
    transport = Playing()
    async with running(behind=[transport], around=in_branch) as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(3.0)
        await bot.say(pcm, sentence("bye"))
        await bot.send(EndFrame())
        await wait_for(transport.heard)
        assert not bot.events.get("on_playback_finished")
        bot.links[0].crash("test")
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert abs(len(np.trim_zeros(bot.voice())) - len(pcm) // 2) <= 16_000 // 25
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["bye"]


@in_virtual_time
async def test_what_another_branch_has_passed_is_not_pushed_again() -> None:
    """A text that several branches pass leaves the parallel pipeline once, also while the end is held."""
    async with running(
        behind=[Playing()],
        around=lambda service: ParallelPipeline([service], [FrameFilter(types=(TTSTextFrame,))]),
    ) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3), sentence("once"))
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["once"]


@in_virtual_time
async def test_a_transport_in_the_avatars_branch_is_not_passed_by() -> None:
    """Where the transport is in the branch nothing is held back, and the end finds its way as ever."""
    transport = Playing()
    async with running(
        around=lambda service: ParallelPipeline([service, Pipeline([transport])], [NullFilter()])
    ) as bot:
        await wait_for(transport.seen)
        await bot.say(tone(0.4))
        await bot.send(EndFrame())
        await wait_for(transport.heard)
        assert not bot.events.get("on_playback_finished")
        await bot.down.until(lambda: bot.down.of(EndFrame))
        voice = np.frombuffer(bytes(transport.voice), np.int16)
        assert np.array_equal(np.trim_zeros(voice), np.frombuffer(tone(0.4), np.int16))


@in_virtual_time
async def test_words_of_a_direct_goodbye_come_when_they_were_said() -> None:
    """In direct mode, too, what follows the speech leaves the branch in step with it."""
    async with running(
        room=DailyRoom("https://example.daily.co/room", "token"),
        link_options={"voice": False},
        behind=[Playing()],
        around=in_branch,
    ) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3), sentence("good"), tone(0.5), sentence("bye"))
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))
        assert not bot.events.get("on_playback_finished")
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert names(bot.down, TTSTextFrame, TTSStoppedFrame, EndFrame) == [
            "good",
            "bye",
            "TTSStoppedFrame",
            "EndFrame",
        ]


# Transports in pipelines behind the service

TALL = {"video_out_width": 36, "video_out_height": 48}


@in_virtual_time
@pytest.mark.parametrize(
    "nest",
    [
        pytest.param(lambda out: Pipeline([out]), id="pipeline"),
        pytest.param(
            lambda out: Pipeline([IdentityFilter(), Pipeline([Pipeline([out])])]), id="three pipelines"
        ),
        pytest.param(lambda out: ParallelPipeline([NullFilter()], [out]), id="second branch"),
        pytest.param(
            lambda out: Pipeline([ParallelPipeline([Pipeline([ParallelPipeline([out])])])]),
            id="branch of a branch",
        ),
        pytest.param(
            lambda out: ParallelPipeline([Playing(video_out_enabled=False)], [out]),
            id="beside one without video",
        ),
    ],
)
async def test_a_transport_in_a_pipeline_behind_the_avatar_is_found(
    nest: Callable[[FrameProcessor], FrameProcessor],
) -> None:
    """Its shape is asked for, its size is made, and what waits in it is counted, however deep it is nested."""
    transport = Playing(**TALL)
    async with running(behind=[nest(transport)], around=lambda service: Pipeline([service])) as bot:
        await wait_for(transport.seen)
        assert bot.client.options[0]["aspect_ratio"] == "3:4"
        assert bot.service._picture._backlog is not None
        assert bot.service._picture._backlog._transport is transport
        assert bot.down.of(OutputImageRawFrame)[0].size == ((36, 48) if CAN_SCALE else (64, 48))
