"""Which sessions nobody will end any more."""

from collections.abc import Iterable, Mapping

from agenthuman_plugins.client._owner import CLIENT_OWNER, Owner
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import Session


def check_owner(owner: object) -> None:
    """Check what a caller gives as the owner.

    Raises:
        ConfigurationError: It names nobody; an empty text must not mean everybody.
    """
    if owner is not None and not (isinstance(owner, str) and owner.strip()):
        raise ConfigurationError(
            f"owner must be the whole metadata[{CLIENT_OWNER!r}] of the sessions to end, or None for those whose "
            "process on this machine is dead."
        )


def left_open(sessions: Iterable[Session], owner: str | None) -> list[Session]:
    """The sessions of `owner`, or without one those of processes of this machine that are proven dead.

    Asks the operating system about processes, which may take a moment.
    """
    return [session for session in sessions if _is_left_open(_owner_of(session), owner)]


def _is_left_open(mark: str | None, owner: str | None) -> bool:
    if mark is None:
        return False
    if owner is not None:
        return mark == owner
    process = Owner.parse(mark)
    return process is not None and process.is_dead()


def _owner_of(session: Session) -> str | None:
    mark = session.metadata.get(CLIENT_OWNER) if isinstance(session.metadata, Mapping) else None
    return mark if isinstance(mark, str) and mark else None
