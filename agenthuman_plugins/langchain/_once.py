"""What is carried out once, however often it is asked for: by a replay, or twice at the same time."""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Generic, TypeVar

_T = TypeVar("_T")

_KEPT = 1_000  # results that are remembered, so that a process that serves for months does not grow


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
