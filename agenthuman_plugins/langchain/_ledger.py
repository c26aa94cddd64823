"""The sessions that a toolkit knows: opened here, or adopted from another process of the application."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agenthuman_plugins.client import Session
from agenthuman_plugins.client.rooms import Room
from agenthuman_plugins.langchain._calls import Once
from agenthuman_plugins.langchain._holding import Change, Holding, after
from agenthuman_plugins.langchain._origin import Origin

_KEPT = 1_000  # ended sessions, and references of other sessions, that are remembered


class LedgerClosedError(Exception):
    """Raised when a session is to be opened that nobody would end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A session that a toolkit knows.

    Attributes:
        session: As the create returned it, tokens included, or as it was found; status and end are kept up to date
            as far as the tools learn of them.
        reference: Its `client_ref`.
        origin: Call that opened it, or that named it here first.
        holding: What this process is to it.
        made_here: Whether this process opened it.
        room: Room of the application's own that it is in; `None` if the service made one, or if it is not known here.
        because: Why the toolkit ended it by itself; empty if it did not.
    """

    session: Session = field(repr=False)
    reference: str
    origin: Origin
    holding: Holding | None = None
    made_here: bool = True
    room: Room | None = field(default=None, repr=False)
    because: str = ""

    @property
    def session_id(self) -> str:
        """Id of the session."""
        return self.session.session_id

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return self.holding is Holding.ENDED


class Ledger:
    """The sessions of one toolkit. Tools run in threads and tasks at once, so every step holds the lock.

    Attributes:
        opens: Creates by their key, with the id of the session that each has opened.
        says: What was said, by the key of its call.
        unannounced: Sessions that the application failed to take note of, and that could not be ended then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # oldest first
        self._closed = False
        self._doubtful: set[str] = set()
        self.opens: Once[str] = Once()
        self.says: Once[tuple[str, dict[str, object]]] = Once()
        self.unannounced: set[str] = set()
        # References of sessions that are not of this toolkit, so that each is asked for once.
        self._foreign: OrderedDict[str, str | None] = OrderedDict()

    def reopen(self) -> None:
        """Accept sessions, again."""
        with self._lock:
            self._closed = False

    def close(self) -> list[Entry]:
        """Accept no more sessions, and return those that this process is to end."""
        with self._lock:
            self._closed = True
            return [entry for entry in self._entries.values() if entry.holding is Holding.OWNER]

    def check_open(self) -> None:
        """Make sure that a session that is opened now will be ended.

        Raises:
            LedgerClosedError: The block is over.
        """
        with self._lock:
            if self._closed:
                raise LedgerClosedError

    def add(self, entry: Entry, change: Change) -> Entry:
        """Keep a session that was opened or found; what an earlier create returned stays.

        Raises:
            LedgerClosedError: It was opened, but the block is over and nobody will end it.
        """
        with self._lock:
            if self._closed and change is Change.OPENED:
                raise LedgerClosedError
            known = self._entries.get(entry.session_id)
            if known is None:
                kept = replace(entry, holding=after(None, change))
            else:
                kept = replace(known, holding=after(known.holding, change))
            self._entries[entry.session_id] = kept
            self._foreign.pop(entry.session_id, None)
        return kept if not entry.session.has_ended else self.ended(entry.session_id, entry.session) or kept

    def change(self, session_id: str, change: Change) -> Entry | None:
        """Note what happened to a session; `None` if it is not known."""
        with self._lock:
            if (entry := self._entries.get(session_id)) is None:
                return None
            self._entries[session_id] = entry = replace(entry, holding=after(entry.holding, change))
            return entry

    def settle_in(self, session_id: str, room: Room) -> None:
        """Note the room in which this process speaks through a session that another one opened."""
        with self._lock:
            if (entry := self._entries.get(session_id)) is not None:
                self._entries[session_id] = replace(entry, room=room)

    def ended(self, session_id: str, told: Session | None = None) -> Entry | None:
        """Note that a session no longer runs, and what the service said about its end."""
        news: dict[str, object] = {"status": "ended"}
        if told is not None:
            news |= {
                name: value
                for name in ("ended_at", "duration", "billing")
                if (value := getattr(told, name)) is not None
            }
        with self._lock:
            if (entry := self._entries.get(session_id)) is None:
                return None
            self._entries[session_id] = entry = replace(
                entry,
                session=entry.session.model_copy(update=news),
                holding=after(entry.holding, Change.ENDED),
            )
            over = [known.session_id for known in self._entries.values() if known.has_ended]
            for gone in over[:-_KEPT]:
                del self._entries[gone]
            return entry

    def ending(self, session_id: str, because: str) -> None:
        """Note why the toolkit is about to end a session by itself."""
        with self._lock:
            if (entry := self._entries.get(session_id)) is not None:
                self._entries[session_id] = replace(entry, because=because)

    def get(self, session_id: str) -> Entry | None:
        """A session by its id."""
        with self._lock:
            return self._entries.get(session_id)

    def entries(self, matching: Callable[[Entry], bool] = lambda _: True) -> list[Entry]:
        """The sessions, newest first."""
        with self._lock:
            return [entry for entry in reversed(self._entries.values()) if matching(entry)]

    def not_ours(self, session_id: str, reference: str | None) -> None:
        """Remember the reference of a session of somebody else."""
        with self._lock:
            self._foreign[session_id] = reference
            while len(self._foreign) > _KEPT:
                self._foreign.popitem(last=False)

    def reference_of(self, session_id: str) -> str | None:
        """The reference of a session, of this toolkit or not; `None` if it has none.

        Raises:
            KeyError: It was never asked for.
        """
        with self._lock:
            entry = self._entries.get(session_id)
            return self._foreign[session_id] if entry is None else entry.reference

    def doubt(self, key: str) -> None:
        """Remember a create that may have left a session behind: the same call looks for it first."""
        with self._lock:
            self._doubtful.add(key)

    def in_doubt(self, key: str) -> bool:
        """Whether a create may have left a session behind."""
        with self._lock:
            return key in self._doubtful

    def settle(self, key: str) -> None:
        """Forget a doubt: the session was found, or there is none."""
        with self._lock:
            self._doubtful.discard(key)

    def pop_news(self, matching: Callable[[Entry], bool]) -> list[Entry]:
        """The sessions that the toolkit ended by itself since this was asked last; each is told once."""
        with self._lock:
            news = [
                entry
                for entry in self._entries.values()
                if entry.because and entry.has_ended and matching(entry)
            ]
            for entry in news:
                self._entries[entry.session_id] = replace(entry, because="")
        return news
