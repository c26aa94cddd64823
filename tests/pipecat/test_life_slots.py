"""A full account: the bot speaks on, asks again, and has a face as soon as a slot is free."""

import asyncio

import pytest
from pipecat.utils.errors import ErrorCategory

from tests.pipecat.account import Account
from tests.pipecat.heard import HeardBot
from tests.virtual_time import in_virtual_time

pytestmark = pytest.mark.usefixtures("quiet_log")

_LINK = {"connect_delay_s": 0.5, "width": 2, "height": 2}


async def _reply(bot: HeardBot) -> bool:
    """Say a reply, and tell whether an avatar said it."""
    reply = await bot.say()
    await bot.said()
    return bot.words_of(reply) <= set[int]().union(*map(bot.said_by, bot.account.books))


@in_virtual_time
async def test_bot_that_gave_its_session_back_gets_another_one() -> None:
    """The slot is taken while the bot is silent: all replies are heard, and once it is free the next but one has a face."""
    account = Account(link_options=_LINK)
    async with HeardBot(account, settings={"max_idle_secs": 5.0}) as bot:
        assert await _reply(bot)
        await bot.until_event("on_session_ended")
        account.taken = 1
        assert not any([await _reply(bot) for _ in range(60)])
        assert [error.category for error in bot.errors] == [ErrorCategory.QUOTA]
        account.taken = 0
        assert [await _reply(bot) for _ in range(3)][-1]
        assert len(bot.errors) == 1


@in_virtual_time
@pytest.mark.parametrize("silent_s", [31.0, 120.0])
async def test_slot_that_is_free_in_a_silence(silent_s: float) -> None:
    """A bot that is silent asks now and then, so that its next reply has a face at once."""
    account = Account(link_options=_LINK)
    account.taken = 1
    async with HeardBot(account) as bot:
        assert not await _reply(bot)
        await asyncio.sleep(30)
        account.taken = 0
        await asyncio.sleep(silent_s)
        assert await _reply(bot)


@in_virtual_time
async def test_full_account_is_not_stormed() -> None:
    """Whatever the bot does, it asks at most once a second, now and then in a silence, and not at all after five minutes."""
    account = Account(link_options=_LINK)
    account.taken = 1
    async with HeardBot(account) as bot:
        clock = asyncio.get_running_loop().time
        began = clock()
        while clock() < began + 60:
            await bot.say(1)
            await asyncio.sleep(0.2)
            await bot.interrupt()
        assert len(account.refusals) <= 61
        asked = len(account.refusals)
        await asyncio.sleep(290)
        assert asked + 8 <= len(account.refusals) <= asked + 20
        await asyncio.sleep(20)
        asked = len(account.refusals)
        await asyncio.sleep(1800)
        assert len(account.refusals) == asked


@in_virtual_time
async def test_two_bots_share_one_slot() -> None:
    """Two bots on one account: each speaks on, and the one that waits has the slot when the other gives it back."""
    account = Account(link_options=_LINK)
    settings = {"max_idle_secs": 5.0}
    async with HeardBot(account, settings=settings) as first:
        await first.until_event("on_avatar_connected")
        async with HeardBot(account, settings=settings) as second:
            for _ in range(30):
                await second.say(1)
                await second.said()
            assert first.events["on_session_ended"]
            assert second.events["on_fallback_ended"]
        assert account.most_at_once == 1
