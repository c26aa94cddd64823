"""Which sessions a toolkit opened, for which tool call, and which of them still run."""

import hashlib
import threading
import uuid
from dataclasses import dataclass, field

from agenthuman_plugins.client import Session


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
    """

    thread_id: str | None = None
    tool_call_id: str | None = None

    @classmethod
    def of(cls, runtime: object | None) -> "Origin":
        """Read the `ToolRuntime` that an agent injects; `None` in a plain call.

        By its attributes, not its class: importing langgraph for that would cost a second.
        """
        config = getattr(runtime, "config", None)
        configurable = config.get("configurable") if isinstance(config, dict) else None
        thread_id = configurable.get("thread_id") if isinstance(configurable, dict) else None
        tool_call_id = getattr(runtime, "tool_call_id", None)
        return cls(
            thread_id=None if thread_id is None else str(thread_id),
            tool_call_id=tool_call_id if isinstance(tool_call_id, str) and tool_call_id else None,
        )

    def create_key(self) -> str:
        """The key of a create: the same for a replayed call, never the same for two conversations.

        Ids of tool calls repeat across conversations, so without a thread the key is random. It goes to the
        service as `client_ref` and therefore is a hash.
        """
        if self.thread_id is None or self.tool_call_id is None:
            return f"lc-{uuid.uuid4().hex}"
        digest = hashlib.sha256(f"{len(self.thread_id)}:{self.thread_id}{self.tool_call_id}".encode())
        return f"lc-{digest.hexdigest()[:32]}"


@dataclass(slots=True)
class _Entry:
    thread_id: str | None
    session: Session | None = field(default=None, repr=False)  # None while it is being opened
    ended: bool = False


class Ledger:
    """The sessions of one toolkit. Tools run in threads and tasks at once, so every step holds the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._closed = False

    def reopen(self) -> None:
        """Accept sessions, again."""
        with self._lock:
            self._closed = False

    def close(self) -> list[Session]:
        """Accept no more sessions, and return those that still run."""
        with self._lock:
            self._closed = True
            return [entry.session for entry in self._entries.values() if entry.session and not entry.ended]

    @property
    def opening(self) -> bool:
        """Whether a session is on its way."""
        with self._lock:
            return any(entry.session is None for entry in self._entries.values())

    def claim(self, key: str, origin: Origin) -> Session | None:
        """Begin a create; return the session if this very call has opened one before.

        Raises:
            CreateInProgressError: The same call is under way.
            LedgerClosedError: The block is over.
        """
        with self._lock:
            if self._closed:
                raise LedgerClosedError
            entry = self._entries.get(key)
            if entry is None:
                self._entries[key] = _Entry(origin.thread_id)
                return None
            if entry.session is None:
                raise CreateInProgressError
            return entry.session

    def release(self, key: str) -> None:
        """Forget a create that failed."""
        with self._lock:
            self._entries.pop(key, None)

    def add(self, key: str, session: Session) -> bool:
        """Keep the session of a create; `False` if the ledger was closed meanwhile and nobody will end it."""
        with self._lock:
            if self._closed:
                self._entries.pop(key, None)
                return False
            self._entries[key].session = session
            return True

    def find(self, session_id: str, origin: Origin) -> Session | None:
        """The session with this id, if it was opened here and in the same conversation."""
        with self._lock:
            for entry in self._entries.values():
                if (
                    entry.session
                    and entry.session.session_id == session_id
                    and entry.thread_id == origin.thread_id
                ):
                    return entry.session
        return None

    def mark_ended(self, session_id: str) -> None:
        """Note that a session no longer runs."""
        with self._lock:
            for entry in self._entries.values():
                if entry.session and entry.session.session_id == session_id:
                    entry.ended = True

    def running(self, origin: Origin | None = None) -> dict[str, Session]:
        """Sessions that were not ended yet, by id; of one conversation, or of all."""
        with self._lock:
            return {
                entry.session.session_id: entry.session
                for entry in self._entries.values()
                if entry.session
                and not entry.ended
                and (origin is None or entry.thread_id == origin.thread_id)
            }
