"""The avatar of a stage: its session and link, and what happens when either is lost."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Protocol

from agenthuman_plugins.client import (
    AgentHumanError,
    Session,
    SessionOutcomeUnknownError,
    SpeechLinkError,
    UsageLimitError,
)
from agenthuman_plugins.client.adapters import to_the_end, what_happened
from agenthuman_plugins.client.redaction import redact
from agenthuman_plugins.client.rooms import Room
from agenthuman_plugins.langchain.stage._voice import Voice
from agenthuman_plugins.speech.link import SpeechLink

_log = logging.getLogger("agenthuman_plugins.langchain")

_CONNECT_LIMIT_S = 20.0
_REJOIN_LIMIT_S = (
    8.0  # for an avatar that was there before; one that is gone for good must not hold up a new session
)
_NEW_SESSION_EVERY_S = 10.0  # each is billed
_HANG_UP_LIMIT_S = 6.0

MakeLink = Callable[[Session, Room | None], SpeechLink]


class Lender(Protocol):
    """Who opens sessions and ends them: a toolkit, by its own rules."""

    async def lend(self, thread_id: str | None) -> tuple[Session, Room | None]:
        """Open a session for a conversation."""

    async def take_back(self, session_id: str) -> None:
        """End a session, harmless when repeated."""

    def used(self, session_id: str) -> AbstractContextManager[None]:
        """Use a session inside the block: it is not idle."""

    def handed_over(self, session_id: str) -> None:
        """Note that another worker speaks through a session and answers for it."""


class Given:
    """A session that is the program's own: it is spoken through and never ended."""

    def __init__(self, session: Session, room: Room | None) -> None:
        self._session, self._room = session, room

    async def lend(self, thread_id: str | None) -> tuple[Session, Room | None]:  # noqa: ARG002 - as in `Lender`
        """Return the session."""
        return self._session, self._room

    async def take_back(self, session_id: str) -> None:
        """Do nothing."""

    def used(self, session_id: str) -> AbstractContextManager[None]:  # noqa: ARG002 - as in `Lender`
        """Do nothing."""
        return nullcontext()

    def handed_over(self, session_id: str) -> None:
        """Do nothing."""


class FromToolkit:
    """A session that a toolkit opens by its rules, and ends."""

    def __init__(self, toolkit: Any) -> None:
        self._toolkit = toolkit

    async def lend(self, thread_id: str | None) -> tuple[Session, Room | None]:
        """Open a session for a conversation."""
        session, room = await self._toolkit._lend(thread_id)  # noqa: SLF001 - of this package
        return session, room

    async def take_back(self, session_id: str) -> None:
        """End the session."""
        await self._toolkit._take_back(session_id)  # noqa: SLF001 - of this package

    def used(self, session_id: str) -> AbstractContextManager[None]:
        """Keep the toolkit from ending the session as idle."""
        used: AbstractContextManager[None] = self._toolkit._used(session_id)  # noqa: SLF001 - of this package
        return used

    def handed_over(self, session_id: str) -> None:
        """Let the toolkit know that the session is not its own any more."""
        self._toolkit._handed_over(session_id)  # noqa: SLF001 - of this package


