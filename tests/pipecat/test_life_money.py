"""What a bot's sessions cost: none runs that nobody uses, whatever went wrong when it was opened or ended."""

import asyncio

import pytest
from pipecat.frames.frames import ErrorFrame
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import ServerError
from tests.pipecat.account import Account, minutes_used_up
from tests.pipecat.heard import HeardBot
from tests.virtual_time import in_virtual_time

pytestmark = pytest.mark.usefixtures("quiet_log")


@in_virtual_time
async def test_lost_create_is_ended_while_the_present_avatar_speaks() -> None:
    """A session that a change of avatar opened, and whose answer was lost, does not run on beside the others."""
    account = Account(slots=3)
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        account.lost_answers = 1
        await bot.change(avatar="avat_2")
        await bot.until_event("on_avatar_changed")
        await asyncio.sleep(15)
        assert [opened.avatar for opened in account.running] == ["avat_2"]


@in_virtual_time
async def test_idle_session_is_ended_although_its_end_failed_once() -> None:
    """A session that nobody needs is ended in the silence, not only when somebody speaks again."""
    account = Account()
    account.failing_ends = 1
    async with HeardBot(account, settings={"max_idle_secs": 5.0}) as bot:
        await bot.until_event("on_session_ended")
        assert account.running
        await asyncio.sleep(15)
        assert not account.running


@in_virtual_time
async def test_bot_that_gave_up_ends_what_it_left_behind() -> None:
    """An avatar that is given up is not paid for."""
    account = Account()
    account.failing_ends = 2
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        account.failure = minutes_used_up()
        assert account.books[0].link is not None
        account.books[0].link.leave()
        await bot.until_event("on_gave_up")
        await asyncio.sleep(25)
        assert not account.running


@in_virtual_time
async def test_speech_after_a_silence_asks_at_once() -> None:
    """However long the pauses between the tries had become: who speaks after a silence has an avatar again."""
    account = Account()
    account.failure = ServerError("down", status_code=503, retryable=True)
    async with HeardBot(account, settings={"max_idle_secs": 40.0}) as bot:
        await asyncio.sleep(42)  # the next try would come some seconds later
        account.failure = None
        reply = await bot.say()
        await bot.said()
        assert bot.words_of(reply) == bot.said_by(account.books[0])


@in_virtual_time
@pytest.mark.parametrize("mode", ["proxied", "carried", "direct"])
async def test_silent_bot_does_not_renew(mode: str) -> None:
    """Sessions of ten seconds and a bot that is silent for ten minutes: there is no second session."""
    account = Account(slots=2, session_s=10.0)
    async with HeardBot(account, mode=mode):
        await asyncio.sleep(600)
        assert len(account.books) == 1


@in_virtual_time
async def test_own_session_that_takes_up_the_slot_is_no_full_account() -> None:
    """While a lost session cannot be ended, its slot is not free: part of that failure, and no news of its own."""
    account = Account()
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        account.failing_ends = 3  # when it is lost, and twice before the next one is asked for
        assert account.books[0].link is not None
        account.books[0].link.leave()
        await bot.until_event("on_avatar_connected", 2)
        assert account.refusals
        assert [error.category for error in bot.up.of(ErrorFrame)] == [ErrorCategory.CONNECTIVITY]
