"""Whether there is an avatar, and what becomes of the bot's voice while there is none."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.pipecat._errors import category_of
from agenthuman_plugins.pipecat.reply._delivery import Delivery
from agenthuman_plugins.pipecat.settings import AgentHumanVideoSettings


class AvatarPresence:
    """Decides who speaks: the avatar, or plain audio in its place.

    Args:
        service: Pushes the errors.
        delivery: Whose speech it is.
        settings: As they are at each moment.
        tell: Calls the service's event handlers.
    """

    def __init__(
        self,
        service: FrameProcessor,
        delivery: Delivery,
        settings: AgentHumanVideoSettings,
        tell: Callable[..., Awaitable[None]],
    ) -> None:
        self._service = service
        self._delivery = delivery
        self._settings = settings
        self._tell = tell
        self._there = False
        self._failed = False  # since the avatar was last there
        self._in_fallback = False  # as told to the event handlers
        self._waiter: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """What must be cancelled and awaited at the end."""
        return set() if self._waiter is None else {self._waiter}

    async def arrived(self) -> None:
        """The avatar can be spoken through."""
        self._there, self._failed = True, False
        self._delivery.avatar_expected = True
        await self._end_waiting()
        await self._tell("on_avatar_connected")
        await self.end_fallback_if_over()

    async def lost(self, reason: Exception) -> bool:
        """The avatar is gone, or did not come: give the bot its voice back, and report the failure once.

        Returns:
            Whether to bring it back.
        """
        was_there, self._there = self._there, False
        self._delivery.avatar_expected = False
        await self._end_waiting()
        if was_there:
            await self._tell("on_avatar_disconnected", str(reason))
        await self._delivery.hand_back()
        bring_back = self._settings.on_failure == "fall_back"
        if self._failed:
            logger.debug(f"{self._service}: still no avatar: {reason}")
            return bring_back
        self._failed = True
        await self._service.push_error(
            f"No avatar: {reason}",
            exception=reason,
            category=category_of(reason),
            force_treat_as_permanent=not bring_back,
        )
        if bring_back:
            await self._begin_fallback(str(reason))
        return bring_back

    async def dismissed(self, reason: str) -> None:
        """Nobody needs the avatar: its session ends, and the next speech waits for a new one."""
        self._there = False
        await self._tell("on_avatar_disconnected", reason)
        await self._delivery.hand_back()  # what came at this very moment

    def speech_came(self) -> None:
        """Speech may wait for an avatar that is on its way, but not for ever."""
        if not self._there and self._delivery.avatar_expected and self._waiter is None:
            self._waiter = self._service.create_task(self._wait(), "wait for avatar")

    async def end_fallback_if_over(self) -> None:
        """The avatar takes over at the boundary of a reply."""
        if self._in_fallback and self._there and not self._delivery.plain:
            self._in_fallback = False
            await self._tell("on_fallback_ended")

    async def _wait(self) -> None:
        """The avatar takes too long: let the speech that waits for it pass as plain audio."""
        wait_s = self._settings.avatar_wait_s
        await asyncio.sleep(wait_s)
        self._delivery.avatar_expected = False
        self._waiter = None
        reason = f"no avatar after {wait_s:g} s of waiting"
        logger.warning(f"{self._service}: {reason}; speech passes as plain audio")
        await self._delivery.hand_back()
        await self._begin_fallback(reason)

    async def _end_waiting(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            await self._service.cancel_task(waiter)

    async def _begin_fallback(self, reason: str) -> None:
        if not self._in_fallback:
            self._in_fallback = True
            await self._tell("on_fallback_started", reason)