class Avatar:
    """Keeps the voice connected to an avatar, for one stream of events.

    Args:
        lender: Where the session comes from.
        make_link: Makes the link of a session; called on a thread, since it may load LiveKit.
        voice: What speaks through the link.
        thread_id: The conversation.
        on_here: Called when there is an avatar, with the session's id.
        on_gone: Called with the reason when it is lost, or none can be had.

    Attributes:
        connected: Whether there is an avatar.
    """

    def __init__(
        self,
        lender: Lender,
        make_link: MakeLink,
        voice: Voice,
        *,
        thread_id: str | None,
        on_here: Callable[[str], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self._lender = lender
        self._make_link = make_link
        self._voice = voice
        self._thread_id = thread_id
        self._on_here = on_here
        self._on_gone = on_gone
        self._lent: tuple[Session, Room | None] | None = None
        self._lent_at = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._never = False  # whether no attempt can have more luck
        self._use = ExitStack()
        self._in_use = False
        self.connected = False

    def begin(self) -> None:
        """Open and connect for the first time."""
        if self._task is None:
            self.want()

    def want(self) -> None:
        """Open and connect, unless that goes on already or cannot succeed."""
        if self._never or (self._task is not None and not self._task.done()):
            return
        if self._lent is None and asyncio.get_running_loop().time() < self._lent_at + _NEW_SESSION_EVERY_S:
            return
        self._task = asyncio.create_task(self._attempt(), name="avatar of a stage")

    def use(self, *, in_use: bool) -> None:
        """Note whether something is said through the session: while nothing is, it may be ended as idle."""
        if not in_use or self._lent is None:
            self._use.close()
            self._in_use = False
        elif not self._in_use:
            self._use.enter_context(self._lender.used(self._lent[0].session_id))
            self._in_use = True

    async def aclose(self) -> None:
        """Leave, and end the session if it was opened here."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._give_back()

    async def _attempt(self) -> None:
        try:
            reason = await self._be_there()
        except SpeechLinkError as error:
            reason = str(error)
        except AgentHumanError as error:
            self._never = not _can_pass(error)
            reason = what_happened(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that the program's own function waited for was cancelled, and not we.
            reason = f"The avatar was given up: {type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - of the program's own `room`, or a defect of ours
            # The conversation goes on without the avatar. Nobody knows what the text of the error holds.
            _log.error("The avatar of a stage failed: %s", type(error).__name__)
            reason = f"{type(error).__name__}: {redact(str(error))}"
        self._on_gone(reason)

    async def _be_there(self) -> str:
        """Connect, speak, and return why that is over."""
        link = await self._rejoined() if self._lent is not None else None
        if link is None:
            self._lent_at = asyncio.get_running_loop().time()
            self._lent = await self._lender.lend(self._thread_id)
            self.use(in_use=self._voice.busy)  # speech may have come before it
            try:
                link = await self._joined(*self._lent, limit_s=_CONNECT_LIMIT_S)
            except Exception:
                # It would be billed until the next turn, for an avatar that never came.
                await self._give_back()
                raise
        assert self._lent is not None  # noqa: S101 - there is a link
        session, room = self._lent
        try:
            self.connected = True
            self._on_here(session.session_id)
            loss = await self._voice.run(link)
            if loss.replaced:
                self.use(in_use=False)
                self._never, self._lent = True, None
                self._lender.handed_over(session.session_id)
        finally:
            self.connected = False
            await to_the_end(lambda: _closed(link))
        from agenthuman_plugins.speech.of_session import is_over_gateway  # noqa: PLC0415 - loaded by the link

        if self._lent is not None and is_over_gateway(session, room):
            await self._give_back()
        return loss.reason

    async def _rejoined(self) -> SpeechLink | None:
        """Connect to the same session again; if that fails, it is over."""
        assert self._lent is not None  # noqa: S101 - checked by the caller
        try:
            return await self._joined(*self._lent, limit_s=_REJOIN_LIMIT_S)
        except SpeechLinkError:
            if isinstance(self._lender, Given):
                raise
        await self._give_back()
        if (wait_s := self._lent_at + _NEW_SESSION_EVERY_S - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait_s)
        return None

    async def _joined(self, session: Session, room: Room | None, *, limit_s: float) -> SpeechLink:
        await asyncio.to_thread(self._voice.prepare)
        link = await asyncio.to_thread(self._make_link, session, room)
        try:
            await link.connect(timeout_s=limit_s)
        except BaseException:
            await to_the_end(lambda: _closed(link))
            raise
        return link

    async def _give_back(self) -> None:
        self.use(in_use=False)
        lent, self._lent = self._lent, None
        if lent is not None:
            await to_the_end(lambda: self._lender.take_back(lent[0].session_id))


async def _closed(link: SpeechLink) -> None:
    try:
        async with asyncio.timeout(_HANG_UP_LIMIT_S):
            await link.aclose()
    except (SpeechLinkError, TimeoutError) as error:
        _log.warning("A speech link was not closed in order: %s", redact(str(error)) or "no answer")


def _can_pass(error: AgentHumanError) -> bool:
    """Whether another session may have more luck."""
    if isinstance(error, UsageLimitError):
        return error.limit == "concurrency"
    return isinstance(error, SessionOutcomeUnknownError) or error.retryable
