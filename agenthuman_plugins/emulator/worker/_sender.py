"""Whom the avatar listens to."""

from collections.abc import Iterable

from livekit import rtc


class Sender:
    """The one participant whose speech, clears and reports count.

    In this order: the one named in the settings; the one that the avatar's own attribute names; the first
    participant of kind "agent"; the first that opens a stream. The last two hold until that one leaves.

    Args:
        named: Identity from the settings, if there is one.
    """

    def __init__(self, named: str | None) -> None:
        self._named = named
        self._found: str | None = None
        self._gone = False

    @property
    def identity(self) -> str | None:
        """Who it is, once known."""
        return self._named or self._found

    @property
    def reachable(self) -> str | None:
        """Who can be told of playback: the sender, unless it left and has not spoken since."""
        return None if self._gone else self.identity

    def name(self, identity: str | None) -> None:
        """Take the identity of the avatar's own attribute, unless the settings name one."""
        self._named = self._named or identity

    def look_among(self, participants: Iterable[rtc.RemoteParticipant]) -> None:
        """Find an agent, unless the sender is known."""
        if self.identity is None:
            agents = (
                p.identity for p in participants if p.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
            )
            self._found = next(agents, None)

    def accepts(self, identity: str) -> bool:
        """Whether a stream of this participant counts; the first one ever decides who the sender is."""
        if self.identity is None:
            self._found = identity
        accepted = identity == self.identity
        self._gone = self._gone and not accepted
        return accepted

    def left(self, identity: str) -> bool:
        """Note that a participant left; tell whether it was the sender."""
        if identity != self.identity:
            return False
        self._found = None
        self._gone = True
        return True
