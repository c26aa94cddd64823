"""Rooms of the caller's own, and the tokens that we make for them."""

import jwt
import pytest

from agenthuman_plugins.client import ConfigurationError, DailyRoom, LiveKitRoom

KEY, SECRET = "seeded-livekit-key", "seeded-livekit-secret-of-32-bytes-or-more"
URL = "wss://rooms.example.com"


def claims(token: str | None) -> dict[str, object]:
    assert token is not None
    return jwt.decode(token, SECRET, algorithms=["HS256"], issuer=KEY)


def test_minted_tokens_fit_each_other() -> None:
    """The avatar's token names the agent's identity; both may join this room alone, as agents."""
    room = LiveKitRoom.mint(URL, KEY, SECRET, "room-1", agent_identity="bot", ttl_s=60)
    avatar, agent = claims(room.avatar_token), claims(room.agent_token)
    assert avatar["sub"] == "agenthuman-avatar-agent"
    assert avatar["attributes"] == {"lk.publish_on_behalf": "bot"}
    assert agent["sub"] == "bot"
    for token in (avatar, agent):
        assert token["kind"] == "agent"
        assert token["video"]["room"] == "room-1"  # type: ignore[index]
        assert token["video"]["roomJoin"] is True  # type: ignore[index]
        assert 60 <= token["exp"] - token["nbf"] <= 120  # type: ignore[operator]


def test_minted_agent_is_unique() -> None:
    """Two bots in one room do not disconnect each other: each gets an identity of its own."""
    first, second = (
        claims(LiveKitRoom.mint(URL, KEY, SECRET, "room-1").agent_token)["sub"] for _ in range(2)
    )
    assert first != second


def test_room_says_who_joins_it() -> None:
    """Name and both identities are read from the tokens; one that cannot be read, or says nothing, names nobody."""
    room = LiveKitRoom.mint(URL, KEY, SECRET, "room-1", agent_identity="bot", avatar_identity="face-7")
    assert (room.name, room.agent_identity, room.avatar_identity) == ("room-1", "bot", "face-7")
    empty = jwt.encode({"video": "all"}, SECRET)
    for token in ("no-jwt", empty):
        room = LiveKitRoom(URL, token, token)
        assert (room.name, room.agent_identity) == (None, None)
    assert LiveKitRoom(URL, "no-jwt").agent_identity is None


def test_equal_identities_are_refused() -> None:
    """Agent and avatar under one identity would disconnect each other."""
    with pytest.raises(ConfigurationError, match="disconnect"):
        LiveKitRoom.mint(URL, KEY, SECRET, "room-1", agent_identity="agenthuman-avatar-agent")
    token = LiveKitRoom.mint(URL, KEY, SECRET, "room-1").avatar_token
    with pytest.raises(ConfigurationError, match="same identity"):
        LiveKitRoom(URL, token, token)


def test_tokens_that_contradict_each_other_are_refused() -> None:
    """An avatar that listens to somebody else would stay mute, and we say so before a session is billed."""
    one = LiveKitRoom.mint(URL, KEY, SECRET, "room-1", agent_identity="one")
    two = LiveKitRoom.mint(URL, KEY, SECRET, "room-1", agent_identity="two")
    with pytest.raises(ConfigurationError, match=r"listen to 'one'.*joins as 'two'"):
        LiveKitRoom(URL, one.avatar_token, two.agent_token)


@pytest.mark.parametrize("missing", ["api_key", "api_secret", "room"])
def test_mint_names_what_is_missing(missing: str) -> None:
    """An empty value, as from an unset variable, is named."""
    values = {"api_key": KEY, "api_secret": SECRET, "room": "room-1", missing: ""}
    with pytest.raises(ConfigurationError, match=f"needs {missing}"):
        LiveKitRoom.mint(URL, **values)


@pytest.mark.parametrize(
    "url", ["", "rooms.example.com", "https://rooms.example.com?access_token=seeded", "wss://", None]
)
def test_livekit_url_is_checked(url: str) -> None:
    """A LiveKit URL begins with wss:// or ws://; a wrong one is not repeated, since it may hold a token."""
    with pytest.raises(ConfigurationError, match=r"wss://… or ws://…") as caught:
        LiveKitRoom(url, "token")
    assert "seeded" not in str(caught.value)


def test_daily_room_is_checked() -> None:
    """A Daily room needs an https URL and a token."""
    with pytest.raises(ConfigurationError, match="https://"):
        DailyRoom("wss://example.daily.co/room", "token")
    with pytest.raises(ConfigurationError, match="needs token"):
        DailyRoom("https://example.daily.co/room", " ")


def test_rooms_hide_their_tokens() -> None:
    """No token and no secret is in the repr of a room."""
    minted = LiveKitRoom.mint(URL, KEY, SECRET, "room-1")
    text = f"{LiveKitRoom(URL, 'seeded-1', 'seeded-2')!r}{DailyRoom('https://a.daily.co/b', 'seeded-3')!r}{minted!r}"
    assert "seeded" not in text
    assert minted.avatar_token not in text
    assert "eyJ" not in text
