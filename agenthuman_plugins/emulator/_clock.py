"""The emulator's clock, which can be paused and moved forward."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from agenthuman_plugins.emulator._errors import EmulatorError

MAX_AHEAD = timedelta(days=3_660)  # ten years: dates stay in the range that everybody can read


class EmulatorClock:
    """The time of everything that has a limit: sessions, links, periods and request rates.

    Avatars do not follow it: they speak at their own pace, whatever it shows.

    Args:
        source: The real time.

    Attributes:
        on_move: Called after the clock was moved forward.
    """

    def __init__(self, source: Callable[[], datetime]) -> None:
        self._source = source
        self._ahead = timedelta()
        self._paused_at: datetime | None = None
        self.on_move: Callable[[], None] = lambda: None

    def __call__(self) -> datetime:
        """Return the time."""
        return self._paused_at or self._source() + self._ahead

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused_at is not None

    def pause(self) -> None:
        """Pause; harmless when repeated.

        Example:
            ```python
            emulator.clock.pause()
            assert emulator.clock() == emulator.clock()
            ```
        """
        self._paused_at = self()

    def resume(self) -> None:
        """Resume where it was paused; harmless when repeated.

        Example:
            ```python
            emulator.clock.resume()
            ```
        """
        if self._paused_at is not None:
            self._ahead = self._paused_at - self._source()
            self._paused_at = None

    def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move forward, also while paused. Sessions whose time is over have ended when this returns.

        Example:
            ```python
            emulator.clock.advance(hours=4)  # to the limit of a session
            ```

        Raises:
            EmulatorError: The duration is negative, or ends more than ten years ahead.
        """
        try:
            duration = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        except (OverflowError, ValueError):
            duration = timedelta.max
        if not timedelta() <= duration <= MAX_AHEAD - self.offset:
            raise EmulatorError("The clock goes only forward, and at most ten years ahead.")
        if self._paused_at is not None:
            self._paused_at += duration
        else:
            self._ahead += duration
        self.on_move()

    def reset(self) -> None:
        """Show the real time again, and go."""
        self._ahead = timedelta()
        self._paused_at = None

    @property
    def offset(self) -> timedelta:
        """How far it is from the real time; while it stands still, that grows by itself."""
        return self._ahead if self._paused_at is None else self._paused_at - self._source()

    def describe(self) -> dict[str, Any]:
        """Return what `GET /emulator/clock` answers."""
        now = self().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"now": now, "paused": self.paused, "offset_s": round(self.offset.total_seconds(), 3)}
