"""A room server for the emulator: one of the environment, a real `livekit-server`, or the embedded one."""

import os
import secrets
import shutil
import socket
import struct
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, get_args

import jwt

from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.emulator.process import Child

Kind = Literal["url", "livekit-server", "embedded"]
ParticipantKind = Literal["standard", "agent"]

TOKEN_TTL_S = 6 * 3600.0  # LiveKit's own default

_VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
_EMBEDDED = "agenthuman_plugins.emulator.room_server"
_BINARY = "agenthuman_plugins.emulator.room_server._binary"

# linux/sockios.h and linux/if.h
_SIOCGIFFLAGS, _SIOCGIFADDR = 0x8913, 0x8915
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8


class RoomServer:
    """A room server that we can mint tokens for. Made by `RoomServer.start`; an async context manager.

    Attributes:
        url: `ws://…` that participants connect to.
        kind: What is behind it: `url`, `livekit-server` or `embedded`.
    """

    def __init__(
        self, url: str, kind: Kind, *, api_key: str, api_secret: str, child: Child | None = None
    ) -> None:
        self.url = url
        self.kind = kind
        self._api_key = api_key
        self._api_secret = api_secret
        self._child = child

    def __repr__(self) -> str:
        return f"RoomServer(url={self.url!r}, kind={self.kind!r})"

    @classmethod
    async def start(cls, kind: Kind | Literal["auto"] = "auto") -> Self:
        """Start a room server, or find the one that runs.

        Args:
            kind: `url` is the server of `LIVEKIT_URL` with `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET`,
                `livekit-server` the program of that name on PATH, `embedded` our own. `auto` takes the first
                of them that is there. The last two run in a child process, on loopback.

        Raises:
            ConfigurationError: That kind is not there, or has no key.
            ChildError: The server did not start.
        """
        if kind == "auto":
            kind = _choose()
        match kind:
            case "url":
                url, api_key, api_secret = map(_environment, _VARIABLES)
                return cls(url, kind, api_key=api_key, api_secret=api_secret)
            case "livekit-server":
                path = shutil.which("livekit-server")
                if path is None:
                    raise ConfigurationError(
                        "No `livekit-server` on PATH: install it with `make livekit-server`, or use the embedded server."
                    )
                return await cls._start_child(_BINARY, kind, {"path": path})
            case "embedded":
                return await cls._start_child(_EMBEDDED, kind, {"port": 0})
        choices = ", ".join(("auto", *get_args(Kind)))
        raise ConfigurationError(f"Unknown kind of room server {kind!r}: expected one of {choices}.")

    @classmethod
    async def _start_child(cls, module: str, kind: Kind, settings: dict[str, Any]) -> Self:
        key = {"api_key": f"API{secrets.token_hex(6)}", "api_secret": secrets.token_urlsafe(32)}
        child = await Child.start(module, {**settings, **key})
        return cls(f"ws://127.0.0.1:{child.ready['port']}", kind, **key, child=child)

    @property
    def running(self) -> bool:
        """Whether the server runs; a server of the environment is taken to."""
        return self._child is None or self._child.running

    @property
    def keys(self) -> tuple[str, str]:
        """API key and secret of the server, for those who mint their own tokens."""
        return self._api_key, self._api_secret

    def mint(
        self,
        *,
        room: str,
        identity: str,
        name: str = "",
        kind: ParticipantKind = "standard",
        attributes: Mapping[str, str] | None = None,
        grants: Mapping[str, Any] | None = None,
        ttl_s: float = TOKEN_TTL_S,
    ) -> str:
        """Make a token to join a room, which need not exist yet.

        Args:
            room: Name of the room.
            identity: Unique in the room: a second join under one identity evicts the first.
            name: What other participants may show.
            kind: `agent` for avatars and bots.
            attributes: Set on the participant from the start.
            grants: Further `video` grants, such as `{"canPublish": False}`. Without any, the participant may
                publish, subscribe, send data and change its own attributes.
            ttl_s: Seconds in which the token can be used to join.
        """
        now = time.time()
        claims = {
            "iss": self._api_key,
            "sub": identity,
            "name": name,
            "kind": kind,
            "attributes": dict(attributes or {}),
            "nbf": int(now),
            "exp": int(now + ttl_s),
            "video": {"roomJoin": True, "room": room, "canUpdateOwnMetadata": True, **(grants or {})},
        }
        return jwt.encode(claims, self._api_secret, algorithm="HS256")

    def admits(self, token: str) -> tuple[str, str] | None:
        """Return the room and the identity of a token that was made with this server's key, else `None`."""
        options: Any = {"verify_exp": False, "verify_nbf": False}  # it may have been used long ago
        try:
            claims = jwt.decode(
                token, self._api_secret, algorithms=["HS256"], issuer=self._api_key, options=options
            )
            return str(claims["video"]["room"]), str(claims["sub"])
        except (jwt.PyJWTError, LookupError, TypeError):
            return None

    async def aclose(self) -> None:
        """Stop the server if we started it; harmless when repeated."""
        if self._child is not None:
            await self._child.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def media_interface() -> str | None:
    """IPv4 address of a network interface that is up and not loopback, or `None`.

    LiveKit clients leave loopback out when they look for a way to each other, so without such an interface
    no room server helps, not even one on the same machine.
    """
    return _interface_address() if sys.platform == "linux" else _route_address()


def _interface_address() -> str | None:
    """The first fitting interface, routes or not."""
    import fcntl  # noqa: PLC0415 - not on Windows

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)[0]
                address = socket.inet_ntoa(fcntl.ioctl(control, _SIOCGIFADDR, request)[20:24])
            except OSError:
                continue  # it has no IPv4 address
            if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                return address
    return None


def _route_address() -> str | None:
    """The interface that a datagram to the internet would take."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only makes the system choose
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def _choose() -> Kind:
    if os.environ.get("LIVEKIT_URL"):
        return "url"
    return "livekit-server" if shutil.which("livekit-server") else "embedded"


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigurationError(
            f"{name} is not set: your LiveKit server needs LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET."
        )
    return value
