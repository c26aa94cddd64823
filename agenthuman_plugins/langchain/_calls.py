"""Calls of tools: each carried out once, however often it is asked for, and in the order of its message."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from langchain_core.tools import ToolException

from agenthuman_plugins.langchain._drivers import Driver
from agenthuman_plugins.langchain._origin import Origin

_T = TypeVar("_T")

_KEPT = 1_000  # calls that are remembered, so that a process that serves for months does not grow
# For a call to begin that stands in the same message: one that a person or a middleware held back never does.
_BEGIN_LIMIT_S = 2.0
_END_LIMIT_S = 600.0  # several texts one after the other, each of which takes up to three minutes


class Once(Generic[_T]):
    """Results by the key of what made them. Tools run in threads and tasks at once, so every step holds the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[None]] = {}
        self._done: OrderedDict[str, _T] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        with self._lock:
            return bool(self._under_way)

    def claim(self, key: str) -> "Future[None] | _T | None":
        """Begin, unless it was done before or is under way: then its result, or what is done when that is over."""
        with self._lock:
            if key in self._under_way:
                return self._under_way[key]
            if key in self._done:
                return self._done[key]
            self._under_way[key] = Future()
            return None

    def done(self, key: str, result: _T) -> None:
        """Remember a result."""
        self._over(key, result)

    def failed(self, key: str) -> None:
        """Let it be tried again."""
        self._over(key, None)

    def forget(self, key: str, result: _T) -> None:
        """Forget a result, so that it is made anew; a newer one stays."""
        with self._lock:
            if self._done.get(key) == result:
                del self._done[key]

    def _over(self, key: str, result: _T | None) -> None:
        with self._lock:
            waiting = self._under_way.pop(key, None)
            if result is not None:
                self._done[key] = result
                while len(self._done) > _KEPT:
                    self._done.popitem(last=False)
        if waiting is not None:
            waiting.set_result(None)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    begun: "Future[None]" = field(default_factory=Future)
    over: "Future[None]" = field(default_factory=Future)


class Order:
    """Lets a call for a session wait for those before it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: OrderedDict[tuple[str | None, ...], _Call] = OrderedDict()
        self._under_way: list[tuple[str, _Call]] = []  # with the session of each

    @contextmanager
    def carried_out(self, origin: Origin, session_id: str) -> Iterator[None]:
        """Note that a call is being carried out inside the block."""
        call = self._call(origin, origin.tool_call_id, begins=True)
        with self._lock:
            self._under_way.append((session_id, call))
        try:
            yield
        except ToolException:  # its result
            raise
        except BaseException:  # it will be made again, and is waited for then, too
            with self._lock:
                self._calls.pop(_key(origin, origin.tool_call_id), None)
            raise
        finally:
            with self._lock:
                self._under_way.remove((session_id, call))
            call.over.set_result(None)

    async def wait(self, drive: Driver, origin: Origin, session_id: str, earlier: Iterable[str]) -> None:
        """Wait until the calls that are under way are over.

        Args:
            drive: Waits.
            origin: The call that waits.
            session_id: The session that all of them are for.
            earlier: Ids of calls of the same message; one that has not begun is waited for, too.
        """
        with self._lock:
            under_way = [call for its, call in self._under_way if its == session_id]
        for tool_call_id in earlier:
            call = self._call(origin, tool_call_id)
            if await drive.wait(call.begun, _BEGIN_LIMIT_S):
                await drive.wait(call.over, _END_LIMIT_S)
        for call in under_way:  # of a node that shows us no message
            await drive.wait(call.over, _END_LIMIT_S)

    def _call(self, origin: Origin, tool_call_id: str | None, *, begins: bool = False) -> _Call:
        key = _key(origin, tool_call_id)
        with self._lock:
            call = self._calls.get(key)
            if call is None or (begins and call.begun.done()):
                call = self._calls[key] = _Call()
            while len(self._calls) > _KEPT:
                self._calls.popitem(last=False)
            if begins:
                call.begun.set_result(None)
            return call


def _key(origin: Origin, tool_call_id: str | None) -> tuple[str | None, ...]:
    return origin.thread_id, origin.message_id, tool_call_id
