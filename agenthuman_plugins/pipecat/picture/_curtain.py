"""Keeps back the pictures that still show a reply which was cut.

A picture does not tell what is said in it, and those that the avatar had sent before it stopped come after the
interruption. When it has confirmed that it stopped, no more of them can come than were under way by then.
"""

from collections.abc import Callable

_LIMIT_S = 0.6  # a picture that stands still for longer is worse than an old one
_DRAWN_S = 0.05  # the picture that the avatar was drawing when it stopped


class Curtain:
    """Closed from an interruption until the pictures of the cut reply have come.

    Args:
        transit_s: Tells for how many seconds a picture is under way, at most.
        clock: Seconds from an arbitrary start.
    """

    def __init__(self, transit_s: Callable[[], float], clock: Callable[[], float]) -> None:
        self._transit_s = transit_s
        self._clock = clock
        self._until = -float("inf")

    def close(self) -> None:
        """Note that speech in flight was cut."""
        self._until = self._clock() + _LIMIT_S

    def confirm(self) -> None:
        """Note that the avatar has stopped."""
        self._until = min(self._until, self._clock() + self._transit_s() + _DRAWN_S)

    def open(self) -> None:
        """Note that another avatar takes over, which never said the reply that was cut."""
        self._until = -float("inf")

    def hides(self, arrived: float) -> bool:
        """Whether a picture that arrived at that time may show the cut reply."""
        return arrived < self._until
