"""Access tokens as the embedded server reads them."""

import time
from typing import Any

import jwt
import pytest

from agenthuman_plugins.emulator.room_server._token import Claims, TokenError, verify

KEY, SECRET = "APIkey", "s" * 32
LONG_S = 3_600  # tokens are made when tests are collected, minutes before they are used


def token(secret: str = SECRET, **changes: Any) -> str:
    claims = {
        "iss": KEY,
        "sub": "me",
        "exp": time.time() + LONG_S,
        "video": {"roomJoin": True, "room": "here"},
        **changes,
    }
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, "HS256")


def test_permissions_hold_unless_the_token_says_otherwise() -> None:
    """A missing can* grant allows, as with LiveKit, except for changing one's own metadata."""
    assert verify(token(), api_key=KEY, api_secret=SECRET) == Claims(identity="me", room="here")


def test_every_claim_is_read() -> None:
    """Name, kind, metadata, attributes and grants come through."""
    grants = {
        "roomJoin": True,
        "room": "here",
        "canPublish": False,
        "canSubscribe": False,
        "canPublishData": False,
        "canUpdateOwnMetadata": True,
    }
    full = token(name="Me", kind="agent", metadata="{}", attributes={"a": "b"}, video=grants)
    assert verify(full, api_key=KEY, api_secret=SECRET) == Claims(
        identity="me",
        room="here",
        name="Me",
        kind="agent",
        metadata="{}",
        attributes={"a": "b"},
        can_publish=False,
        can_subscribe=False,
        can_publish_data=False,
        can_update_own_metadata=True,
    )


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("", id="empty"),
        pytest.param("nonsense", id="no token"),
        pytest.param(token(secret="t" * 32), id="other secret"),
        pytest.param(token(iss="other"), id="other key"),
        pytest.param(token(sub=None), id="no identity"),
        pytest.param(token(exp=None), id="no end"),
        pytest.param(token(exp=time.time() - 60), id="run out"),
        pytest.param(token(nbf=time.time() + LONG_S), id="too early"),
        pytest.param(token(video={"room": "here"}), id="no join"),
        pytest.param(token(video={"roomJoin": True}), id="no room"),
        pytest.param(token(video=None), id="no grants"),
        pytest.param(jwt.encode({"iss": KEY, "sub": "me", "exp": 9e9}, None, "none"), id="unsigned"),
    ],
)
def test_bad_token_is_refused_without_repeating_it(bad: str) -> None:
    """What is wrong is said; no part of the token is."""
    with pytest.raises(TokenError) as caught:
        verify(bad, api_key=KEY, api_secret=SECRET)
    assert not [part for part in bad.split(".") if part and part in str(caught.value)]
