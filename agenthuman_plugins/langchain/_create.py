"""The tool that opens a session: once for each tool call, however often that is made."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from langchain_core.tools import BaseTool, ToolException

from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    AsyncAgentHuman,
    NotFoundError,
    Session,
    SessionOutcomeUnknownError,
)
from agenthuman_plugins.client.models import CLIENT_REF
from agenthuman_plugins.client.rooms import AspectRatio, Room
from agenthuman_plugins.langchain import _app, _schemas, _texts
from agenthuman_plugins.langchain._clients import Clients, settled_when_cancelled, settled_when_interrupted
from agenthuman_plugins.langchain._end import End
from agenthuman_plugins.langchain._ledger import (
    Claim,
    CreateInProgressError,
    Entry,
    Ledger,
    LedgerClosedError,
    Origin,
)
from agenthuman_plugins.langchain._structured import Result, Runtime, structured, told


class Create:
    """Opens sessions.

    Whatever goes wrong before the application was told, an error, a cancellation or Ctrl-C, ends the session.
    Once the ledger has it, the block answers for it, too.

    Args:
        clients: Where the clients come from.
        ledger: Where the sessions are kept.
        end: Ends a session that the application could not be told.
        room: Room of every session, or what makes one for each.
        avatar: Avatar when the model names none.
        aspect_ratio: Ratio when the model names none.
        on_session: Told each session that is opened.
    """

    def __init__(
        self,
        clients: Clients,
        ledger: Ledger,
        end: End,
        *,
        room: Room | _app.RoomProvider | None,
        avatar: str | None,
        aspect_ratio: AspectRatio,
        on_session: _app.OnSession | None,
    ) -> None:
        self._clients = clients
        self._ledger = ledger
        self._end = end
        self._room = room
        self._avatar = avatar
        self._aspect_ratio = aspect_ratio
        self._on_session = on_session

    def tool(self) -> BaseTool:
        """Make the tool."""
        return structured(
            _texts.CREATE,
            "Open a live video session with a talking avatar. It is billed by the minute until it is ended with "
            f"{_texts.END}, so open one only when it is needed.",
            _schemas.CreateArgs,
            self.create,
            self.acreate,
        )

    def create(
        self,
        avatar: str | None = None,
        aspect_ratio: AspectRatio | None = None,
        runtime: Runtime = None,
    ) -> Result:
        """Open a session, or return the one that the same call opened before."""
        order = self._order(avatar, aspect_ratio, runtime)
        client = self._clients.sync_client()
        claim = self._claim(order)
        if claim.earlier is not None:
            return self._opened_before(_now(client, claim.earlier))
        with self._released_on_failure(order, claim), ExitStack() as unless_kept:
            if order.may_exist(claim):
                with told():
                    found = client.sessions.find(order.key)
                if found is not None:
                    unless_kept.callback(client.sessions.end, found.session_id)
                    self._keep(order, found, self._known_room)
                    unless_kept.pop_all()
                    return self._opened_before(found)
            _app.refuse_async("on_session", self._on_session)  # before there is a session to lose
            room = _app.call("room", self._room) if callable(self._room) else self._room
            with told(), settled_when_interrupted(client):
                session = unless_kept.enter_context(client.sessions.open(**order.wanted, room=room))
            self._keep(order, session, room)
            unless_kept.pop_all()
        if self._on_session is not None:
            try:
                _app.call("on_session", self._on_session, session)
            except BaseException:
                with suppress(AgentHumanError):  # logged; the block will try once more
                    self._end.end_all([session.session_id])
                raise
        return _texts.opened(session), _texts.artifact(session)

    async def acreate(
        self,
        avatar: str | None = None,
        aspect_ratio: AspectRatio | None = None,
        runtime: Runtime = None,
    ) -> Result:
        """Open a session, or return the one that the same call opened before."""
        order = self._order(avatar, aspect_ratio, runtime)
        client = self._clients.async_client()
        claim = self._claim(order)
        if claim.earlier is not None:
            return self._opened_before(await _anow(client, claim.earlier))
        with self._released_on_failure(order, claim):
            async with AsyncExitStack() as unless_kept:
                if order.may_exist(claim):
                    with told():
                        found = await client.sessions.find(order.key)
                    if found is not None:
                        unless_kept.push_async_callback(client.sessions.end, found.session_id)
                        self._keep(order, found, self._known_room)
                        unless_kept.pop_all()
                        return self._opened_before(found)
                room = await _app.acall("room", self._room) if callable(self._room) else self._room
                with told():
                    async with settled_when_cancelled(client):
                        session = await unless_kept.enter_async_context(
                            client.sessions.open(**order.wanted, room=room)
                        )
                self._keep(order, session, room)
                unless_kept.pop_all()
        if self._on_session is not None:
            try:
                await _app.acall("on_session", self._on_session, session)
            except BaseException:
                with suppress(AgentHumanError):
                    await self._end.aend_all([session.session_id])
                raise
        return _texts.opened(session), _texts.artifact(session)

    def _order(
        self,
        avatar: str | None,
        aspect_ratio: AspectRatio | None,
        runtime: object | None,
    ) -> "_Order":
        origin = Origin.of(runtime)
        key = origin.create_key()
        wanted = {
            "avatar": avatar or self._avatar,
            "aspect_ratio": aspect_ratio or self._aspect_ratio,
            "metadata": {CLIENT_REF: key},
        }
        return _Order(origin, key, wanted)

    def _claim(self, order: "_Order") -> Claim:
        try:
            return self._ledger.claim(order.key)
        except CreateInProgressError:
            raise ToolException(_texts.IN_PROGRESS) from None
        except LedgerClosedError:
            raise ToolException(_texts.RUN_IS_OVER) from None

    def _keep(self, order: "_Order", session: Session, room: Room | None) -> None:
        try:
            self._ledger.add(order.key, Entry(session, room, order.origin.thread_id))
        except LedgerClosedError:
            raise ToolException(_texts.opened_too_late(session)) from None

    @contextmanager
    def _released_on_failure(self, order: "_Order", claim: Claim) -> Iterator[None]:
        """Let the same call be made again; if it may have left a session behind, only after looking for that."""
        try:
            yield
        except BaseException as error:
            nothing_is_left = isinstance(error, ToolException) and not (
                claim.in_doubt or isinstance(error.__cause__, SessionOutcomeUnknownError)
            )
            if nothing_is_left or not order.origin.is_repeatable:
                self._ledger.release(order.key)
            else:
                self._ledger.doubt(order.key)
            raise

    @property
    def _known_room(self) -> Room | None:
        """Room of a session that another process opened: what a provider made there is not known here."""
        return None if callable(self._room) else self._room

    def _opened_before(self, session: Session) -> Result:
        if session.has_ended:
            self._ledger.mark_ended(session.session_id, session)
        return _texts.opened_before(session), _texts.artifact(session)


@dataclass(frozen=True, slots=True)
class _Order:
    """One create call.

    Attributes:
        origin: Where it comes from.
        key: Reference of its session.
        wanted: Arguments of the client's create, but for the room.
    """

    origin: Origin
    key: str
    wanted: dict[str, Any]

    def may_exist(self, claim: Claim) -> bool:
        """Whether the session of this call may have been opened already, unknown to the ledger."""
        return claim.in_doubt or self.origin.may_be_replayed


def _now(client: AgentHuman, session: Session) -> Session:
    with told():
        try:
            return client.sessions.get(session.session_id)
        except NotFoundError:
            return _gone(session)


async def _anow(client: AsyncAgentHuman, session: Session) -> Session:
    with told():
        try:
            return await client.sessions.get(session.session_id)
        except NotFoundError:
            return _gone(session)


def _gone(session: Session) -> Session:
    return session.model_copy(update={"status": "ended"})
