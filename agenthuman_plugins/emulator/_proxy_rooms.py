"""Rooms that the service makes itself (platform `proxy`)."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.rooms import AVATAR_IDENTITY, ON_BEHALF_OF
from agenthuman_plugins.emulator._errors import EmulatorError, ServiceError
from agenthuman_plugins.emulator.process import ChildError
from agenthuman_plugins.emulator.rooms import Kind, RoomServer, media_interface

RoomServerKind = Kind | Literal["auto"]


@dataclass(frozen=True, slots=True)
class ProxyRoom:
    """A room: where it is, and how the avatar and the caller join it."""

    url: str
    avatar_token: str = field(repr=False)
    participant_token: str = field(repr=False)


class ProxyRooms(Protocol):
    """Makes rooms."""

    async def open(self, name: str) -> ProxyRoom:
        """Make a room.

        Raises:
            ServiceError: There is no room server.
        """


class RoomServerRooms:
    """Rooms on a room server, which starts in the background while the first requests already come in."""

    def __init__(self, kind: RoomServerKind) -> None:
        self._kind = kind
        self._start: asyncio.Task[RoomServer] | None = None

    async def __aenter__(self) -> Self:
        self._start = asyncio.create_task(_start(self._kind), name="start of the room server")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._start is not None  # noqa: S101 - entered
        self._start.cancel()
        await asyncio.wait([self._start])
        with contextlib.suppress(EmulatorError, asyncio.CancelledError):  # there is nothing to stop
            await self._start.result().aclose()

    @property
    def started(self) -> RoomServer | None:
        """The room server if it has been started."""
        start = self._start
        if start is None or not start.done() or start.cancelled() or start.exception() is not None:
            return None
        return start.result()

    @property
    def status(self) -> str:
        """Kind of the room server when it runs, else `starting` or `failed`."""
        if self.started is not None:
            return self.started.kind if self.started.running else "failed"
        return "failed" if self._start is not None and self._start.done() else "starting"

    async def ready(self) -> RoomServer:
        """Wait for the room server; its start has a time limit of its own.

        Raises:
            EmulatorError: It could not be started, or has ended.
        """
        assert self._start is not None  # noqa: S101 - entered
        server = await asyncio.shield(
            self._start
        )  # a waiter that is cancelled does not take the server along
        if not server.running:
            raise EmulatorError("The room server has ended: start the emulator again.")
        return server

    async def open(self, name: str) -> ProxyRoom:
        """Make a room, for the avatar and for the caller that it speaks for."""
        try:
            server = await self.ready()
        except EmulatorError as error:
            raise ServiceError(503, str(error)) from error
        caller = f"participant-{secrets.token_hex(4)}"
        return ProxyRoom(
            url=server.url,
            avatar_token=server.mint(
                room=name,
                identity=AVATAR_IDENTITY,
                name=AVATAR_IDENTITY,
                kind="agent",
                attributes={ON_BEHALF_OF: caller},
            ),
            participant_token=server.mint(room=name, identity=caller),
        )


async def _start(kind: RoomServerKind) -> RoomServer:
    if media_interface() is None:
        raise EmulatorError(
            "No network interface is up besides loopback, which LiveKit leaves out:"
            " connect to a network, any will do, even one without internet."
        )
    try:
        return await RoomServer.start(kind)
    except (ConfigurationError, ChildError) as error:
        raise EmulatorError(f"The room server could not be started: {error}") from error


class NoRooms:
    """Addresses of rooms that nobody serves, for tests of the REST side alone."""

    async def open(self, name: str) -> ProxyRoom:
        """Make up a room."""
        return ProxyRoom(
            url="ws://127.0.0.1:9",  # port 9 is `discard`
            avatar_token=f"avatar-token-of-{name}",
            participant_token=f"participant-token-of-{name}",
        )
