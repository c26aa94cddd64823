"""Sessions that end by themselves: after a total time, or after a time without use."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agenthuman_plugins.client import AgentHumanError
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._holding import Holding
from agenthuman_plugins.langchain._ledger import Entry, Ledger
from agenthuman_plugins.langchain._loop import BackgroundLoop

_log = logging.getLogger("agenthuman_plugins.langchain")

_RETRY_S = 30.0  # where a session could not be ended


@dataclass(slots=True)
class _Watch:
    """How long a session may go on here.

    Attributes:
        since: End of its last use, or begin of the watch.
        ends_at: When its time is over; infinite without a limit.
        running: Whether somebody watches it.
    """

    since: float
    ends_at: float
    running: bool = True


class Limits:
    """Watches the sessions that this process is to end.

    Args:
        max_session_s: Longest life of a session in seconds; `None`: no limit of ours.
        max_idle_s: Longest time without a call that uses it; `None`: no limit.
        loop: Where the watch runs.
        ledger: Where the sessions are kept.
        end: Ends a session, whatever clients there are.
    """

    def __init__(
        self,
        max_session_s: float | None,
        max_idle_s: float | None,
        *,
        loop: BackgroundLoop,
        ledger: Ledger,
        end: Callable[[str], Awaitable[None]],
    ) -> None:
        self._max_session_s = max_session_s
        self._max_idle_s = max_idle_s
        self._loop = loop
        self._ledger = ledger
        self._end = end
        self._lock = threading.Lock()
        self._watches: dict[str, _Watch] = {}
        self._in_use: Counter[str] = Counter()

    @property
    def watching(self) -> bool:
        """Whether a session that this process is to end is watched."""
        with self._lock:
            running = [session_id for session_id, watch in self._watches.items() if watch.running]
        entries = map(self._ledger.get, running)
        return any(entry is not None and entry.holding is Holding.OWNER for entry in entries)

    def watch(self, entry: Entry) -> None:
        """Watch a session that this process is to end from now on. Its age counts from its start."""
        if self._max_session_s is None and self._max_idle_s is None:
            return
        now = time.monotonic()
        with self._lock:
            watch = self._watches.get(entry.session_id)
            if watch is not None:
                watch.since = now
                if watch.running:
                    return
                watch.running = True
            else:
                left_s = float("inf") if self._max_session_s is None else self._max_session_s - _age_s(entry)
                self._watches[entry.session_id] = _Watch(now, now + left_s)
        self._loop.spawn(lambda: self._watch(entry.session_id))

    @contextmanager
    def used(self, session_id: str) -> Iterator[None]:
        """Use a session inside the block: it is not idle then, and not before the whole time has passed again."""
        with self._lock:
            self._in_use[session_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_use[session_id] -= 1
                if not self._in_use[session_id]:
                    del self._in_use[session_id]
                if (watch := self._watches.get(session_id)) is not None:
                    watch.since = time.monotonic()

    async def _watch(self, session_id: str) -> None:
        try:
            await self._until_over(session_id)
        except BaseException:  # the loop was closed: what uses the session later has it watched again
            with self._lock:
                if (watch := self._watches.get(session_id)) is not None:
                    watch.running = False
            raise

    async def _until_over(self, session_id: str) -> None:
        while (left := self._left(session_id)) is not None:
            left_s, because = left
            if left_s > 0:
                await asyncio.sleep(left_s)
                continue
            try:
                # Before it has ended, so that a call that comes now is told why.
                self._ledger.ending(session_id, because)
                await self._end(session_id)
            except AgentHumanError as error:
                self._ledger.ending(session_id, "")
                _log.error("Session %s could not be ended at its limit: %s", session_id, error)
                await asyncio.sleep(_RETRY_S)
            else:
                _log.info("Session %s was ended: %s", session_id, because)

    def _left(self, session_id: str) -> tuple[float, str] | None:
        """Seconds until a session may be ended, and why it would be; `None` if that is not ours to do any more."""
        now = time.monotonic()
        with self._lock:  # also over the look into the ledger: whoever makes it ours again begins a new watch
            watch, entry = self._watches[session_id], self._ledger.get(session_id)
            if entry is None or entry.holding is not Holding.OWNER:
                watch.running = False
                if entry is None or entry.has_ended:
                    del self._watches[session_id]
                return None
            idle_at = float("inf")
            if self._max_idle_s is not None:
                # While it is used, it is looked at again when it could be idle at the earliest.
                idle_at = (now if session_id in self._in_use else watch.since) + self._max_idle_s
            if watch.ends_at <= idle_at:
                return watch.ends_at - now, _texts.reached_its_limit(self._max_session_s or 0.0)
            return idle_at - now, _texts.was_idle(self._max_idle_s or 0.0)


def _age_s(entry: Entry) -> float:
    """How long a session of another process has run; by its clock and ours, which may differ a little."""
    started_at = entry.session.started_at
    return 0.0 if entry.made_here or started_at is None else max(0.0, time.time() - started_at.timestamp())
