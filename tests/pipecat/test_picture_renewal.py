"""The picture where one avatar takes over from another."""

import asyncio
from itertools import pairwise

import pytest
from pipecat.frames.frames import Frame, OutputImageRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.pipecat import AgentHumanVideoService, AgentHumanVideoUpdateSettingsFrame
from tests.pipecat.account import Account
from tests.pipecat.bot import running_service, tone
from tests.virtual_time import in_virtual_time

_STANDS_S = 0.2  # at most
_MEDIA_DELAY_S = 0.3  # voice and picture behind the avatar's reports, so that pictures wait for their voice


class _Screen(FrameProcessor):
    """Notes when pictures come."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            self.times.append(asyncio.get_running_loop().time())
        await self.push_frame(frame, direction)

    @property
    def stands_s(self) -> float:
        return max(later - at for at, later in pairwise(self.times))


@in_virtual_time
@pytest.mark.parametrize("in_silence", [True, False], ids=["in-a-silence", "in-mid-reply"])
async def test_picture_goes_on_when_the_next_avatar_takes_over(in_silence: bool) -> None:
    """It stands for a fifth of a second at most, also where the take-over cuts a reply."""
    account = Account(
        slots=2, session_s=None if in_silence else 10.0, link_options={"media_delay_s": _MEDIA_DELAY_S}
    )
    screen = _Screen()
    service = AgentHumanVideoService(client=account, link_factory=account.make_link)
    async with running_service(service, account, behind=[screen]) as bot:
        await bot.until_event("on_avatar_connected")
        if in_silence:
            await bot.say(tone(2.0))
            await bot.until_stopped("c1")
            delta = AgentHumanVideoService.Settings(avatar="avat_2")
            await bot.send(AgentHumanVideoUpdateSettingsFrame(delta=delta))
            await bot.until_event("on_avatar_changed")
        else:
            await bot.say(tone(12.0))
            await bot.until_stopped("c1")
            assert len(account.books) == 2
        await asyncio.sleep(1.0)
        assert screen.stands_s <= _STANDS_S
