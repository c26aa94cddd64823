"""What callers ask for, checked by the documented rules."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.emulator._errors import access_denied, avatar_not_found, bad_request

ASPECT_RATIOS = ("4:3", "3:4", "1:1")
DOCUMENTED_PLATFORMS = ("livekit", "daily")
# The last is on no public page, but the vendor's own code sends it.
PLATFORMS = (*DOCUMENTED_PLATFORMS, "proxy")
_MAX_ID = 256  # characters, as the client has it; documented ids have about 30
_MAX_VALUES = 100_000
_MAX_DEPTH = 64  # far below what Python can write as JSON again
_AVATAR_PREFIXES = ("avat_", "PUBLIC/Avatars/")
_NO_AVATARS = ("unknown", "...")  # the dots: a placeholder that was copied from a page
_IMAGE_PREFIXES = ("https://", "http://", "data:image/")
_URL_SCHEMES = {"livekit": ("wss://", "ws://", "https://", "http://"), "daily": ("https://",)}


@dataclass(frozen=True, slots=True)
class RoomRequest:
    """Where the avatar shall appear; `url` and `token` are empty for `proxy`, whose room the service makes."""

    platform: str
    url: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A valid create call.

    Attributes:
        avatar: Avatar id; empty until an image has become an avatar.
        image: Image to make an avatar of, as URL or data URI.
        room: Where it shall appear.
        aspect_ratio: One of `ASPECT_RATIOS`.
        metadata: The caller's own.
    """

    avatar: str
    room: RoomRequest
    aspect_ratio: str = "4:3"
    metadata: dict[str, Any] = field(default_factory=dict)
    image: str = field(default="", repr=False)


def parse_json(body: bytes) -> Any:
    """Parse a request body: standard JSON that is small and flat enough to be sent back in an answer.

    Raises:
        ServiceError: It is none.
    """
    # A picture in base64 may be long, but holds no commas: their number tells that of the values.
    if body.count(b",") > _MAX_VALUES:
        raise bad_request("The JSON has too many values", f"Send at most {_MAX_VALUES:,} values")
    try:
        value = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise bad_request("The request body is not valid JSON") from None
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise bad_request("The JSON is nested too deeply", f"Use at most {_MAX_DEPTH} levels")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def parse_create(body: Any, platforms: tuple[str, ...] = PLATFORMS) -> CreateRequest:
    """Check a create body.

    Args:
        body: What was sent.
        platforms: The platforms that a room may name.

    Raises:
        ServiceError: A rule is broken.
    """
    if not isinstance(body, dict):
        raise bad_request("The request body must be a JSON object")
    avatar, image = _avatar(body)
    return CreateRequest(avatar, _room(body, platforms), _aspect_ratio(body), _metadata(body), image)


def parse_managed_create(body: Any) -> CreateRequest:
    """Check a create body of the older generation, whose room the service makes.

    Raises:
        ServiceError: A rule is broken.
    """
    if not isinstance(body, dict):
        raise bad_request("The request body must be a JSON object")
    avatar = body.get("avatar_id")
    if not avatar:
        raise bad_request("Avatar ID is required", "Include avatar_id in the request body")
    return CreateRequest(check_avatar_id(avatar), RoomRequest("daily"), "4:3", _metadata(body))


def parse_openclaw(body: Any) -> CreateRequest:
    """Check the body of `openclaw/initiate`, which needs no field; the voice and the transcription are not played.

    Raises:
        ServiceError: A rule is broken.
    """
    if not isinstance(body, dict):
        raise bad_request("The request body must be a JSON object")
    avatar = body.get("avatar", DEFAULT_AVATAR)
    if not isinstance(avatar, str) or not avatar.startswith("avat_"):
        raise bad_request("avatar must be an avatar id", "Send an id that begins with avat_")
    if not isinstance(body.get("voice_id", ""), str):
        raise bad_request("voice_id must be a string")
    if not isinstance(body.get("enable_transcription", True), bool):
        raise bad_request("enable_transcription must be true or false")
    return CreateRequest(avatar, RoomRequest("proxy"), _aspect_ratio(body, default="1:1"))


def check_avatar_id(avatar: Any) -> str:
    """Check an avatar id.

    There is no catalogue here: every well-formed id exists, except for placeholders (`avat_...`) and those that ask not
    to: with `unknown` in it the avatar does not exist, with `exclusive` it is another account's.

    Raises:
        ServiceError: There is no such avatar, or it is another account's.
    """
    if not isinstance(avatar, str):
        raise bad_request("avatar must be a string", "Send an avatar id, an image URL or a base64 image")
    if not avatar.startswith(_AVATAR_PREFIXES) or any(word in avatar for word in _NO_AVATARS):
        raise avatar_not_found()
    if "exclusive" in avatar:
        raise access_denied()
    if len(avatar) > _MAX_ID or not (avatar.isascii() and avatar.isprintable()):
        raise avatar_not_found()
    return avatar


def stand_in(image: str) -> str:
    """Return the avatar id that stands for an image: the same one for the same image."""
    return f"avat_{hashlib.sha256(image.encode(errors='replace')).hexdigest()[:26].upper()}"


def _avatar(body: dict[str, Any]) -> tuple[str, str]:
    avatar = body.get("avatar") or body.get("avatar_id")  # `avatar_id`: older callers
    if not avatar:
        raise bad_request("Avatar ID is required", "Include avatar in the request body")
    if isinstance(avatar, str) and avatar.startswith(_IMAGE_PREFIXES):
        return "", avatar
    return check_avatar_id(avatar), ""


def _room(body: dict[str, Any], platforms: tuple[str, ...]) -> RoomRequest:
    room = body.get("room")
    if not isinstance(room, dict):
        raise bad_request("room is required", "Include room with platform, url and token in the request body")
    platform = room.get("platform")
    if platform not in platforms:
        raise bad_request("Invalid room platform", "Set room.platform to daily or livekit")
    if platform == "proxy":
        return RoomRequest(platform)
    for name in ("url", "token"):
        if not isinstance(room.get(name), str) or not room[name]:
            raise bad_request(f"room.{name} is required", f"Include room.{name} in the request body")
    if not room["url"].startswith(_URL_SCHEMES[platform]):
        raise bad_request("Invalid room url", f"room.url must start with {_URL_SCHEMES[platform][0]}")
    return RoomRequest(platform, room["url"], room["token"])


def _aspect_ratio(body: dict[str, Any], default: str = "4:3") -> str:
    ratio = body.get("aspect_ratio", default)
    if ratio not in ASPECT_RATIOS:
        raise bad_request("Invalid aspect_ratio", f"Use one of {', '.join(ASPECT_RATIOS)}")
    return str(ratio)


def _metadata(body: dict[str, Any]) -> dict[str, Any]:
    metadata = body.get("metadata", {})
    if not isinstance(metadata, dict):
        raise bad_request("metadata must be an object", "Send metadata as a JSON object such as {}")
    return metadata
