"""Carries out the transitions of the life: gives the bot its voice back, calls the event handlers, reports failures."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.pipecat._errors import category_of
from agenthuman_plugins.pipecat._life import Change, Life, Report, State, Step
from agenthuman_plugins.pipecat.reply import Delivery
from agenthuman_plugins.pipecat.settings import AgentHumanVideoSettings

_WITH_REASON = {"on_avatar_disconnected", "on_fallback_started", "on_gave_up"}


class Presence:
    """Whether there is an avatar, and what the application is told about it.

    Args:
        service: Pushes the errors.
        life: Is taken from state to state.
        delivery: Whose speech it is.
        settings: As they are at each moment.
        tell: Calls the service's event handlers.
    """

    def __init__(
        self,
        service: FrameProcessor,
        life: Life,
        delivery: Delivery,
        settings: AgentHumanVideoSettings,
        tell: Callable[..., Awaitable[None]],
    ) -> None:
        self.life = life
        self._service = service
        self._delivery = delivery
        self._settings = settings
        self._tell = tell
        self._reported: set[ErrorCategory] = set()  # since the avatar was last connected
        self._waiter: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()  # or what is told about two changes would mix

    async def take(self, change: Change, reason: Exception | str = "") -> None:
        """Make a transition and everything that follows from it.

        Args:
            change: What has happened.
            reason: Why, for people; the exception itself where there is one.
        """
        async with self._one_at_a_time:
            step = self.life.take(change)
            if step is not None:
                await self._carry_out(step, change, reason)

    async def _carry_out(self, step: Step, change: Change, reason: Exception | str) -> None:
        if step.row.to is not State.CONNECTING:
            await self._end_waiting()
        logger.log(
            step.row.level,
            f"{self._service}: {step.before.value} -> {step.row.to.value}: {change.value}"
            + (f" ({reason})" if str(reason) else ""),
        )
        if step.row.hand_back:
            await self._delivery.hand_back()
        if self.life.connected:
            self._reported.clear()
        if step.before is State.GIVEN_UP:
            await self._service.set_usable(True)
        if step.row.error is not None:
            await self._report(step.row.error, reason)
        for event in step.events:
            await self._tell(event, *([str(reason)] if event in _WITH_REASON else []))

    async def note_boundary(self) -> None:
        """Let a connected avatar take over, unless a reply still passes as plain audio."""
        if self.life.state is State.RETURNING and not self._delivery.plain:
            await self.take(Change.BOUNDARY)

    def speech_waits(self) -> None:
        """Speech may wait for an avatar that is on its way, but not for ever."""
        if self.life.state is State.CONNECTING and self._waiter is None:
            self._waiter = self._service.create_task(self._wait(), "wait for the avatar")

    async def speech_dropped(self) -> None:
        """No speech waits any more; what comes next may wait as long as ever."""
        await self._end_waiting()

    def end(self) -> set[asyncio.Task[None]]:
        """End the run; return what has to be awaited."""
        self.life.take(Change.END)
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return set()
        waiter.cancel()
        return {waiter}

    async def _wait(self) -> None:
        wait_s = self._settings.avatar_wait_s
        await asyncio.sleep(wait_s)
        self._waiter = None
        await self.take(Change.LATE, f"no avatar after {wait_s:g} s of waiting")

    async def _end_waiting(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and waiter is not asyncio.current_task():
            await self._service.cancel_task(waiter)

    async def _report(self, kind: Report, reason: Exception | str) -> None:
        category = category_of(reason)
        if kind == "once" and category in self._reported:
            logger.debug(f"{self._service}: still no avatar: {reason}")
            return
        self._reported.add(category)
        permanent = kind == "permanent"
        await self._service.push_error(
            f"{'The avatar is given up' if permanent else 'No avatar'}: {reason}",
            exception=reason if isinstance(reason, Exception) else None,
            category=category,
            force_treat_as_permanent=permanent,
        )
