"""The life of a toolkit's sessions: opened once for each call, known to every worker of their thread, and ended.

Each operation is written once, over a driver that is sync or async.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from langchain_core.tools import ToolException

from agenthuman_plugins.client import (
    AgentHumanError,
    ConfigurationError,
    NotFoundError,
    Session,
    SessionOutcomeUnknownError,
)
from agenthuman_plugins.client.adapters import CLIENT_OWNER, MARKS, json_object
from agenthuman_plugins.client.models import CLIENT_REF, SessionStatus
from agenthuman_plugins.client.rooms import AspectRatio, LiveKitRoom, Room
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._drivers import Driver
from agenthuman_plugins.langchain._holding import Change
from agenthuman_plugins.langchain._ledger import Entry, Ledger, LedgerClosedError
from agenthuman_plugins.langchain._origin import AGENT_IDENTITY, ROOM_NAME, Origin, References, SessionRequest

if TYPE_CHECKING:  # it loads the speech links
    from agenthuman_plugins.langchain._speech import Speech

Scope: TypeAlias = Literal["agent", "thread", "account"]

_log = logging.getLogger("agenthuman_plugins.langchain")

_MAX_GETS = 20  # single sessions that are looked at where a list leaves metadata out
_OPENING_LIMIT_S = 180.0  # for the same call in another thread or task; a create has less


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """What a toolkit was given for its sessions; see its attributes of these names."""

    avatar: str | None = None
    aspect_ratio: AspectRatio = "4:3"
    room: Room | Callable[..., Any] | None = None
    metadata: Mapping[str, Any] | Callable[..., Any] | None = None
    on_session: Callable[..., Any] | None = None
    namespace: str | None = None
    scope: Scope = "agent"
    offered: frozenset[str] = frozenset()


class Sessions:
    """The sessions of one toolkit.

    Args:
        settings: What the toolkit was given.
        ledger: Where the sessions are kept.
        speech: Speech links, to be closed before their session ends; `None` if nothing speaks.
        owned: Told each session that this process is to end from now on.
        used: Makes a block in which a session is not idle.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        speech: "Speech | None",
        owned: Callable[[Entry], None],
        used: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._speech = speech
        self._owned = owned
        self._used = used
        self._references = References(settings.namespace)

    # --- opening

    async def open(
        self,
        drive: Driver,
        origin: Origin,
        avatar: str | None = None,
        aspect_ratio: AspectRatio | None = None,
    ) -> tuple[Entry, bool]:
        """Open a session, or find the one that this very call has opened and that still runs; whether it did.

        Whatever goes wrong before the application knows of it, an error, a cancellation or Ctrl-C, ends the session.
        Once the ledger has it, the block answers for it, too.
        """
        key = origin.key or uuid.uuid4().hex
        opens = self._ledger.opens
        while (claim := opens.claim(key)) is not None:
            if isinstance(claim, Future):
                if not await drive.wait(claim, _OPENING_LIMIT_S):
                    raise ToolException(_texts.IN_PROGRESS)
            elif (running := await self._still_running(drive, claim)) is not None:
                return running, True
            else:
                opens.forget(key, claim)
        try:
            entry, before = await self._open(drive, origin, key, avatar, aspect_ratio)
        except BaseException:
            opens.failed(key)
            raise
        self._ledger.settle(key)
        opens.done(key, entry.session_id)
        return entry, before

    async def _open(
        self, drive: Driver, origin: Origin, key: str, avatar: str | None, aspect_ratio: AspectRatio | None
    ) -> tuple[Entry, bool]:
        settings, reference = self._settings, self._references.new(origin)
        self._check_open()
        if origin.may_be_replayed or self._ledger.in_doubt(key):
            with self.told(origin):
                found = await self._find(drive, reference)
                if found is not None and found.session_id in self._ledger.unannounced:
                    await self.end(drive, found.session_id)
                    found = None
            if found is not None:
                try:
                    return self._keep(Entry(found, reference, origin, made_here=False)), True
                except ToolException:
                    await self.end_all(drive, [found.session_id])
                    raise
        drive.refuse_async("on_session", settings.on_session)  # before there is a session to lose
        request, room = await self._prepared(drive, origin)
        marks = _marks(reference, settings.namespace, room)
        async with AsyncExitStack() as unless_kept:
            with self.told(origin):
                try:
                    session = await unless_kept.enter_async_context(
                        drive.lease(
                            avatar=avatar or settings.avatar,
                            aspect_ratio=aspect_ratio or settings.aspect_ratio,
                            metadata={**request.metadata, **marks},
                            room=room,
                        )
                    )
                except BaseException as error:
                    if isinstance(error, SessionOutcomeUnknownError) or not isinstance(
                        error, AgentHumanError
                    ):
                        self._ledger.doubt(key)
                    if not isinstance(error, AgentHumanError):
                        await drive.settle(error)
                    raise
            entry = self._keep(Entry(session, reference, origin, room=room))
            unless_kept.pop_all()
        if settings.on_session is not None:
            try:
                with self._used(session.session_id):  # it may wait for the user to join
                    await drive.call("on_session", settings.on_session, session, request)
            except BaseException:
                self._ledger.unannounced.add(session.session_id)
                with suppress(AgentHumanError):  # logged; the same call, or the block, will try once more
                    await self.end_all(drive, [session.session_id])
                    self._ledger.unannounced.discard(session.session_id)
                raise
        return entry, False

    async def _prepared(self, drive: Driver, origin: Origin) -> tuple[SessionRequest, Room | None]:
        """What the application says about a session that is about to be opened."""
        request = _request(origin)
        metadata = self._settings.metadata
        if callable(metadata):
            metadata = await drive.call("metadata", metadata, request)
        request = replace(request, metadata=checked_metadata(metadata))
        room = self._settings.room
        if callable(room):
            room = await drive.call("room", room, request)
        return request, room

    async def _still_running(self, drive: Driver, session_id: str) -> Entry | None:
        """A session that this very call opened before, unless it is over."""
        entry = self._ledger.get(session_id)
        if entry is None or entry.has_ended:
            return None
        try:
            with self.told(entry.origin, unless=NotFoundError):
                session = await drive.done(drive.client.sessions.get(session_id))
        except NotFoundError:
            session = None
        if session is None or session.has_ended:
            self._ledger.ended(session_id, session)
            return None
        return entry

    async def _find(self, drive: Driver, reference: str) -> Session | None:
        running = await drive.done(drive.client.sessions.list("started"))
        known, _ = await self._with_references(drive, running)
        return next((session for session, its in known if its == reference and not session.has_ended), None)

    def _check_open(self) -> None:
        try:
            self._ledger.check_open()
        except LedgerClosedError:
            raise ToolException(_texts.RUN_IS_OVER) from None

    def _keep(self, entry: Entry) -> Entry:
        try:
            kept = self._ledger.add(entry, Change.OPENED)
        except LedgerClosedError:
            raise ToolException(_texts.opened_too_late(entry.session)) from None
        self._owned(kept)
        return kept

    # --- which sessions a call may touch

    async def named(self, drive: Driver, origin: Origin, session_id: str) -> tuple[Entry, bool]:
        """A session that a call names, and whether it was asked for just now.

        One that this process does not know may be of the same thread on another worker. It is asked for once.

        Raises:
            ToolException: The call may not name it.
        """
        entry = self._ledger.get(session_id)
        if entry is not None and self._may_touch(origin)(entry):
            return entry, False
        if entry is None and self._knows_others(origin) and self._may_be_ours(origin, session_id):
            with self.told(origin):
                try:
                    session = await drive.done(drive.client.sessions.get(session_id))
                except NotFoundError:
                    if self._settings.scope == "account":
                        raise
                    self._ledger.not_ours(session_id, None)
                else:
                    if self._is_ours(origin, session.client_ref):
                        return self._adopt(origin, session, session.client_ref), True
                    self._ledger.not_ours(session_id, session.client_ref)
        running = self._ledger.entries(lambda known: self._may_touch(origin)(known) and not known.has_ended)
        raise ToolException(
            _texts.not_known(
                session_id,
                [known.session_id for known in running],
                others=self._others(origin, session_id),
                offered=self._settings.offered,
            )
        )

    def _adopt(self, origin: Origin, session: Session, reference: str | None) -> Entry:
        return self._ledger.add(Entry(session, reference or "", origin, made_here=False), Change.FOUND)

    def _may_touch(self, origin: Origin) -> Callable[[Entry], bool]:
        def may_touch(entry: Entry) -> bool:
            if self._settings.scope == "account":
                return True
            if origin.thread_id is None:
                same_agent = origin.agent in {None, entry.origin.agent} or self._settings.scope == "thread"
                return entry.origin.thread_id is None and same_agent
            return self._is_ours(origin, entry.reference)

        return may_touch

    def _is_ours(self, origin: Origin, reference: str | None) -> bool:
        if self._settings.scope == "account":
            return True
        begin = self._references.begin(origin, whole_thread=self._settings.scope == "thread")
        return origin.thread_id is not None and reference is not None and reference.startswith(begin)

    def _may_be_ours(self, origin: Origin, session_id: str) -> bool:
        """Whether asking for a session can bring anything new."""
        try:
            return self._is_ours(origin, self._ledger.reference_of(session_id))
        except KeyError:
            return True

    def _knows_others(self, origin: Origin) -> bool:
        """Whether sessions of other processes can be told apart from those of strangers."""
        if self._settings.scope == "account":
            return True
        return self._settings.namespace is not None and origin.thread_id is not None

    def _others(self, origin: Origin, session_id: str) -> bool:
        """Whether a session is of another agent of the same thread."""
        try:
            reference = self._ledger.reference_of(session_id)
        except KeyError:
            return False
        begin = self._references.begin(origin, whole_thread=True)
        return origin.thread_id is not None and reference is not None and reference.startswith(begin)

    # --- looking at them

    def whose(self, origin: Origin) -> str:
        """Which sessions a call sees, in words, after "sessions"."""
        if self._settings.scope == "account":
            return ""
        if origin.agent is not None and self._settings.scope == "agent":
            return " of this agent" if self._knows_others(origin) else " that this agent opened here"
        return (
            " in this conversation"
            if self._knows_others(origin)
            else " in this conversation that are known here"
        )

    async def look(self, drive: Driver, origin: Origin, session_id: str) -> Session:
        """A session that a call may name, as it is now."""
        entry, fresh = await self.named(drive, origin, session_id)
        if fresh:
            return entry.session
        with self.told(origin):
            session: Session = await drive.done(drive.client.sessions.get(session_id))
        if session.has_ended:
            self._ledger.ended(session_id, session)
        return session

    async def listed(self, drive: Driver, origin: Origin, status: SessionStatus) -> tuple[list[Session], int]:
        """The sessions that a call may see, newest first, and how many could not be looked at."""
        scope_is_account = self._settings.scope == "account"
        own = {entry.session_id for entry in self._ledger.entries(self._may_touch(origin))}
        if not own and not self._knows_others(origin):
            return [], 0
        unread = 0
        with self.told(origin):
            sessions = await drive.done(drive.client.sessions.list(status))
            if not scope_is_account and self._knows_others(origin):
                known, unread = await self._with_references(drive, sessions)
                sessions = [session for session, its in known if self._is_ours(origin, its)]
                for session, reference in known:
                    if self._is_ours(origin, reference) and not session.has_ended:
                        self._adopt(origin, session, reference)
            elif not scope_is_account:
                sessions = [session for session in sessions if session.session_id in own]
        # The service may know other words than its pages, so what it sent is looked at once more.
        sessions = [each for each in sessions if status == "all" or each.has_ended == (status == "ended")]
        return sorted(sessions, key=_begin, reverse=True), unread

    async def _with_references(
        self, drive: Driver, sessions: Iterable[Session]
    ) -> tuple[list[tuple[Session, str | None]], int]:
        """Sessions with their references; those that a list leaves without are asked for, up to a limit.

        The newest are asked for first: a call that is replayed was made not long ago.
        """
        known: list[tuple[Session, str | None]] = []
        gets = unread = 0
        for session in sorted(sessions, key=_begin, reverse=True):
            session_id = session.session_id
            with suppress(KeyError):
                known.append((session, self._ledger.reference_of(session_id)))
                continue
            if session.metadata:
                known.append((session, session.client_ref))
            elif gets < _MAX_GETS:
                gets += 1
                with suppress(NotFoundError):  # gone since it was listed
                    whole = await drive.done(drive.client.sessions.get(session_id))
                    self._ledger.not_ours(session_id, whole.client_ref)
                    known.append((whole, whole.client_ref))
            else:
                unread += 1
        return known, unread

    # --- speaking through them

    async def room_of(self, drive: Driver, entry: Entry, origin: Origin) -> Room | None:
        """The room to speak in; for a session that another process opened, the application gives a new token.

        Raises:
            ToolException: It can be spoken through only by the process that opened it.
        """
        if entry.made_here or entry.room is not None:
            return entry.room
        request = replace(_request(origin), session=entry.session)
        if request.agent_identity is None:
            raise ToolException(_texts.only_where_it_was_opened(entry.session_id, self._settings.offered))
        room = self._settings.room
        if callable(room):
            room = await drive.call("room", room, request)
        if not isinstance(room, LiveKitRoom) or not _is_room_of(request, room):
            _log.warning(
                "Session %s cannot be spoken through here: `room` must return its LiveKitRoom, request.room_name, with "
                "an agent_token for the identity request.agent_identity. Pass room=request.room_name, "
                "agent_identity=request.agent_identity to LiveKitRoom.mint.",
                entry.session_id,
            )
            raise ToolException(_texts.only_where_it_was_opened(entry.session_id, self._settings.offered))
        self._ledger.settle_in(entry.session_id, room)
        return room

    def may_move(self, entry: Entry) -> bool:
        """Whether another worker may come to speak through a session."""
        return self._settings.namespace is not None and has_agent(entry.room)

    def spoke(self, entry: Entry) -> None:
        """Note that this process is connected to a session: it is to end it from now on."""
        kept = self._ledger.change(entry.session_id, Change.SPOKE)
        if kept is not None:
            self._owned(kept)

    # --- ending them

    async def end(self, drive: Driver, session_id: str) -> Session:
        """End a session; its speech link is closed before."""
        try:
            if self._speech is not None:
                await drive.hang_up(self._speech, session_id)
        finally:  # whatever happens to its link, the session is billed until it ends
            try:
                session: Session = await drive.done(drive.client.sessions.end(session_id))
                if session.ended_at is None:  # a page of a proxy is a success, too, and ends nothing
                    session = _over(await drive.done(drive.client.sessions.get(session_id)))
            except NotFoundError:
                self._ledger.ended(session_id)
                raise
            except BaseException:
                if self._speech is not None:
                    self._speech.reopen(session_id)
                raise
            self._ledger.ended(session_id, session)
        return session

    async def end_all(self, drive: Driver, session_ids: Iterable[str]) -> None:
        """End sessions, whatever interrupts it; one that cannot be ended does not keep the others from it.

        Raises:
            AgentHumanError: Of the first session that could not be ended.
        """

        async def end(session_id: str) -> None:
            try:
                with suppress(NotFoundError):  # then nothing is left to end
                    await self.end(drive, session_id)
            except Exception as failure:
                # Our own errors are free of secrets; of a defect, nobody knows.
                why = str(failure) if isinstance(failure, AgentHumanError) else type(failure).__name__
                _log.error("Session %s could not be ended, the service will do it later: %s", session_id, why)
                raise

        await drive.each(end, session_ids)

    async def end_thread(self, drive: Driver, thread_id: object) -> None:
        """End the sessions of a conversation, on whatever worker they were opened."""
        origin = Origin.of_thread(thread_id)

        def is_of_thread(entry: Entry) -> bool:
            if origin.thread_id is None:
                return entry.origin.thread_id is None
            return entry.reference.startswith(self._references.begin(origin))

        ids = [
            entry.session_id
            for entry in self._ledger.entries(is_of_thread)
            if not entry.has_ended or self._has_link(entry.session_id)
        ]
        try:
            if origin.thread_id is not None and self._settings.namespace is not None:
                begin = self._references.begin(origin)
                running, unread = await self._with_references(
                    drive, await drive.done(drive.client.sessions.list("started"))
                )
                if unread:
                    _log.warning(
                        "%d running sessions could not be checked: those of the thread among them go on. Call "
                        "end_sessions again.",
                        unread,
                    )
                ids += [
                    session.session_id
                    for session, reference in running
                    if reference is not None and reference.startswith(begin) and session.session_id not in ids
                ]
        finally:  # those that are known are ended in any case
            await self.end_all(drive, ids)

    def of_run(self, origin: Origin) -> list[str]:
        """The sessions that this process knows of the thread and, for a subagent, of this run of it."""
        return [
            entry.session_id
            for entry in self._ledger.entries()
            if entry.origin.thread_id == origin.thread_id
            and origin.includes(entry.origin)
            and entry.origin.checkpoint_ns  # not what the program opened itself, for a voice agent's stage for example
            and (not entry.has_ended or self._has_link(entry.session_id))
        ]

    def _has_link(self, session_id: str) -> bool:
        return self._speech is not None and self._speech.has_link(session_id)

    # --- what the model is told

    @contextmanager
    def told(self, origin: Origin, *, unless: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Turn an error of the service into one that the model reads; anything else is a defect and passes."""
        try:
            yield
        except ConfigurationError:  # of the application: what the model says was checked before
            raise
        except unless:
            raise
        except AgentHumanError as error:
            running = self._ledger.entries(
                lambda entry: not entry.has_ended and self._may_touch(origin)(entry)
            )
            raise ToolException(
                _texts.failure(error, self._settings.offered, [entry.session_id for entry in running])
            ) from error

    def news(self, origin: Origin) -> list[Entry]:
        """Sessions that the toolkit ended by itself, of which the model does not know yet."""
        return self._ledger.pop_news(self._may_touch(origin))


def has_agent(room: Room | None) -> bool:
    """Whether it is a LiveKit room of the application's, with a place for the one who speaks."""
    return isinstance(room, LiveKitRoom) and room.agent_token is not None


def _is_room_of(request: SessionRequest, room: LiveKitRoom) -> bool:
    """Whether whoever joins a room speaks through the session of a request, as far as names tell."""
    is_same = room.name == request.room_name or None in {room.name, request.room_name}
    return is_same and room.agent_identity == request.agent_identity


def checked_metadata(metadata: object) -> dict[str, Any]:
    """The application's own metadata of a session, copied: what a function changes in it stays with its request.

    Raises:
        ConfigurationError: It is no JSON object, or uses a key that is the client's own.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(
            f"metadata must be a dict, or a function that returns one, not {type(metadata).__name__!r}."
        )
    if reserved := _RESERVED & metadata.keys():
        raise ConfigurationError(f"metadata must not hold {min(reserved)!r}, which the toolkit sets itself.")
    return json_object("metadata", metadata)


def _over(session: Session) -> Session:
    if not session.has_ended:
        raise AgentHumanError(_texts.still_running(session), retryable=True)
    return session


_RESERVED = MARKS | {AGENT_IDENTITY, ROOM_NAME}


def _marks(reference: str, namespace: str | None, room: Room | None) -> dict[str, str]:
    """What other processes must know of a session, in its metadata."""
    marks = {CLIENT_REF: reference}
    if namespace is not None:
        # It is its thread's, not this process's: that may be dead while another worker uses the session.
        marks[CLIENT_OWNER] = f"langchain:{namespace}"
    if isinstance(room, LiveKitRoom):
        told = {AGENT_IDENTITY: room.agent_identity, ROOM_NAME: room.name}
        marks |= {key: value for key, value in told.items() if value is not None}
    return marks


def _request(origin: Origin) -> SessionRequest:
    return SessionRequest(origin.thread_id, origin.tool_call_id, origin.run_id, origin.agent)


def _begin(session: Session) -> float:
    begin = session.started_at or session.created_at
    return begin.timestamp() if begin else 0.0
