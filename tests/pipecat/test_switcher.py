"""Which avatar of a `ServiceSwitcher` has a session, and when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InterruptionFrame,
    ManuallySwitchServiceFrame,
    OutputImageRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import (
    ServiceSwitcher,
    ServiceSwitcherStrategyFailover,
    ServiceSwitcherStrategyManual,
)
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.client import AuthenticationError, Session
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.pipecat.bot import WAIT_S, Bot, FakeClient, running, sentence, tone
from tests.pipecat.transport import Playing


class OneAtATime(FakeClient):
    """An account with one session at a time: a second one at the same time is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.most_open = 0

    @contextlib.asynccontextmanager
    async def _open(self, **options: Any) -> AsyncIterator[Session]:
        async with super()._open(**options) as session:
            self.most_open = max(self.most_open, len(self.leaked))
            yield session


@dataclass
class Second:
    """The second avatar of the switcher, in another size than the first."""

    service: AgentHumanVideoService
    client: FakeClient
    links: list[InProcessSpeechLink] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


SECOND_SIZE = (32, 24)


def second_avatar(client: FakeClient | None = None, **options: Any) -> Second:
    links: list[InProcessSpeechLink] = []

    def make_link(_: Session, rate: int) -> InProcessSpeechLink:
        width, height = SECOND_SIZE
        links.append(InProcessSpeechLink(audio_sample_rate=rate, width=width, height=height))
        return links[-1]

    client = client or FakeClient()
    second = Second(AgentHumanVideoService(client=client, link_factory=make_link, **options), client, links)

    @second.service.event_handler("on_avatar_connected")
    async def on_connected(_: object) -> None:
        second.connected.set()

    @second.service.event_handler("on_session_ended")
    async def on_ended(_: object, __: str) -> None:
        second.gone.set()

    return second


@contextlib.asynccontextmanager
async def two_avatars(
    second: Second,
    client: FakeClient | None = None,
    *,
    strategy: type[ServiceSwitcherStrategyManual] = ServiceSwitcherStrategyManual,
    wrapped: bool = False,
    **options: Any,
) -> AsyncIterator[tuple[Bot, Playing]]:
    """A bot whose switcher has two avatars, each alone or in a pipeline of its own."""

    def switcher(first: FrameProcessor) -> FrameProcessor:
        members = [first, second.service]
        return ServiceSwitcher([Pipeline([m]) for m in members] if wrapped else members, strategy)

    transport = Playing(video_out_width=SECOND_SIZE[0], video_out_height=SECOND_SIZE[1])
    async with running(client, behind=[transport], around=switcher, **options) as bot:
        yield bot, transport
    assert not second.client.leaked


async def switch_to(bot: Bot, service: FrameProcessor) -> None:
    await bot.send(ManuallySwitchServiceFrame(service=service))


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(WAIT_S):
        await event.wait()


async def test_an_avatar_without_work_has_no_session() -> None:
    """Only the active avatar is billed; after a switch the next one comes, and the one before it ends."""
    second = second_avatar()
    async with two_avatars(second) as (bot, _):
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2), sentence("one"))
        await bot.until_stopped("c1")
        assert not second.client.opened
        await switch_to(bot, second.service)
        await bot.until_event("on_session_ended")
        await wait_for(second.connected)
        assert bot.events["on_avatar_disconnected"] == [("another member of the switcher is active",)]
        await bot.say(tone(0.2), sentence("two"), context_id="c2")
        await bot.until_stopped("c2")
        assert bot.client.opened == bot.client.ended == ["sess_1"]
        assert second.client.opened == ["sess_1"]
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["one", "two"]


async def test_avatars_in_pipelines_of_the_switcher_take_turns_as_well() -> None:
    """A member of the switcher may be a pipeline that holds an avatar."""
    second = second_avatar()
    async with two_avatars(second, wrapped=True) as (bot, _):
        await bot.until_event("on_avatar_connected")
        assert not second.client.opened


async def test_an_account_with_one_session_is_enough() -> None:
    """The next session opens when the one before it has ended, also on the way back."""
    client = OneAtATime()
    second = second_avatar(client)
    async with two_avatars(second, client) as (bot, _):
        await bot.until_event("on_avatar_connected")
        client.end_now.clear()
        await switch_to(bot, second.service)
        await bot.until_event("on_avatar_disconnected")
        assert len(client.opened) == 1
        client.end_now.set()
        await wait_for(second.connected)
        await switch_to(bot, bot.service)
        await bot.until_event("on_avatar_connected", 2)
    assert client.most_open == 1
    assert len(client.opened) == 3


