"""LiveKit access tokens: made and read with the standard library, so that the core needs no LiveKit package."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

_CLOCK_SKEW_S = 10  # a server whose clock is a little behind must not call a new token "not yet valid"


def mint(
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


def read_claims(token: str) -> dict[str, Any] | None:
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
