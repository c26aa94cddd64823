"""Keeps an avatar: a session and the link to it, made again when they are lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger

from agenthuman_plugins.client import (
    AgentHumanError,
    APIResponseError,
    AsyncAgentHuman,
    Session,
    SessionOutcomeUnknownError,
    SpeechLinkError,
)
from agenthuman_plugins.pipecat._left_behind import LeftBehind
from agenthuman_plugins.speech.link import SpeechLink

_JOIN_TIMEOUT_S = 20.0  # from the created session to a speaking avatar; a GPU server may have to boot
_BACKOFF_S = (1.0, 30.0)  # first and longest pause before a new session
# Sessions in a row whose avatar never came or left at once. Each is billed, so there must be an end.
_MAX_USELESS_SESSIONS = 5
_STAYED_S = 5.0  # of an avatar that did not leave at once
# Only the answer to a create carries tokens; the client finds its session by reference when that answer was lost.
_TOKENS_LOST = (
    "The answer to the create was lost, and the session that it opened cannot be joined without it."
)


class Idle(Exception):  # noqa: N818 - no error: nobody needs the avatar for now
    """Raised by `use` when the session should end until the avatar is wanted again."""


class AvatarKeeper:
    """Opens a session, connects to its avatar, and does so again after a failure that can pass.

    Args:
        client: Opens and ends the sessions.
        session_options: Arguments of `sessions.open`.
        make_link: Makes the link of a session.
        on_session: Called with each session that was opened, and with `None` when it has ended.
        use: Uses a connected link; returns never, raises when the link is lost, or `Idle`.
        on_lost: Called with the reason as soon as there is no avatar any more, each time; returns whether to
            bring it back.
        on_idle: Called with the reason when an avatar that nobody needs is about to go.
        may_open: Returns when a session may be opened.

    Attributes:
        wanted: Set when an avatar is wanted; without that no session is opened.
    """

    def __init__(
        self,
        *,
        client: AsyncAgentHuman,
        session_options: dict[str, Any],
        make_link: Callable[[Session], SpeechLink],
        on_session: Callable[[Session | None], Awaitable[None]],
        use: Callable[[SpeechLink], Awaitable[None]],
        on_lost: Callable[[Exception], Awaitable[bool]],
        on_idle: Callable[[str], Awaitable[None]],
        may_open: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._session_options = session_options
        self._make_link = make_link
        self._on_session = on_session
        self._use = use
        self._on_lost = on_lost
        self._on_idle = on_idle
        self._may_open = may_open
        self.wanted = asyncio.Event()
        self._left_behind = LeftBehind(client)
        self._given_up = False
        self._used_for_s = 0.0  # how long the present link could be spoken through

    async def run(self) -> None:
        """Keep an avatar until cancelled, or until a failure that no retry cures.

        The session is ended on every way out.
        """
        try:
            await self._keep()
        finally:
            try:
                await self._left_behind.end()
            finally:
                self._left_behind.report()  # also when the program does not wait any longer

    async def _keep(self) -> None:
        pause = _BACKOFF_S[0]
        useless = 0
        while True:
            await self.wanted.wait()
            await self._may_open()
            if not self.wanted.is_set():
                continue
            await self._left_behind.end()
            self._used_for_s = 0.0
            reason = await self._keep_session()
            if isinstance(reason, Idle):
                pause, useless = _BACKOFF_S[0], 0
                continue
            if reason is None or self._given_up or not _can_pass(reason):
                return
            if self._used_for_s > _BACKOFF_S[1]:
                pause = _BACKOFF_S[0]  # it worked for a while: a new trouble, not the same one
            if self._used_for_s > _STAYED_S:
                useless = 0
            useless += isinstance(reason, SpeechLinkError)
            if useless == _MAX_USELESS_SESSIONS:
                logger.error(
                    f"No avatar stayed in {useless} sessions; the bot goes on without one. The last reason: {reason}"
                )
                return
            await asyncio.sleep(pause * random.uniform(0.75, 1.0))  # noqa: S311 - jitter, not cryptography
            pause = min(2 * pause, _BACKOFF_S[1])

    async def _keep_session(self) -> Exception | None:
        session: Session | None = None
        reason: Exception | None = None
        cancelled: asyncio.CancelledError | None = None
        try:
            async with self._client.sessions.open(**self._session_options) as session:
                try:
                    await self._on_session(session)
                    reason = await self._keep_link(session)
                except asyncio.CancelledError as error:
                    # Raised below: out of here, it would hide that the session cannot be ended.
                    cancelled = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the bot must keep its voice and hear of it
            if session is None:
                self._left_behind.note_create(error)
            else:
                self._left_behind.note_session(session.session_id, error)
            if reason is None and cancelled is None:
                reason = error
                await self._lose(error)
        finally:
            if session is not None:
                await self._on_session(None)
        if cancelled is not None:
            raise cancelled
        return reason

    async def _keep_link(self, session: Session) -> Exception | None:
        """Use the session's link until it is lost, and return the reason.

        `on_lost` is called before anything is closed: with the network gone, leaving the room and ending the
        session take many seconds, in which the bot would be silent.
        """
        try:
            link = self._make_link(session)
        except Exception as error:  # noqa: BLE001 - as above
            lost = isinstance(error, APIResponseError) and session.session_token is None
            reason = SpeechLinkError(_TOKENS_LOST, retryable=True) if lost else error
            await self._lose(reason)
            return reason
        clock = asyncio.get_running_loop().time
        try:
            await link.connect(timeout_s=_JOIN_TIMEOUT_S)
            began = clock()
            try:
                await self._use(link)
            finally:
                self._used_for_s = clock() - began
        except Exception as error:  # noqa: BLE001 - as above
            reason = _innermost(error)
            if isinstance(reason, Idle):
                self.wanted.clear()
                await self._on_idle(str(reason))
            else:
                await self._lose(reason)
            return reason
        finally:
            await link.aclose()
        return None

    async def _lose(self, reason: Exception) -> None:
        self._given_up = not await self._on_lost(reason)


def _can_pass(error: Exception) -> bool:
    # A session whose create was not answered is noted, and ended when it shows: another one may be opened.
    if isinstance(error, SpeechLinkError | SessionOutcomeUnknownError):
        return True
    return isinstance(error, AgentHumanError) and error.retryable


def _innermost(error: Exception) -> Exception:
    """The first single error of a task group's nest of groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
