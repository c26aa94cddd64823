"""What is checked before anything is sent, and what is sent."""

import base64
import math
from typing import Any

import pytest

from agenthuman_plugins.client import ConfigurationError, DailyRoom, LiveKitRoom
from agenthuman_plugins.client._config import DEFAULT_AVATAR
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Reply

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param({"avatar": ""}, "avatar must be a non-empty string", id="empty-avatar"),
        pytest.param({"avatar": 7}, "avatar must be a non-empty string", id="avatar-of-another-type"),
        pytest.param({"avatar": "my avatar"}, "not an avatar id", id="avatar-with-blanks"),
        pytest.param({"avatar": "a" * 257}, "not an avatar id", id="long-avatar"),
        pytest.param({"avatar": "ftp://example.com/a.png"}, "not a complete http", id="ftp-avatar"),
        pytest.param({"avatar": "https://"}, "not a complete http", id="url-without-host"),
        pytest.param({"avatar": "https://[::1/a.png"}, "not a complete http", id="broken-url"),
        pytest.param({"avatar": "https://example.com/" + "a" * 2_048}, "longer than 2048", id="long-url"),
        pytest.param({"avatar": "data:text/plain;base64,QQ=="}, "data:image/", id="data-of-another-type"),
        pytest.param({"avatar": "data:image/png,QQ=="}, "data:image/", id="data-without-base64"),
        pytest.param({"avatar": "data:image/png;base64,?"}, "cannot be decoded", id="broken-base64"),
        pytest.param({"avatar": "data:image/png;base64,QQ=="}, "jpeg, png, gif or webp", id="not-a-picture"),
        pytest.param({"avatar": "data:image/png;base64,"}, "no picture in it", id="empty-picture"),
        pytest.param(
            {"avatar": "data:image/png;base64," + "A" * (15 * 1024 * 1024)},
            "more than 10 MiB",
            id="huge-picture",
        ),
        pytest.param({"aspect_ratio": "16:9"}, "one of 4:3, 3:4, 1:1, not '16:9'", id="ratio"),
        pytest.param({"aspect_ratio": "auto"}, "one of 4:3, 3:4, 1:1", id="auto-ratio"),
        pytest.param(
            {"room": {"platform": "livekit"}}, "must be a LiveKitRoom, a DailyRoom or None", id="room"
        ),
        pytest.param({"metadata": ["a"]}, "metadata must be a JSON object", id="metadata-list"),
        pytest.param({"metadata": "a"}, "metadata must be a JSON object", id="metadata-text"),
        pytest.param({"metadata": {1: "a"}}, "keys must be strings", id="metadata-key"),
        pytest.param({"metadata": {"a": object()}}, "not JSON serializable", id="metadata-value"),
        pytest.param({"metadata": {"a": math.nan}}, "JSON cannot express", id="metadata-nan"),
        pytest.param({"metadata": circular()}, "JSON cannot express", id="metadata-circle"),
        pytest.param({"metadata": {"client_ref": 7}}, "must be a non-empty string", id="client-ref"),
    ],
)
def test_wrong_argument_of_create_is_a_sentence_and_nothing_leaves(
    arguments: dict[str, Any], sentence: str, client: Handle, service: FakeService
) -> None:
    """The message says what is allowed, is short, and no request is made."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        client(lambda c: c.sessions.create(**arguments))
    assert len(str(caught.value)) < 250
    assert service.requests == []


@pytest.mark.parametrize("session_id", ["", ".", "..", "a\nb", "s" * 257, None])
@pytest.mark.parametrize("method", ["get", "end"])
def test_wrong_id_never_becomes_another_path(
    session_id: Any, method: str, client: Handle, service: FakeService
) -> None:
    """An empty or odd id is refused: it would ask for the list, or for something else."""
    with pytest.raises(ConfigurationError, match="session_id must be"):
        client(lambda c: getattr(c.sessions, method)(session_id))
    assert service.requests == []


def test_id_is_encoded(client: Handle, service: FakeService) -> None:
    """What an id holds stays one path segment."""
    service.faults.append(None)
    with pytest.raises(Exception, match="Session not found"):
        client(lambda c: c.sessions.get("../a?b#c/d"))
    assert service.requests[0].url.raw_path == b"/v1/sessions/..%2Fa%3Fb%23c%2Fd"


def test_unknown_list_status_is_refused(client: Handle, service: FakeService) -> None:
    """The service would answer with every session instead."""
    with pytest.raises(ConfigurationError, match="one of all, started, ended"):
        client(lambda c: c.sessions.list("active"))
    assert service.requests == []


@pytest.mark.parametrize(
    ("room", "sent"),
    [
        pytest.param(None, {"platform": "proxy"}, id="proxy"),
        pytest.param(
            LiveKitRoom("wss://rooms.example.com", "token-1", "token-2"),
            {"platform": "livekit", "url": "wss://rooms.example.com", "token": "token-1"},
            id="livekit",
        ),
        pytest.param(
            DailyRoom("https://example.daily.co/room", "token-1"),
            {"platform": "daily", "url": "https://example.daily.co/room", "token": "token-1"},
            id="daily",
        ),
    ],
)
def test_create_sends_the_newest_form(
    room: Any, sent: dict[str, str], client: Handle, service: FakeService
) -> None:
    """Avatar, ratio, room and metadata go out as the newest page has them; our agent's token never does."""
    client(
        lambda c: c.sessions.create(avatar="avat_1", room=room, aspect_ratio="1:1", metadata={"user": "Ada"})
    )
    assert service.bodies("POST", "/v1/sessions") == [
        {
            "avatar": "avat_1",
            "aspect_ratio": "1:1",
            "room": sent,
            "metadata": {"user": "Ada", "client_ref": "ref-1"},
        }
    ]


