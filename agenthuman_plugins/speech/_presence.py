"""Whether the avatar of a room can be spoken through.

| state | what happens | next state | is told as |
| --- | --- | --- | --- |
| absent | it shows its picture | ready | `AvatarConnected` |
| ready | it leaves, or its picture goes | away | |
| away | it shows its picture | ready | |
| away | it has been away for too long | absent | `AvatarDisconnected` |
| ready, away | it says that it is disconnected | absent | `AvatarDisconnected` |

Everything else changes nothing. A worker that connects once more, as some do while they start, is away for a moment:
that is no reason to open another session, which is billed.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from agenthuman_plugins.speech.link import AvatarConnected, AvatarDisconnected, LinkEvent

AWAY_LIMIT_S = 2.0


class State(Enum):
    """Whether the avatar is there."""

    ABSENT = auto()
    READY = auto()
    AWAY = auto()


class Change(Enum):
    """What an avatar does."""

    SHOWN = auto()
    LEFT = auto()
    OVERDUE = auto()
    REFUSED = auto()


TRANSITIONS = {
    (State.ABSENT, Change.SHOWN): State.READY,
    (State.READY, Change.LEFT): State.AWAY,
    (State.AWAY, Change.SHOWN): State.READY,
    (State.AWAY, Change.OVERDUE): State.ABSENT,
    (State.READY, Change.REFUSED): State.ABSENT,
    (State.AWAY, Change.REFUSED): State.ABSENT,
}


class Presence:
    """Follows an avatar by what its room tells.

    Args:
        tell: Called with each event.

    Attributes:
        state: Whether the avatar is there.
    """

    def __init__(self, tell: Callable[[LinkEvent], None]) -> None:
        self.state = State.ABSENT
        self._tell = tell
        self._overdue: asyncio.TimerHandle | None = None

    def take(self, change: Change, reason: str = "") -> None:
        """Take what the avatar does.

        Args:
            change: What that is.
            reason: Why the avatar is not there, for `AvatarDisconnected`.
        """
        before, self.state = self.state, TRANSITIONS.get((self.state, change), self.state)
        if self.state is before:
            return
        self.close()
        match before, self.state:
            case State.ABSENT, _:
                self._tell(AvatarConnected())
            case _, State.ABSENT:
                self._tell(AvatarDisconnected(reason))
            case _, State.AWAY:
                loop = asyncio.get_running_loop()
                self._overdue = loop.call_later(AWAY_LIMIT_S, self.take, Change.OVERDUE, reason)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
