"""The passages of an avatar's life, and something else at each moment of them: all is heard, told and billed right.

The walk meets such moments by chance; here none is left out: `make campaign` takes steps of 50 ms over the whole start,
change and renewal, the normal run one moment of some cases.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pipecat.frames.frames import EndFrame, StopFrame

from agenthuman_plugins.client import ServerError
from tests import virtual_time
from tests.pipecat.account import Account
from tests.pipecat.heard import HeardBot

_LINK = {"connect_delay_s": 0.5, "media_delay_s": 0.2, "width": 2, "height": 2}
_CREATE_S = 0.4
_SESSION_S = 24.0
_MOMENTS = [round(0.05 * step, 2) for step in range(48)]  # create, join, the end of the reply: 2.2 s

pytestmark = pytest.mark.usefixtures("quiet_log")

Incident = Callable[[HeardBot], Awaitable[None]]


def _lose(which: int) -> Incident:
    async def lose(bot: HeardBot) -> None:
        """One of the avatars leaves."""
        links = [opened.link for opened in bot.account.running if opened.link and opened.link.present]
        if links:
            links[min(which, len(links) - 1)].leave()

    return lose


async def _interrupt(bot: HeardBot) -> None:
    await bot.interrupt()


async def _cancel(bot: HeardBot) -> None:
    await bot.cancel()


async def _end(bot: HeardBot) -> None:
    await bot.leave(EndFrame())


async def _stop_and_begin(bot: HeardBot) -> None:
    await bot.leave(StopFrame())
    await bot.begin()


async def _say_more(bot: HeardBot) -> None:
    await bot.say(2)


async def _change_again(bot: HeardBot) -> None:
    await bot.change(avatar="avat_3")


async def _fill(bot: HeardBot) -> None:
    bot.account.taken = bot.account.slots


async def _go_down(bot: HeardBot) -> None:
    bot.account.failure = ServerError("down", status_code=503, retryable=True)


async def _lose_answers(bot: HeardBot) -> None:
    bot.account.lost_answers = 1


INCIDENTS: dict[str, Incident] = {
    "the present avatar is lost": _lose(0),
    "the next avatar is lost": _lose(1),
    "the user interrupts": _interrupt,
    "the bot is cancelled": _cancel,
    "the bot ends": _end,
    "the bot stops and runs again": _stop_and_begin,
    "the bot says more": _say_more,
    "another avatar is chosen": _change_again,
    "the account is full": _fill,
    "the service is down": _go_down,
    "an answer is lost": _lose_answers,
}


async def _start(bot: HeardBot) -> None:
    """The bot speaks before its avatar is there."""
    await bot.say(6)


async def _change(bot: HeardBot) -> None:
    """Another avatar is chosen while the bot speaks."""
    await bot.until_event("on_avatar_connected")
    await bot.say(6)
    await bot.change(avatar="avat_2")


async def _renew(bot: HeardBot) -> None:
    """The session comes to its limit, and the bot speaks."""
    await bot.until_event("on_avatar_connected")
    await asyncio.sleep(_SESSION_S * 3 / 4 - 1.0)  # the next one is made ready in the last quarter
    await bot.say(6)


PASSAGES = {"start": _start, "change": _change, "renewal": _renew}


async def _pass(passage: Incident, incident: Incident, after_s: float, mode: str, slots: int) -> None:
    account = Account(slots=slots, session_s=_SESSION_S if passage is _renew else None, link_options=_LINK)
    account.create_s = _CREATE_S
    async with HeardBot(account, mode=mode) as bot:
        bot.note(f"the incident comes after {after_s} s")
        await passage(bot)
        await asyncio.sleep(after_s)
        await incident(bot)
        if not bot.is_running:
            return
        await bot.said()
        account.taken, account.failure = 0, None
        await asyncio.sleep(40)
        replies = []
        for _ in range(3):  # one of them may be where two sessions meet
            replies.append(await bot.say(3))
            await bot.said()
        said = set[int]().union(*map(bot.said_by, account.running))
        assert any(bot.words_of(reply) <= said for reply in replies)
        chosen = "avat_3" if incident is _change_again else "avat_2" if passage is _change else None
        assert account.running[-1].avatar == chosen
        assert len(account.running) <= slots


_CASES = [
    pytest.param(passage, incident, mode, slots, id=f"{passage}-{incident}-{mode}-{slots}")
    for passage in PASSAGES
    for incident in INCIDENTS
    for mode, slots in (("proxied", 2), ("proxied", 1), ("carried", 2), ("direct", 2))
]


@pytest.mark.parametrize("passage", PASSAGES)
def test_incident_at_some_moments(passage: str) -> None:
    """No word is lost or heard twice, no session is left, and the chosen avatar speaks in the end."""
    # Every third case: each incident in one of the four ways at least.
    for number, case in enumerate(_CASES[::3]):
        name, incident, mode, slots = case.values
        if name == passage:
            after_s = _MOMENTS[7 * number % len(_MOMENTS)]
            virtual_time.run(_pass(PASSAGES[passage], INCIDENTS[incident], after_s, mode, slots))


@pytest.mark.campaign
@pytest.mark.parametrize(("passage", "incident", "mode", "slots"), _CASES)
def test_incident_at_each_moment(passage: str, incident: str, mode: str, slots: int) -> None:
    """The same, at all of them."""
    for after_s in _MOMENTS:
        virtual_time.run(_pass(PASSAGES[passage], INCIDENTS[incident], after_s, mode, slots))
