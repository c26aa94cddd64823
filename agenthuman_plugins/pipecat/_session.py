"""One session of the avatar: asked for, opened, joined, used and ended, all in one task."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agenthuman_plugins.client import (
    AgentHumanError,
    APIResponseError,
    AsyncAgentHuman,
    Session,
    SpeechLinkError,
)
from agenthuman_plugins.pipecat._left_behind import LeftBehind
from agenthuman_plugins.pipecat._link_runner import LinkRunner
from agenthuman_plugins.pipecat._rooms import Rooms
from agenthuman_plugins.speech.link import SpeechLink

# A create that takes long is worth waiting for: nobody stands still meanwhile, and giving it up would only end, and
# bill, what it opens all the same.
_CREATE_TIMEOUT_S = 120.0
_JOIN_TIMEOUT_S = 20.0  # from the created session to a connected avatar; a GPU server may have to boot
# Only the answer to a create carries tokens; the client finds its session by reference when that answer was lost.
_TOKENS_LOST = (
    "The answer to the create was lost, and the session that it opened cannot be joined without it."
)


class CannotOverlapError(Exception):
    """Raised when a room turns out to hold one avatar at a time, and another session's is in it."""


class AvatarSession:
    """A session and the link to its avatar. It ends when its task does, however that happens.

    Args:
        client: Opens and ends the session.
        rooms: Says where the avatar appears.
        avatar: Avatar to ask for.
        number: Of this session in its run, from 1.
        beside: Whether another session is open.
        options: Further arguments of `sessions.open`.
        make_runner: Makes the runner of the session's link, given the room that it was opened with.
        left_behind: Is told of what could not be ended.
        on_opened: Called when the session is open.
        on_ended: Called when it has ended, or was left behind.
        on_change: Called when one of the attributes has changed.

    Attributes:
        avatar: As asked for.
        session: What the service answered, once it did.
        runner: Runs the link, once there is one.
        asked_at: When the session was asked for, on the event loop's clock.
        opened_at: When the answer came.
        connected_at: When the avatar could be spoken through.
        slot_wait_s: Seconds for which the account was full before this session was asked for.
        reason: Why it is over, once it is.
    """

    def __init__(
        self,
        *,
        client: AsyncAgentHuman,
        rooms: Rooms,
        avatar: str | None,
        number: int,
        beside: bool,
        options: dict[str, Any],
        make_runner: Callable[[Session, Any], tuple[SpeechLink, LinkRunner]],
        left_behind: LeftBehind,
        on_opened: Callable[["AvatarSession"], Awaitable[None]],
        on_ended: Callable[["AvatarSession"], Awaitable[None]],
        on_change: Callable[[], None],
    ) -> None:
        self.avatar = avatar
        self.session: Session | None = None
        self.runner: LinkRunner | None = None
        self.reason: Exception | None = None
        self._client = client
        self._rooms = rooms
        self._number = number
        self._beside = beside
        self._options = options
        self._make_runner = make_runner
        self._left_behind = left_behind
        self._on_opened = on_opened
        self._on_ended = on_ended
        self._on_change = on_change
        self._clock = asyncio.get_running_loop().time
        self.asked_at = self._clock()
        self.opened_at: float | None = None
        self.connected_at: float | None = None
        self.slot_wait_s = 0.0
        self._leaving = False
        self._silent = asyncio.Event()  # nothing is sent or pushed through its link (any more)
        self._silent.set()
        self.task = asyncio.create_task(self._run(), name="avatar session")

    @property
    def connected(self) -> bool:
        """Whether the avatar can be spoken through."""
        return self.connected_at is not None and self.reason is None

    @property
    def shown(self) -> bool:
        """Whether it can take over at once: its first picture is here, if it is to be shown at all."""
        return self.connected and self.runner is not None and self.runner.shown

    @property
    def connected_s(self) -> float:
        """Seconds since the avatar was connected; 0 if it never was."""
        return 0.0 if self.connected_at is None else self._clock() - self.connected_at

    @property
    def open_s(self) -> float:
        """Seconds since the session was opened, as far as they are billed until now."""
        return 0.0 if self.opened_at is None else self._clock() - self.opened_at

    @property
    def length_s(self) -> float | None:
        """For how long the session may run, by the service's own clock; `None` if there is no limit."""
        session = self.session
        if session is None or session.started_at is None or session.expiration is None:
            return None
        return max((session.expiration - session.started_at).total_seconds(), 0.0)

    def leave(self) -> None:
        """Begin to leave the room and to end the session; harmless when repeated."""
        # A second cancellation would cut short what the first one has begun.
        if not self._leaving:
            self._leaving = True
            self.task.cancel()

    async def until_silent(self) -> None:
        """Wait until nothing is sent or pushed through its link any more."""
        await self._silent.wait()

    async def until_ended(self) -> None:
        """Wait until the session has ended, or was left behind."""
        await asyncio.wait([self.task])

    async def _run(self) -> None:
        try:
            while not await self._live():
                pass  # in a room of another platform
        except Exception as error:  # noqa: BLE001 - a room that cannot be made, a handler: the bot must hear of it
            self._fail(error)

    async def _live(self) -> bool:
        """Open the session and use it to its end; `False` if it was refused for its platform and another one is left."""
        room = await self._rooms.make(
            avatar=self.avatar, aspect_ratio=self._options["aspect_ratio"], session_number=self._number
        )
        if self._beside and not self._rooms.overlap:
            raise CannotOverlapError("A room of the same identities is in use.")
        cancelled: asyncio.CancelledError | None = None
        try:
            async with self._client.sessions.open(
                avatar=self.avatar, room=room, timeout=_CREATE_TIMEOUT_S, **self._options
            ) as session:
                self.session, self.opened_at = session, self._clock()
                try:
                    await self._on_opened(self)
                    await self._use(session, room)
                except asyncio.CancelledError as error:
                    # Raised below: out of here, it would hide that the session cannot be ended.
                    cancelled = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the bot must keep its voice and hear of it
            if self.session is not None:
                self._left_behind.note_session(self.session.session_id, error)
            elif room is None and isinstance(error, AgentHumanError) and self._rooms.platform_refused(error):
                return False
            else:
                self._left_behind.note_create(error)
            self._fail(error)
        finally:
            if self.session is not None:
                await self._on_ended(self)
        if cancelled is not None:
            raise cancelled
        return True

    async def _use(self, session: Session, room: Any) -> None:
        """Use the link until it is lost.

        `_fail` is called before anything is closed: with the network gone, leaving the room and ending the session
        take many seconds, in which the bot would be silent.
        """
        try:
            link, self.runner = self._make_runner(session, room)
        except Exception as error:  # noqa: BLE001 - as above
            lost = isinstance(error, APIResponseError) and session.session_token is None
            self._fail(SpeechLinkError(_TOKENS_LOST, retryable=True) if lost else error)
            return
        try:
            await link.connect(timeout_s=_JOIN_TIMEOUT_S)
            self.connected_at = self._clock()
            self._on_change()
            self._silent.clear()
            try:
                await self.runner.run()
            finally:
                self._silent.set()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(_innermost(error))
        finally:
            await link.aclose()

    def _fail(self, reason: Exception) -> None:
        if self.reason is None:
            self.reason = reason
            self._on_change()


def _innermost(error: Exception) -> Exception:
    """The first single error of a task group's nest of groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
