"""What an access token allows."""

from dataclasses import dataclass, field
from typing import Any

import jwt

_LEEWAY_S = 5  # clocks of containers drift; the real server allows a little too


class TokenError(Exception):
    """Raised when a token does not let its bearer in. The text holds no part of the token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """A verified token.

    The permissions are LiveKit's: all of them hold unless the token says otherwise, except for the last
    three, which must be granted.
    """

    identity: str
    room: str
    name: str = ""
    kind: str = "standard"
    metadata: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    can_publish: bool = True
    can_subscribe: bool = True
    can_publish_data: bool = True
    can_update_own_metadata: bool = False
    room_create: bool = False
    hidden: bool = False


def verify(token: str, *, api_key: str, api_secret: str) -> Claims:
    """Check a token against the one key of this server.

    Raises:
        TokenError: The token is not ours, has run out, or names no room to join.
    """
    try:
        payload: dict[str, Any] = jwt.decode(
            token,
            api_secret,
            algorithms=["HS256"],
            issuer=api_key,
            leeway=_LEEWAY_S,
            options={"require": ["exp", "iss", "sub"]},
        )
    except jwt.PyJWTError as error:
        raise TokenError(f"invalid token: {error}") from None
    grants, attributes = payload.get("video"), payload.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise TokenError("invalid token: its attributes are no object")
    if not isinstance(grants, dict) or not grants.get("roomJoin") or not grants.get("room"):
        raise TokenError("invalid token: it grants no room to join")
    return Claims(
        identity=payload["sub"],
        room=str(grants["room"]),
        name=str(payload.get("name", "")),
        kind=str(payload.get("kind", "standard")),
        metadata=str(payload.get("metadata", "")),
        attributes={str(key): str(value) for key, value in attributes.items()},
        can_publish=grants.get("canPublish", True),
        can_subscribe=grants.get("canSubscribe", True),
        can_publish_data=grants.get("canPublishData", True),
        can_update_own_metadata=grants.get("canUpdateOwnMetadata", False),
        room_create=grants.get("roomCreate", False),
        hidden=grants.get("hidden", False),
    )
