"""Where the avatar appears: rooms of the caller's own.

Without one (`room=None`) the service makes a LiveKit room itself and returns how to join it. That is platform `proxy`,
which the public pages do not list: it is inferred, known from the vendor's own Pipecat service alone.
"""

import base64
import hashlib
import hmac
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.redaction import redact

ASPECT_RATIOS = ("4:3", "3:4", "1:1")
AspectRatio = Literal["4:3", "3:4", "1:1"]

AVATAR_IDENTITY = "agenthuman-avatar-agent"  # the participant that the service joins a room as
ON_BEHALF_OF = "lk.publish_on_behalf"  # attribute of the avatar: identity of the agent that it speaks for

_TOKEN_TTL_S = 6 * 60 * 60  # LiveKit's own default; needed to join only, the server renews it for reconnects
_CLOCK_SKEW_S = 10  # a server whose clock is a little behind must not call a new token "not yet valid"


@dataclass(frozen=True, slots=True, repr=False)
class LiveKitRoom:
    """A LiveKit room that the avatar joins.

    Example:
        ```python
        room = LiveKitRoom("wss://livekit.example.com", avatar_token, agent_token)
        with client.sessions.open(room=room) as session:
            print(session.session_id)
        ```

    Attributes:
        url: `wss://…` (or `ws://…`) of the LiveKit server.
        avatar_token: Token that the avatar joins with.
        agent_token: Token that our own side joins with to speak through the avatar. Its identity must be
            the one that the avatar's attribute `lk.publish_on_behalf` names, and nobody else's: a second
            join under one identity disconnects the first.

    Raises:
        ConfigurationError: The URL is not a LiveKit one or has a user in it, a token is missing, or the two tokens contradict
            each other (checked as far as they can be read).
    """

    url: str
    avatar_token: str
    agent_token: str | None = None

    def __repr__(self) -> str:
        return _shown(self)

    def __post_init__(self) -> None:
        _check_url("LiveKitRoom", self.url, ("wss", "ws"))
        _check_token("LiveKitRoom", "avatar_token", self.avatar_token)
        if self.agent_token is not None:
            _check_token("LiveKitRoom", "agent_token", self.agent_token)
            _check_pair(self.avatar_token, self.agent_token)

    @property
    def avatar_identity(self) -> str:
        """Participant that the avatar joins as: what `avatar_token` says, else the service's usual one."""
        claims = _read_claims(self.avatar_token) or {}
        identity = claims.get("sub")
        return identity if isinstance(identity, str) and identity else AVATAR_IDENTITY

    @property
    def agent_identity(self) -> str | None:
        """Participant that our own side joins as; `None` if there is no `agent_token`, or it does not say."""
        claims = _read_claims(self.agent_token or "") or {}
        identity = claims.get("sub")
        return identity if isinstance(identity, str) and identity else None

    @property
    def name(self) -> str | None:
        """Name of the room that `avatar_token` is for; `None` if it does not say."""
        grants = (_read_claims(self.avatar_token) or {}).get("video")
        name = grants.get("room") if isinstance(grants, dict) else None
        return name if isinstance(name, str) and name else None

    @classmethod
    def mint(
        cls,
        url: str,
        api_key: str,
        api_secret: str,
        room: str,
        *,
        agent_identity: str | None = None,
        avatar_identity: str = AVATAR_IDENTITY,
        ttl_s: int = _TOKEN_TTL_S,
    ) -> "LiveKitRoom":
        """Make both tokens for a room on your own LiveKit server.

        The avatar's token carries the attribute `lk.publish_on_behalf` with the agent's identity, by
        which the avatar knows whom to listen to (inferred). The secret is used here and not kept.

        Example:
            ```python
            room = LiveKitRoom.mint("wss://livekit.example.com", api_key, api_secret, "lobby")
            print(room.avatar_identity, room.agent_identity)
            ```

        Args:
            url: `wss://…` of the LiveKit server.
            api_key: Key of the LiveKit project.
            api_secret: Secret of the LiveKit project.
            room: Name of the room; LiveKit makes it at the first join.
            agent_identity: Identity of our own side; `None` makes one that nobody else has.
            avatar_identity: Identity of the avatar.
            ttl_s: How long the tokens can be used to join, in seconds; 21,600 (6 hours) by default.

        Raises:
            ConfigurationError: A value is missing, or both identities are the same.
        """
        for name, value in (("api_key", api_key), ("api_secret", api_secret), ("room", room)):
            if not value:
                raise ConfigurationError(f"LiveKitRoom.mint needs {name}, but it is empty.")
        agent_identity = agent_identity or f"agent-{uuid.uuid4().hex[:12]}"
        if agent_identity == avatar_identity:
            raise ConfigurationError(
                f"Agent and avatar cannot both be {avatar_identity!r}: the second to join would disconnect the first. "
                "Leave agent_identity out to get a unique one."
            )

        def token(identity: str, attributes: dict[str, str] | None = None) -> str:
            return _mint(
                api_key=api_key,
                api_secret=api_secret,
                room=room,
                identity=identity,
                ttl_s=ttl_s,
                attributes=attributes,
            )

        return cls(
            url,
            avatar_token=token(avatar_identity, {ON_BEHALF_OF: agent_identity}),
            agent_token=token(agent_identity),
        )


