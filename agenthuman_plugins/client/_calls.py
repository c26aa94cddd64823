"""One pure function per endpoint: what to send, and how to read the answer. No I/O."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

from agenthuman_plugins.client._config import default_avatar
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import CLIENT_REF, Session
from agenthuman_plugins.client.rooms import ASPECT_RATIOS, DailyRoom, LiveKitRoom, Room

T_co = TypeVar("T_co", covariant=True)

SESSION_STATES = ("all", "started", "ended")

_ID_LIMIT = 256  # characters; documented ids have about 30
_URL_LIMIT = 2_048  # characters, as browsers and proxies take them
_IMAGE_LIMIT = 10 * 1024 * 1024  # bytes of an avatar picture, decoded (endpoints/upload-face-avatar)
_IMAGE_TYPES = ("jpeg", "jpg", "png", "gif", "webp")
_DATA_URI = re.compile(rf"data:image/(?:{'|'.join(_IMAGE_TYPES)});base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One request of the API.

    Attributes:
        method: HTTP method.
        path: Path below the base URL, encoded.
        parse: Makes the value of the parsed body; raises `ValueError` or the like if it does not fit.
        json: Body, or `None` for none.
        params: Query.
        secrets: Values of the body that must not show in an error.
        older: The same call in the form of the older generation, for a service that does not know this one.
    """

    method: str
    path: str
    parse: Callable[[Any], T_co]
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    older: "Call[T_co] | None" = None


def create_session(
    *, avatar: str | None, room: Room | None, aspect_ratio: str, metadata: Mapping[str, Any] | None
) -> Call[Session]:
    """`POST /v1/sessions`: a session that starts, and is billed, at once.

    Source: docs.agenthuman.com, endpoints/create-session.
    """
    if aspect_ratio not in ASPECT_RATIOS:
        raise ConfigurationError(
            f"aspect_ratio must be one of {', '.join(ASPECT_RATIOS)}, not {_short(aspect_ratio)}."
        )
    place = _room(room)
    return Call(
        "POST",
        "/v1/sessions",
        _created_session,
        json={
            "avatar": _avatar(default_avatar() if avatar is None else avatar),
            "aspect_ratio": aspect_ratio,
            "room": place,
            "metadata": _metadata(metadata),
        },
        secrets=tuple(place[key] for key in ("token",) if key in place),
    )


def with_metadata(call: Call[Session], metadata: Mapping[str, Any]) -> Call[Session]:
    """The same create with other metadata; without the field if there is none."""
    body = {key: value for key, value in (call.json or {}).items() if key != "metadata"}
    return replace(call, json={**body, "metadata": dict(metadata)} if metadata else body)


def get_session(session_id: str) -> Call[Session]:
    """`GET /v1/sessions/{session_id}`."""
    return Call("GET", f"/v1/sessions/{_id(session_id)}", _session)


def list_sessions(status: str = "all") -> Call[list[Session]]:
    """`GET /v1/sessions`; no paging is documented."""
    if status not in SESSION_STATES:
        raise ConfigurationError(f"status must be one of {', '.join(SESSION_STATES)}, not {_short(status)}.")
    return Call("GET", "/v1/sessions", _sessions, params={"status": status})


def end_session(session_id: str) -> Call[Session]:
    """`POST /v1/sessions/{session_id}/end`; safe to repeat, since an ended session answers with success too."""
    path = f"/v1/sessions/{_id(session_id)}/end"

    def parse(body: Any) -> Session:
        # Whether the reply has a body is not what decides that the session is over.
        if isinstance(body, dict) and "session" in body:
            return _session(body)
        return Session(session_id=session_id, status="ended")

    return Call("POST", path, parse, json={}, older=Call("PUT", path, parse))


def _session(body: Any) -> Session:
    return Session.model_validate(body["session"])


def _created_session(body: Any) -> Session:
    # The usage stands beside the session; one object is easier to hold.
    return Session.model_validate(
        {**body["session"], **{key: body[key] for key in ("usage",) if key in body}}
    )


