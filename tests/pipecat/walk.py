"""A walk through the life of a bot's avatar, made from a seed, in virtual time.

A bot is led through steps that a seed chose: it speaks, is interrupted, loses its avatar, is refused one, and so on.
What must hold whatever happens is in `tests.pipecat.heard`, and how often the bot may be told of trouble is here.

What the model leaves out: the machine is never busy and threads take no time (see `tests.virtual_time`); the avatar's
sound is exactly what was sent, without codec, jitter or made-up sound, and its reports do not overtake it; the client's
own retries and the wire (see `tests.pipecat.account`); pictures; several bots on one account, but for slots that are
taken; other processors than the transport; frames other than speech; texts and their times. The other tests, the
fault matrix and the soak have those.
"""

import asyncio
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import EndFrame, StopFrame

from agenthuman_plugins.client import ServerError
from tests.pipecat.account import Account, minutes_used_up
from tests.pipecat.heard import HeardBot

_MODES = ("proxied", "proxied", "carried", "direct")
_CAP_SLACK_S = 11.0  # an end that fails is tried again after 10 s
_USELESS_SESSIONS = 5  # in a row, after which an avatar is given up
_AVATARS = ("avat_1", "avat_2", "avat_3", "avat_refused")
_WEIGHTS = {
    "speak": 12,
    "interrupt": 4,
    "said": 4,
    "lose": 3,
    "take_slot": 2,
    "refuse": 2,
    "use_up": 0.2,
    "slow_create": 1,
    "failing_end": 1,
    "lost_answer": 1,
    "change": 2,
    "stop": 1,
    "end": 1,
    "wait": 2,
    "wait_long": 0.5,
}


@dataclass(frozen=True)
class Plan:
    """What a seed chose.

    Attributes:
        steps: Name of each step, its argument from 0 to 1, and the pause behind it in seconds.
    """

    seed: int
    mode: str
    connect: str
    slots: int
    session_s: float | None
    clock_off_s: float
    settings: dict[str, Any]
    link_options: dict[str, Any]
    steps: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        """The plan of a seed, always the same."""
        chance = random.Random(seed)
        names, weights = zip(*_WEIGHTS.items(), strict=True)
        return cls(
            seed=seed,
            mode=chance.choice(_MODES),
            connect=chance.choice(("start", "start", "first_speech")),
            slots=chance.choice((1, 1, 2, 3)),
            session_s=chance.choice((None, 20.0, 45.0, 120.0)),
            clock_off_s=chance.choice((0.0, -3600.0, 3600.0)),
            settings={
                "avatar_wait_s": chance.choice((0.5, 3.0)),
                "no_audio_timeout_s": chance.choice((1.0, 3.0)),
                "max_idle_secs": chance.choice((None, None, 8.0)),
                "renew_before_s": chance.choice((60.0, 5.0)),
                "max_session_secs": chance.choice((None, None, None, 60.0)),
                "slot_wait_s": chance.choice((None, None, 20.0)),
            },
            link_options={
                "fps": 25,  # as a link delivers: a gate is no finer than a block of sound
                "width": 2,
                "height": 2,
                "connect_delay_s": chance.choice((0.1, 0.5, 2.0)),
                "media_delay_s": chance.choice((0.0, 0.2)),
                "reports_starts": chance.random() < 0.8,
                "reports_per_utterance": chance.choice((1, 1, 1, 0, 2)),
            },
            steps=tuple(
                (name, chance.random(), round(chance.choice((0.05, 0.4, 1.0, 2.0, 4.0)) * chance.random(), 3))
                for name in chance.choices(names, weights, k=chance.randint(8, 24))
            ),
        )


