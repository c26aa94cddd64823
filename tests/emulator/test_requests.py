"""The rules of the create body."""

from typing import Any

import pytest

from agenthuman_plugins.emulator._errors import ServiceError
from agenthuman_plugins.emulator._requests import CreateRequest, RoomRequest, parse_create, parse_json

ROOM = {"platform": "livekit", "url": "wss://rooms.example", "token": "room-token"}
BODY = {"avatar": "avat_1", "room": ROOM}
_ABSENT = object()


def body(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (BODY | changes).items() if value is not _ABSENT}


def test_defaults():
    """Ratio and metadata may be left out."""
    assert parse_create(body()) == CreateRequest("avat_1", RoomRequest(**ROOM), "4:3", {})


@pytest.mark.parametrize("avatar", ["avat_01KMZJ4WE5QCD9G3EK21QW8NJK", "PUBLIC/Avatars/sara-office"])
def test_avatar_ids(avatar: str):
    """Ids of own and of public avatars are taken, under the new and the old name of the field."""
    assert parse_create(body(avatar=avatar)).avatar == avatar
    assert parse_create(body(avatar=_ABSENT, avatar_id=avatar)).avatar == avatar


@pytest.mark.parametrize("image", ["https://example.com/face.jpg", "data:image/jpeg;base64,AAAA"])
def test_image_is_told_from_an_id(image: str):
    """An image has no id yet."""
    request = parse_create(body(avatar=image))
    assert (request.avatar, request.image) == ("", image)


@pytest.mark.parametrize("platform", ["livekit", "daily", "proxy"])
def test_platforms(platform: str):
    """Both documented platforms are taken, and `proxy`, which needs nothing else."""
    room = (
        {"platform": platform}
        if platform == "proxy"
        else ROOM | {"platform": platform, "url": "https://a.b/c"}
    )
    assert parse_create(body(room=room)).room.platform == platform


@pytest.mark.parametrize("ratio", ["4:3", "3:4", "1:1"])
def test_ratios(ratio: str):
    """The three documented ratios are taken."""
    assert parse_create(body(aspect_ratio=ratio)).aspect_ratio == ratio


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        pytest.param({"avatar": _ABSENT}, 400, "Avatar ID is required", id="no-avatar"),
        pytest.param({"avatar": ""}, 400, "Avatar ID is required", id="empty-avatar"),
        pytest.param({"avatar": 7}, 400, "avatar must be a string", id="number-avatar"),
        pytest.param({"avatar": "sara"}, 404, "Avatar not found", id="no-such-avatar"),
        pytest.param({"avatar": "avat_..."}, 404, "Avatar not found", id="placeholder"),
        pytest.param({"avatar": "avat_unknown"}, 404, "Avatar not found", id="unknown-avatar"),
        pytest.param({"avatar": "avat_exclusive"}, 403, "Access denied to this avatar", id="foreign-avatar"),
        pytest.param({"room": _ABSENT}, 400, "room is required", id="no-room"),
        pytest.param({"room": []}, 400, "room is required", id="list-room"),
        pytest.param({"room": ROOM | {"platform": "zoom"}}, 400, "Invalid room platform", id="platform"),
        pytest.param(
            {"room": ROOM | {"platform": ["livekit"]}}, 400, "Invalid room platform", id="list-platform"
        ),
        pytest.param(
            {"room": {"platform": "livekit", "token": "t"}}, 400, "room.url is required", id="no-url"
        ),
        pytest.param({"room": ROOM | {"url": "ftp://x"}}, 400, "Invalid room url", id="url"),
        pytest.param({"room": ROOM | {"token": ""}}, 400, "room.token is required", id="no-token"),
        pytest.param({"room": ROOM | {"platform": "daily"}}, 400, "Invalid room url", id="daily-url"),
        pytest.param({"aspect_ratio": "16:9"}, 400, "Invalid aspect_ratio", id="ratio"),
        pytest.param({"aspect_ratio": None}, 400, "Invalid aspect_ratio", id="null-ratio"),
        *(
            pytest.param({"metadata": wrong}, 400, "metadata must be an object", id=f"metadata-{wrong!r}")
            for wrong in ([], "text", 1, True, None)
        ),
    ],
)
def test_broken_rules(changes: dict[str, Any], status: int, message: str):
    """Each broken rule is refused with its status and text, in the documented error shape."""
    with pytest.raises(ServiceError) as refusal:
        parse_create(body(**changes))
    assert refusal.value.status == status
    assert refusal.value.body["success"] is False
    assert refusal.value.body["error"]["message"] == message


@pytest.mark.parametrize("wrong", [[], "text", 1, None])
def test_body_must_be_an_object(wrong: Any):
    """A body of another kind is HTTP 400."""
    with pytest.raises(ServiceError, match="must be a JSON object"):
        parse_create(wrong)


@pytest.mark.parametrize("wrong", [b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_body_must_be_json(wrong: bytes):
    """What is not standard JSON is HTTP 400, never a crash."""
    with pytest.raises(ServiceError, match="not valid JSON"):
        parse_json(wrong)


def test_room_token_is_not_shown():
    """The room token is in no repr."""
    assert "room-token" not in repr(parse_create(body()))
