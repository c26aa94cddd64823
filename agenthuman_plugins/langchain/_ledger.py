"""Which sessions a toolkit opened, for which tool call, and which of them still run."""

import hashlib
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agenthuman_plugins.client import Session
from agenthuman_plugins.client.rooms import Room

_KEPT_ENDED = (
    1_000  # ended sessions that are remembered, so that a process that serves for months does not grow
)

# Where langgraph tells a node its checkpointer. If it is renamed, replays in a new process are no longer looked
# for; locked by test_replay_in_a_new_process_finds_its_session.
_CHECKPOINTER = "__pregel_checkpointer"


class CreateInProgressError(Exception):
    """Raised when the same tool call is already opening its session."""


class LedgerClosedError(Exception):
    """Raised when a session is to be opened that nobody would end."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tool call comes from.

    Attributes:
        thread_id: Conversation that the agent runs in; `None` outside of one.
        tool_call_id: Id of the call, which a replayed checkpoint repeats.
        has_checkpoints: Whether the run is kept, so that another process may replay it.
    """

    thread_id: str | None = None
    tool_call_id: str | None = None
    has_checkpoints: bool = False

    @classmethod
    def of(cls, runtime: object | None) -> "Origin":
        """Read the `ToolRuntime` that an agent injects; `None` in a plain call.

        By its attributes, not its class: importing langgraph for that would cost a second.
        """
        config = getattr(runtime, "config", None)
        configurable = config.get("configurable") if isinstance(config, Mapping) else None
        told: Mapping[str, Any] = configurable if isinstance(configurable, Mapping) else {}
        thread_id = told.get("thread_id")
        tool_call_id = getattr(runtime, "tool_call_id", None)
        return cls(
            thread_id=None if thread_id is None else str(thread_id),
            tool_call_id=tool_call_id if isinstance(tool_call_id, str) and tool_call_id else None,
            has_checkpoints=told.get(_CHECKPOINTER) is not None,
        )

    @property
    def is_repeatable(self) -> bool:
        """Whether this very call can be told from every other one, should it be made again."""
        return self.thread_id is not None and self.tool_call_id is not None

    @property
    def may_be_replayed(self) -> bool:
        """Whether a process that is gone may have made this very call."""
        return self.has_checkpoints and self.is_repeatable

    def create_key(self) -> str:
        """The key of a create: the same for a replayed call, never the same for two conversations.

        Ids of tool calls repeat across conversations, so without a thread the key is random. It goes to the
        service as `client_ref` and therefore is a hash.
        """
        if self.thread_id is None or self.tool_call_id is None:
            return f"lc-{uuid.uuid4().hex}"
        named = f"{len(self.thread_id)}:{self.thread_id}{self.tool_call_id}"
        # A model may make up a call id that UTF-8 cannot hold.
        return f"lc-{hashlib.sha256(named.encode(errors='surrogatepass')).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A session that a toolkit opened.

    Attributes:
        session: As the create told it; tokens included, status kept up to date as far as the tools see it.
        room: Room that it was opened in; `None` if the service made one, or if another process opened it in a
            room that only that process knew.
        thread_id: Conversation that it was opened in; `None` outside of one.
    """

    session: Session = field(repr=False)
    room: Room | None = field(repr=False)
    thread_id: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known when a create begins.

    Attributes:
        earlier: The session that this very call has opened before.
        in_doubt: Whether this very call was made before, and may have opened a session that was not found.
    """

    earlier: Session | None = None
    in_doubt: bool = False


@dataclass(slots=True)
class _Place:
    entry: Entry | None = None  # None while the session is being opened, or its outcome is unknown
    in_doubt: bool = False

    @property
    def is_opening(self) -> bool:
        return self.entry is None and not self.in_doubt


class Ledger:
    """The sessions of one toolkit. Tools run in threads and tasks at once, so every step holds the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}  # oldest first
        self._closed = False

    def reopen(self) -> None:
        """Accept sessions, again."""
        with self._lock:
            self._closed = False

    def close(self) -> list[Entry]:
        """Accept no more sessions, and return those that still run."""
        with self._lock:
            self._closed = True
            return [entry for entry in self._entries() if not entry.session.has_ended]

    @property
    def opening(self) -> bool:
        """Whether a session is on its way."""
        with self._lock:
            return any(place.is_opening for place in self._places.values())

    def claim(self, key: str) -> Claim:
        """Begin a create, unless this very call has opened a session before.

        Raises:
            CreateInProgressError: The same call is under way.
            LedgerClosedError: The block is over.
        """
        with self._lock:
            if self._closed:
                raise LedgerClosedError
            place = self._places.get(key)
            if place is not None and place.is_opening:
                raise CreateInProgressError
            if place is not None and place.entry is not None:
                return Claim(earlier=place.entry.session)
            self._places[key] = _Place()
            return Claim(in_doubt=place is not None)

    def release(self, key: str) -> None:
        """Forget a create that left no session behind."""
        with self._lock:
            self._places.pop(key, None)

    def doubt(self, key: str) -> None:
        """Remember a create that may have left a session behind."""
        with self._lock:
            self._places[key] = _Place(in_doubt=True)

    def add(self, key: str, entry: Entry) -> None:
        """Keep the session of a create.

        Raises:
            LedgerClosedError: The block is over, and nobody will end it.
        """
        with self._lock:
            if self._closed:
                raise LedgerClosedError
            self._places[key] = _Place(entry)

    def entries(self) -> list[Entry]:
        """Every session, newest first."""
        with self._lock:
            return self._entries()[::-1]

    def mark_ended(self, session_id: str, told: Session | None = None) -> None:
        """Note that a session no longer runs, and what the service told about its end."""
        news = {"status": "ended"}
        if told is not None:
            news |= told.model_dump(include={"ended_at", "duration"}, exclude_none=True)
        with self._lock:
            for place in self._places.values():
                if place.entry is not None and place.entry.session.session_id == session_id:
                    session = place.entry.session.model_copy(update=news)
                    place.entry = Entry(session, place.entry.room, place.entry.thread_id)
            ended = [
                key for key, place in self._places.items() if place.entry and place.entry.session.has_ended
            ]
            for key in ended[:-_KEPT_ENDED]:
                del self._places[key]

    def _entries(self) -> list[Entry]:
        return [place.entry for place in self._places.values() if place.entry is not None]
