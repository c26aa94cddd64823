"""Sessions that end by themselves: after a time in all, or a time in which nobody used them."""

import asyncio
import logging
import threading
import time
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
class _Use:
    """How a session is used here."""

    since: float  # end of its last use
    ends_at: float  # on the monotonic clock; infinite without a limit
    in_use: int = 0


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
        self._uses: dict[str, _Use] = {}

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self._max_session_s is not None or self._max_idle_s is not None

    def watch(self, entry: Entry) -> None:
        """Watch a session that this process is to end from now on. Its age counts from its start."""
        if not self.any:
            return
        now = time.monotonic()
        age_s = 0.0
        if not entry.made_here and entry.session.started_at is not None:
            age_s = max(0.0, time.time() - entry.session.started_at.timestamp())
        limit_s = float("inf") if self._max_session_s is None else self._max_session_s - age_s
        with self._lock:
            if (use := self._uses.get(entry.session_id)) is not None:  # it is watched, and used just now
                use.since = now
                return
            self._uses[entry.session_id] = _Use(now, now + limit_s)
        self._loop.spawn(lambda: self._watch(entry.session_id))

    @contextmanager
    def used(self, session_id: str) -> Iterator[None]:
        """Use a session inside the block: it is not idle then, and not before the whole time has passed again."""
        with self._lock:
            use = self._uses.get(session_id)
            if use is not None:
                use.in_use += 1
        try:
            yield
        finally:
            if use is not None:
                with self._lock:
                    use.in_use -= 1
                    use.since = time.monotonic()

    async def _watch(self, session_id: str) -> None:
        try:
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
                    _log.error("Session %s could not be ended at its limit: %s", session_id, error)
                    await asyncio.sleep(_RETRY_S)
                else:
                    _log.info("Session %s was ended: %s", session_id, because)
        finally:
            with self._lock:
                self._uses.pop(session_id, None)

    def _left(self, session_id: str) -> tuple[float, str] | None:
        """Seconds until a session may be ended, and why it would be; `None` if that is not ours to do any more."""
        entry = self._ledger.get(session_id)
        if entry is None or entry.holding is not Holding.OWNER:
            return None
        now = time.monotonic()
        with self._lock:
            use = self._uses[session_id]
            idle_at = float("inf")
            if self._max_idle_s is not None:
                # While it is used, it is looked at again when it could be idle at the earliest.
                idle_at = (now if use.in_use else use.since) + self._max_idle_s
            if use.ends_at <= idle_at:
                return use.ends_at - now, _texts.reached_its_limit(self._max_session_s or 0.0)
            return idle_at - now, _texts.was_idle(self._max_idle_s or 0.0)