@pytest.mark.parametrize(
    "avatar", ["avat_1", "PUBLIC/Avatars/sara-office", "https://example.com/a.png?x=1", PNG]
)
def test_every_documented_avatar_form_is_sent(avatar: str, client: Handle, service: FakeService) -> None:
    """Ids of any prefix, image URLs and data URIs pass unchanged."""
    client(lambda c: c.sessions.create(avatar=avatar))
    assert service.bodies("POST", "/v1/sessions")[0]["avatar"] == avatar


@pytest.mark.parametrize(
    ("variable", "expected"), [("avat_env", "avat_env"), (" ", DEFAULT_AVATAR), (None, DEFAULT_AVATAR)]
)
def test_default_avatar(
    variable: str | None, expected: str, client: Handle, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an argument, `AGENTHUMAN_AVATAR` decides, then the documented default; empty is missing."""
    if variable is not None:
        monkeypatch.setenv("AGENTHUMAN_AVATAR", variable)
    client(lambda c: c.sessions.create())
    assert service.bodies("POST", "/v1/sessions")[0]["avatar"] == expected


@pytest.mark.parametrize("text", ["Ada Ž 🙂", "half a pair: \ud83d"])
def test_any_text_is_sent_as_it_is(text: str, client: Handle, service: FakeService) -> None:
    """Every text that Python holds has a form in JSON, also the half of a pair that has none in UTF-8."""
    service.faults.append(Reply(200, {"success": True, "session": {"session_id": "sess_1"}}))
    client(lambda c: c.sessions.create(metadata={"user": text}))
    assert service.bodies("POST", "/v1/sessions")[0]["metadata"]["user"] == text


def test_metadata_is_copied(client: Handle, service: FakeService) -> None:
    """The caller's object is neither kept nor changed."""
    metadata = {"user": "Ada"}
    client(lambda c: c.sessions.create(metadata=metadata, room=ROOM))
    assert metadata == {"user": "Ada"}


def test_list_asks_for_a_status(client: Handle, service: FakeService) -> None:
    """`list` sends the status, `all` by default, and finds what fits."""
    service.sessions |= {
        "sess_1": {"session_id": "sess_1", "status": "ended"},
        "sess_2": {"session_id": "sess_2", "status": "started"},
    }
    assert [session.session_id for session in client(lambda c: c.sessions.list("started"))] == ["sess_2"]
    assert len(client(lambda c: c.sessions.list())) == 2
    assert [request.url.params["status"] for request in service.requests] == ["started", "all"]


def test_headers(client: Handle, service: FakeService) -> None:
    """The key goes into its header, and the client names itself."""
    client(lambda c: c.sessions.list())
    headers = service.requests[0].headers
    assert headers["x-api-key"] == API_KEY
    assert headers["user-agent"].startswith("agenthuman-plugins/")
