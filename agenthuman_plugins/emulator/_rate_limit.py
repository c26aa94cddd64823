"""The service's limit on requests per minute."""

from agenthuman_plugins.emulator._errors import TooManyRequestsError
from agenthuman_plugins.emulator._store import Clock

_WINDOW_S = 60


class RateLimit:
    """Counts requests in windows of a minute.

    Args:
        limit: Requests per window. The documented number is 60.
        clock: Tells the time.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._window = 0
        self._taken = 0

    def clear(self) -> None:
        """Forget the requests of this window."""
        self._taken = 0

    def take(self) -> dict[str, str]:
        """Count a request and return the headers of its answer.

        Raises:
            TooManyRequestsError: This window's requests are used up; it carries the headers, too.
        """
        window = int(self._clock().timestamp()) // _WINDOW_S
        if window != self._window:
            self._window, self._taken = window, 0
        self._taken += 1
        headers = {
            "X-RateLimit-Limit": str(self._limit),
            "X-RateLimit-Remaining": str(max(0, self._limit - self._taken)),
            "X-RateLimit-Reset": str((window + 1) * _WINDOW_S),
        }
        if self._taken > self._limit:
            raise TooManyRequestsError(headers)
        return headers