class Walk:
    """A bot that is led through a plan.

    Attributes:
        losses: How often its avatar was taken away.
        choice: The avatar that was chosen last; `None` if that may be refused, and the one before it stays. One that keeps
            failing gives way, too, which is told.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.account = Account(
            slots=plan.slots,
            session_s=plan.session_s,
            clock_off_s=plan.clock_off_s,
            crash_at_limit=plan.seed % 2 == 0,
            link_options=plan.link_options,
        )
        self.account.refused_avatars.add("avat_refused")
        self.bot = HeardBot(self.account, mode=plan.mode, settings=plan.settings, connect=plan.connect)
        self.losses = 0
        self.choice: str | None = None

    async def go(self) -> None:
        """Take all steps, let everything come to its end, and check what must hold."""
        async with self.bot as bot:
            for name, argument, pause_s in self.plan.steps:
                bot.note(f"{name} {argument:.2f}")
                await getattr(self, f"_{name}")(argument)
                await asyncio.sleep(pause_s)
            await self._finish()
        if wrong := [*self._wrong_errors(), *self._wrong_costs()]:
            raise AssertionError("\n".join([*wrong, *bot.trace]))

    async def _finish(self) -> None:
        """Let the service recover, say a last reply, and end."""
        account = self.account
        account.taken, account.failure, account.create_s, account.failing_ends = 0, None, 0.0, 0
        await self.bot.said()
        await asyncio.sleep(70)  # longer than any pause between two tries
        replies = []
        for _ in range(8):
            replies.append(await self.bot.say(2))
            await self.bot.said()
            await asyncio.sleep(5)
        by_avatars = set[int]().union(*map(self.bot.said_by, account.books))
        if not self.bot.events["on_gave_up"]:
            assert any(self.bot.words_of(reply) <= by_avatars for reply in replies), "no avatar comes back"
            dropped = any(
                error.error.startswith(f"The avatar stays: {self.choice!r}") for error in self.bot.errors
            )
            assert not self.choice or dropped or self.choice == account.books[-1].avatar, (
                "another avatar than the chosen one"
            )
        else:
            reasons = {"use_up", "change"} & {name for name, *_ in self.plan.steps}
            reasons |= {name for name in ("max_session_secs", "slot_wait_s") if self.plan.settings[name]}
            assert reasons or self.losses >= _USELESS_SESSIONS, "given up without a reason"
        if self.plan.seed % 3:
            await self.bot.leave(EndFrame())
        else:  # after which Pipecat cannot run the pipeline again
            await self.bot.cancel()

    def _wrong_errors(self) -> Iterator[str]:
        told = [error.error for error in self.bot.errors]
        if len(told) > self._count_failures():
            yield f"{len(told)} errors for {self._count_failures()} failures: {told}"

    def _wrong_costs(self) -> Iterator[str]:
        cap_s = self.plan.settings["max_session_secs"]
        bounds = itertools.pairwise([*self.bot.begun_at, math.inf])
        for begin, end in bounds:
            run = [opened for opened in self.account.books if begin <= opened.opened_at < end]
            open_s = sum((opened.ended_at or math.inf) - opened.opened_at for opened in run if opened.link)
            if cap_s is not None and open_s > cap_s + _CAP_SLACK_S:
                yield f"the sessions of a run lasted {open_s:.0f} s, and the cap is {cap_s:g} s"

    def _count_failures(self) -> int:
        """Everything that a bot can be told of."""
        taken = [name for name, *_ in self.plan.steps]
        asked_for = taken.count("lost_answer") + taken.count("failing_end")
        asked_for += sum("max_session_secs" in reason for (reason,) in self.bot.events["on_gave_up"])
        return self.losses + len(self.account.refusals) + len(self.account.ended_by("limit")) + asked_for

    # The steps

    async def _speak(self, argument: float) -> None:
        """A reply of one to six words: made at once, or little by little, faster than it is spoken."""
        await self.bot.say(1 + int(argument * 6), pace_s=0.0 if argument * 10 % 1 < 0.5 else 0.1)

    async def _interrupt(self, _: float) -> None:
        await self.bot.interrupt()

    async def _said(self, _: float) -> None:
        await self.bot.said()

    async def _lose(self, argument: float) -> None:
        """The avatar leaves, or the room is lost."""
        for opened in self.account.running:
            if opened.link is not None and opened.link.present:
                self.losses += 1
                opened.link.leave(crash=argument < 0.5)

    async def _take_slot(self, argument: float) -> None:
        """Somebody else uses so many slots from now on."""
        self.account.taken = int(argument * (self.account.slots + 1))

    async def _refuse(self, argument: float) -> None:
        """The service is down for creates, or up again."""
        is_up = argument < 0.6
        self.account.failure = None if is_up else ServerError("down", status_code=503, retryable=True)

    async def _slow_create(self, argument: float) -> None:
        """Creates take so long from now on."""
        self.account.create_s = round(argument * 6)

    async def _failing_end(self, _: float) -> None:
        """The next end fails; another try works."""
        self.account.failing_ends = 1

    async def _lost_answer(self, _: float) -> None:
        self.account.lost_answers += 1

    async def _use_up(self, _: float) -> None:
        """There are no minutes left, and none will be."""
        self.choice = None
        self.account.failure = minutes_used_up()

    async def _change(self, argument: float) -> None:
        """Another avatar, or the same."""
        avatar = _AVATARS[int(argument * len(_AVATARS))]
        is_sure = avatar not in self.account.refused_avatars and self.account.failure is None
        self.choice = avatar if is_sure else None
        await self.bot.change(avatar=avatar)

    async def _stop(self, _: float) -> None:
        """Stop, and run again."""
        await self.bot.leave(StopFrame())
        await self.bot.begin()

    async def _end(self, _: float) -> None:
        """End, and run again."""
        await self.bot.leave(EndFrame())
        await self.bot.begin()

    async def _wait_long(self, argument: float) -> None:
        """Nobody is there for up to twenty minutes."""
        await self.bot.said()
        await asyncio.sleep(1200 * argument)

    async def _wait(self, argument: float) -> None:
        """Nothing happens for up to a minute."""
        await asyncio.sleep(60 * argument)


async def walk(seed: int) -> Walk:
    """Walk one seed, and check what must hold."""
    random.seed(seed)  # of the service's own pauses
    walked = Walk(Plan.of(seed))
    try:
        await walked.go()
    except Exception as error:
        error.add_note(f"Seed {seed}: {walked.plan}")
        raise
    return walked