@dataclass(frozen=True, slots=True, repr=False)
class DailyRoom:
    """A Daily room that the avatar joins. Speech goes to it over the WebSocket gateway.

    Example:
        ```python
        room = DailyRoom("https://example.daily.co/lobby", token)
        with client.sessions.open(room=room) as session:
            print(session.session_id)
        ```

    Attributes:
        url: `https://<domain>.daily.co/<room>`.
        token: Meeting token that the avatar joins with.

    Raises:
        ConfigurationError: The URL is not an https one or has a user in it, or the token is missing.
    """

    url: str
    token: str

    def __repr__(self) -> str:
        return _shown(self)

    def __post_init__(self) -> None:
        _check_url("DailyRoom", self.url, ("https",))
        _check_token("DailyRoom", "token", self.token)


Room = LiveKitRoom | DailyRoom


def _check_url(room: str, url: object, schemes: tuple[str, ...]) -> None:
    # The URL itself stays out of the text: its query may hold a token.
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in schemes or not parts.hostname:
        allowed = " or ".join(f"{scheme}://…" for scheme in schemes)
        raise ConfigurationError(f"{room} needs a url of the form {allowed}.")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{room} needs a url without a user or password in it.")


def _check_token(room: str, name: str, token: object) -> None:
    if not isinstance(token, str) or not token.strip():
        raise ConfigurationError(f"{room} needs {name}, a non-empty string.")


def _check_pair(avatar_token: str, agent_token: str) -> None:
    avatar, agent = _read_claims(avatar_token), _read_claims(agent_token)
    if avatar is None or agent is None:
        return  # not ours to judge: the server will
    if agent.get("sub") is not None and agent.get("sub") == avatar.get("sub"):
        raise ConfigurationError(
            "avatar_token and agent_token carry the same identity: the second to join would disconnect the first."
        )
    attributes = avatar.get("attributes")
    listens_to = attributes.get(ON_BEHALF_OF) if isinstance(attributes, dict) else None
    if listens_to is not None and listens_to != agent.get("sub"):
        raise ConfigurationError(
            f"The avatar would listen to {listens_to!r} ({ON_BEHALF_OF} of avatar_token), "
            f"but agent_token joins as {agent.get('sub')!r}: the avatar would stay mute."
        )


def _shown(room: Room) -> str:
    # Tokens stay out, and so does what the query of the address says: Daily takes a token there.
    return f"{type(room).__name__}(url={redact(room.url.partition('#')[0])!r})"


# LiveKit access tokens, with the standard library: the core needs no LiveKit package.


def _mint(
    *,
    api_key: str,
    api_secret: str,
    room: str,
    identity: str,
    ttl_s: int,
    attributes: dict[str, str] | None = None,
) -> str:
    """Make a token to join `room` as an agent that may publish, subscribe and send data."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": api_key,
        "sub": identity,
        "name": identity,
        "nbf": now - _CLOCK_SKEW_S,
        "exp": now + ttl_s,
        # An avatar without a configured sender listens to the first participant of this kind.
        "kind": "agent",
        "video": {
            "roomJoin": True,
            "room": room,
            "canPublish": True,
            "canSubscribe": True,
            "canPublishData": True,
        },
    }
    if attributes:
        claims["attributes"] = attributes
    signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    signature = hmac.digest(api_secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64url(signature)}"


def _read_claims(token: str) -> dict[str, Any] | None:
    """Read the claims of a token without checking its signature; `None` if it is not a readable one."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def _encode(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