async def test_an_avatar_says_what_it_got_before_it_goes() -> None:
    """A switch in the middle of a reply cuts nothing off, and its session ends behind the last word."""
    second = second_avatar()
    async with two_avatars(second) as (bot, _):
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.5), sentence("one"))
        await bot.until_event("on_playback_started")
        await switch_to(bot, second.service)
        await bot.until_event("on_session_ended")
        assert len(bot.events["on_playback_finished"]) == 1
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["one"]
        assert len(bot.down.of(TTSStoppedFrame)) == 1
        assert abs(len(bot.voice("c1")) - 8_000) < 800


@pytest.mark.parametrize("direction", FrameDirection)
async def test_an_avatar_that_lost_its_turn_is_interrupted_with_the_others(direction: FrameDirection) -> None:
    """It may still be speaking, and the switcher keeps the interruption from it; that goes where it went, once."""
    downstream = direction is FrameDirection.DOWNSTREAM
    second = second_avatar()
    async with two_avatars(second) as (bot, _):
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(10.0), sentence("unheard"))
        await bot.until_event("on_playback_started")
        await switch_to(bot, second.service)
        await (bot.up if downstream else bot.down).push_frame(InterruptionFrame(), direction)
        await bot.until_event("on_session_ended")
        assert not bot.down.of(TTSTextFrame)
        assert len(bot.down.of(InterruptionFrame)) == downstream
        assert len(bot.up.of(InterruptionFrame)) == (not downstream)


async def test_the_face_changes_with_the_switch() -> None:
    """The next avatar is seen as soon as it is connected, though nobody told it that the transport is ready."""
    second = second_avatar()
    async with two_avatars(second) as (bot, transport):
        await bot.until_event("on_first_video_frame")
        await switch_to(bot, second.service)
        await wait_for(second.connected)
        transport.seen.clear()
        await bot.down.until(lambda: bot.down.of(OutputImageRawFrame)[-1].size == SECOND_SIZE)
        assert not bot.voice().size


async def test_an_avatar_that_opens_with_the_first_speech_waits_for_it_after_a_switch_too() -> None:
    """With `connect="first_speech"` the turn alone opens no session."""
    second = second_avatar(connect="first_speech")
    async with two_avatars(second) as (bot, _):
        await bot.until_event("on_avatar_connected")
        await switch_to(bot, second.service)
        await bot.until_event("on_session_ended")
        assert not second.client.opened
        await bot.say(tone(0.2), context_id="c2")
        await wait_for(second.connected)
        await bot.until_stopped("c2")


async def test_without_the_avatar_the_voice_goes_on() -> None:
    """A switcher of an avatar and a filter that passes everything turns the face off and on."""
    off = IdentityFilter()
    async with running(behind=[Playing()], around=lambda service: ServiceSwitcher([service, off])) as bot:
        await bot.until_event("on_avatar_connected")
        await switch_to(bot, off)
        await bot.until_event("on_session_ended")
        await bot.say(pcm := tone(0.3), context_id="c1")
        await bot.until_stopped("c1")
        assert bot.voice("c1").tobytes() == pcm
        await switch_to(bot, bot.service)
        await bot.until_event("on_avatar_connected", 2)


@pytest.mark.parametrize("when", ["at the start", "in a reply"])
async def test_the_next_avatar_takes_over_when_one_is_given_up(when: str) -> None:
    """A failover switcher moves on when an avatar that must not fall back fails; no word and no voice is lost."""
    client = FakeClient(
        AuthenticationError("The key is wrong.", status_code=401) if when == "at the start" else None
    )
    second = second_avatar()
    async with two_avatars(
        second, client, strategy=ServiceSwitcherStrategyFailover, settings={"on_failure": "fail"}
    ) as (bot, _):
        if when == "in a reply":
            await bot.until_event("on_avatar_connected")
            await bot.say(tone(1.0), sentence("one"))
            await bot.until_event("on_playback_started")
            assert not second.client.opened
            bot.links[0].crash("test")
            await bot.until_stopped("c1")
            assert abs(len(bot.voice("c1")) - 16_000) <= 16_000 // 25
        await wait_for(second.connected)
        await bot.say(tone(0.2), sentence("two"), context_id="c2")
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert [f.text for f in bot.down.of(TTSTextFrame)][-1] == "two"
        assert not bot.up.of(ErrorFrame)  # the switcher has dealt with it
        assert second.client.opened == ["sess_1"]
