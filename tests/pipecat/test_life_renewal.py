"""Sessions end by the plan's limit: a conversation goes on over many of them, and nobody hears it."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import EndFrame

from tests.pipecat.account import Account, Opened
from tests.pipecat.heard import HeardBot
from tests.virtual_time import in_virtual_time

_LINK = {"connect_delay_s": 1.0, "media_delay_s": 0.2, "width": 2, "height": 2}
_MINUTES = 1.25  # two sessions and a half, of thirty seconds

pytestmark = pytest.mark.usefixtures("quiet_log")


async def _talk(bot: HeardBot, minutes: float, *, interrupt: bool) -> list[str]:
    """Talk without a pause, in replies of 5 s, with an interruption every 7 s; return the replies that were not cut."""
    clock, loop_end = asyncio.get_running_loop().time, asyncio.get_running_loop().time() + minutes * 60
    whole, count = [], 0
    while clock() < loop_end:
        count += 1
        reply = await bot.say(14)
        if interrupt and count % 2:
            await asyncio.sleep(2.0)
            await bot.interrupt()
        else:
            await bot.said()
            whole.append(reply)
    return whole


def _without_avatar(bot: HeardBot, replies: list[str]) -> set[int]:
    said = set[int]().union(*map(bot.said_by, bot.account.books))
    return set[int]().union(*map(bot.words_of, replies)) - said


def _holes_s(books: list[Opened]) -> list[float]:
    """For how long there was no session between each one and the next."""
    ends = [opened.ended_at or 0.0 for opened in books]
    return [max(0.0, after.opened_at - end) for after, end in zip(books[1:], ends, strict=False)]


@in_virtual_time
@pytest.mark.parametrize(
    ("mode", "clock_off_s"), [("proxied", 0.0), ("proxied", 3600.0), ("carried", -3600.0)]
)
async def test_talk_over_sessions_of_thirty_seconds(mode: str, clock_off_s: float) -> None:
    """With a second slot every word is the avatar's, without a hole in a reply, whatever the service's clock says."""
    account = Account(slots=2, session_s=30.0, clock_off_s=clock_off_s, link_options=_LINK)
    account.create_s = 0.5
    async with HeardBot(account, mode=mode) as bot:
        await bot.until_event("on_avatar_connected")
        whole = await _talk(bot, _MINUTES, interrupt=True)
        await bot.leave(EndFrame())
        assert len(account.books) >= _MINUTES * 60 / 30
        assert not account.ended_by("limit")
        assert not _without_avatar(bot, whole)
        assert bot.longest_hole_s(*whole) <= 0.05
        assert not bot.errors


@in_virtual_time
@pytest.mark.parametrize("mode", ["proxied", "carried", "direct"])
async def test_talk_with_one_slot(mode: str) -> None:
    """With one slot the old session ends first, in a silence; the voice goes on as plain audio and nothing is lost."""
    account = Account(slots=1, session_s=30.0, link_options=_LINK)
    account.create_s = 0.5
    async with HeardBot(account, mode=mode) as bot:
        await bot.until_event("on_avatar_connected")
        whole = await _talk(bot, _MINUTES, interrupt=True)
        await bot.leave(EndFrame())
        assert not account.ended_by("limit")
        assert bot.longest_hole_s(*whole) <= 0.2
        assert not bot.errors
        assert max(_holes_s(account.books)) <= 10.0  # a reply that began as plain audio is said so to its end


@in_virtual_time
@pytest.mark.parametrize("slots", [1, 2])
async def test_one_reply_over_many_sessions(slots: int) -> None:
    """A monologue of two minutes without a silence is heard whole, once and in order, over sessions of thirty seconds."""
    account = Account(slots=slots, session_s=30.0, link_options=_LINK)
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        reply = await bot.say(333, pace_s=0.3)
        await bot.said()
        assert bot.longest_hole_s(reply) <= 0.2
        assert not bot.errors


@in_virtual_time
@pytest.mark.parametrize(
    "trouble", [{"create_s": 30.0}, {"taken": 1}, {"lost_answers": 2}, {"failing_ends": 1}], ids=str
)
async def test_renewal_under_trouble(trouble: dict[str, Any]) -> None:
    """A next session that is slow, refused or lost on its way costs the face for a while, and no word."""
    account = Account(slots=2, session_s=60.0, link_options=_LINK)
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        for name, value in trouble.items():
            setattr(account, name, value)
        whole = await _talk(bot, 2.5, interrupt=False)
        await bot.leave(EndFrame())
        assert len(account.books) >= 3
        assert bot.longest_hole_s(*whole) <= 0.2


@in_virtual_time
@pytest.mark.parametrize("slots", [1, 2])
async def test_end_of_a_useless_next_session_is_not_waited_for(slots: int) -> None:
    """A next avatar that does not come in time keeps the present session beyond its limit by no slow answer."""
    account = Account(slots=slots, session_s=60.0, link_options=_LINK)
    account.end_s = 1.5
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        account.link_options["connect_delay_s"] = (
            16.0  # more than what is left when the next one is asked for
        )
        whole = await _talk(bot, 2.5, interrupt=False)
        await bot.leave(EndFrame())
        assert len(account.books) >= 3
        assert account.most_at_once == slots
        assert not account.ended_by("limit")
        assert not account.refusals or slots == 1
        assert bot.longest_hole_s(*whole) <= 0.2
        assert not bot.errors


@in_virtual_time
async def test_choice_that_changes_during_a_renewal_keeps_no_session_beyond_its_limit() -> None:
    """The next session, of the avatar that is not wanted any more, ends beside the present one, however slowly."""
    account = Account(slots=2, session_s=60.0, link_options=_LINK)
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        account.link_options["connect_delay_s"] = 16.0
        talking = asyncio.create_task(_talk(bot, 1.5, interrupt=False))
        await bot.until_event("on_session_started", 2)
        account.end_s = 30.0
        await bot.change(avatar="avat_other")
        await asyncio.sleep(12.0)
        account.end_s = 0.05  # of the present one
        whole = await talking
        await bot.leave(EndFrame())
        assert account.books[0].ended_by == "client"
        assert account.books[-1].avatar == "avat_other"
        assert bot.longest_hole_s(*whole) <= 0.2
        assert not bot.errors