def _sessions(body: Any) -> list[Session]:
    return [Session.model_validate(item) for item in body["sessions"]]


def _room(room: Room | None) -> dict[str, str]:
    match room:
        case None:
            # Not on the public pages; sent by the vendor's own Pipecat service.
            return {"platform": "proxy"}
        case LiveKitRoom():
            return {"platform": "livekit", "url": room.url, "token": room.avatar_token}
        case DailyRoom():
            return {"platform": "daily", "url": room.url, "token": room.token}
        case _:
            raise ConfigurationError(
                f"room must be a LiveKitRoom, a DailyRoom or None (the service makes one), not {type(room).__name__}."
            )


def _metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata must be a JSON object (a dict), not {type(metadata).__name__}.")
    if not all(isinstance(key, str) for key in metadata):
        raise ConfigurationError("metadata must be a JSON object: all of its keys must be strings.")
    ref = metadata.get(CLIENT_REF)
    if ref is not None and not (isinstance(ref, str) and ref):
        raise ConfigurationError(
            f"metadata[{CLIENT_REF!r}] must be a non-empty string: lost sessions are found by it."
        )
    try:
        # A copy: what the caller changes later must not reach a request that is sent again.
        copied: dict[str, Any] = json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"metadata must be a JSON object: {_cause(error)}.") from None
    return copied


def _cause(error: Exception) -> str:
    # json quotes the offending type or says "circular reference", never the value (NaN and the like aside).
    return (
        str(error).rstrip(".")
        if isinstance(error, TypeError)
        else "it holds a value that JSON cannot express"
    )


def _avatar(avatar: object) -> str:
    allowed = "Allowed are an avatar id (avat_…), a public http(s) image URL, or a data:image/…;base64 URI"
    if not isinstance(avatar, str) or not avatar.strip():
        raise ConfigurationError(f"avatar must be a non-empty string. {allowed}.")
    avatar = avatar.strip()
    if avatar[:5].lower() == "data:":
        _check_image(avatar)
    elif "://" in avatar:
        _check_image_url(avatar)
    elif len(avatar) > _ID_LIMIT or not avatar.isprintable() or any(map(str.isspace, avatar)):
        raise ConfigurationError(f"avatar is not an avatar id: too long, or blanks in it. {allowed}.")
    return avatar


def _check_image_url(url: str) -> None:
    # The URL stays out of the text: it may be signed.
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError("avatar is a URL, but not a complete http:// or https:// one.")
    if len(url) > _URL_LIMIT or not url.isprintable() or any(map(str.isspace, url)):
        raise ConfigurationError(f"avatar is a URL with blanks in it or longer than {_URL_LIMIT} characters.")


def _check_image(uri: str) -> None:
    start = _DATA_URI.match(uri)
    if start is None:
        raise ConfigurationError(
            f"avatar is a data URI, but not data:image/<{'|'.join(_IMAGE_TYPES)}>;base64,… as the service takes it."
        )
    try:
        size = len(base64.b64decode(uri[start.end() :], validate=True))
    except (binascii.Error, ValueError):
        raise ConfigurationError("avatar is a data URI whose base64 part cannot be decoded.") from None
    if not 0 < size <= _IMAGE_LIMIT:
        raise ConfigurationError(
            f"avatar is a picture of {size:,} bytes; allowed are 1 to {_IMAGE_LIMIT // 1024 // 1024} MiB."
            if size
            else "avatar is a data URI without a picture in it."
        )


def _id(session_id: object) -> str:
    """An id as a path segment; an empty one would ask for the whole list instead."""
    if (
        not isinstance(session_id, str)
        or not session_id
        or len(session_id) > _ID_LIMIT
        or session_id in {".", ".."}
        or not session_id.isprintable()
    ):
        raise ConfigurationError(
            f"session_id must be the id of a session (sess_…), not {_short(session_id)}."
        )
    return quote(session_id, safe="")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"  # noqa: PLR2004 - about a line's rest
