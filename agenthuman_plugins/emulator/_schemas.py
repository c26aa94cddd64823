"""The OpenAPI document's schemas.

Bodies are checked by `_requests` and its siblings, whose refusals have the service's own words; the schemas here tell
callers and tests what to expect. Short notation: `"string?"` may be null, `[X]` is a list of X, a dict is an object
whose keys are all required unless they end in `?`.
"""

from typing import Any

_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "text": {"type": "string", "minLength": 1, "pattern": r"\S"},
    "avatar_id": {"type": "string", "pattern": "^(avat_|PUBLIC/Avatars/)"},
    "own_id": {"type": "string", "pattern": "^avat_"},
    "avatar": {"type": "string", "pattern": "^(avat_|PUBLIC/Avatars/|https?://|data:image/)"},
    "number": {"type": "number"},
    "positive": {"type": "integer", "minimum": 1},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "url": {"type": "string", "pattern": "^https?://"},
    "moment": {"type": "string", "format": "date-time"},
    "any": {},
}


def schema(note: Any) -> dict[str, Any]:
    """Return the JSON schema of a note."""
    if isinstance(note, list):
        return {"type": "array", "items": schema(note[0])}
    if isinstance(note, tuple):
        return {"type": "string", "enum": list(note)}
    if isinstance(note, str):
        if note.endswith("?"):
            return {"anyOf": [schema(note[:-1]), {"type": "null"}]}
        return _SCALARS[note]
    required = [name for name in note if not name.endswith("?")]
    properties = {name.removesuffix("?"): schema(item) for name, item in note.items()}
    return {"type": "object", "properties": properties, "required": required}


def reply(**fields: Any) -> dict[str, Any]:
    """Return the note of a successful answer."""
    return {"success": "boolean", **fields}


def describe(
    answer: Any, *, body: Any = None, missing: bool = False, form: bool = False, keyless: bool = False
) -> dict[str, Any]:
    """Return what a route tells the OpenAPI document.

    Args:
        answer: Note of the answer.
        body: Note of the request body; `None` for none.
        missing: Whether what the call is about may not be there.
        form: Whether the body may be a form with a file, too.
        keyless: Whether it needs no API key.
    """
    refusals = {400: "An argument is wrong", 403: "Not allowed, or used up", 429: "Too many requests"}
    refusals |= {503: "No room server"} if body is not None else {}
    refusals |= {} if keyless else {401: "No key, or a wrong one"}
    refusals |= {404: "Not there"} if missing or body is not None else {}
    responses: dict[int, Any] = {
        status: {"description": text, "content": _json(_ERROR)} for status, text in refusals.items()
    }
    responses[200] = {"description": "Done", "content": _json(schema(answer))}
    extra: dict[str, Any] = {} if keyless else {"security": [{"key": []}]}
    if body is not None:
        content = _json(schema(body))
        if form:
            file = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            content["multipart/form-data"] = {"schema": {**file, "required": ["file"]}}
        extra["requestBody"] = {"required": True, "content": content}
    # Without a model of its own, FastAPI passes on what pydantic could not write: lone surrogates in a caller's keys.
    return {"responses": responses, "openapi_extra": extra, "response_model": None}


def create_body(*, managed: bool, platforms: tuple[str, ...]) -> dict[str, Any]:
    """Return the note of a create body."""
    if managed:
        return {"avatar_id": "avatar_id", "metadata?": "object"}
    room = {"platform": platforms, "url?": "string", "token?": "string"}
    return {"avatar": "avatar", "room": room, "aspect_ratio?": _RATIO, "metadata?": "object"}


def _json(content: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": content}}


_ERROR = {
    "type": "object",
    "properties": {
        "error": {"anyOf": [schema({"message": "string", "code?": "string"}), {"type": "string"}]}
    },
    "required": ["error"],
}
_RATIO = ("4:3", "3:4", "1:1")
_BILLING = {
    "minutes_consumed": "number",
    "minutes_source": "string",
    "billing_status": "string",
    "minutes_billed": "number",
}
SESSION = {
    "session_id": "string",
    "status": ("created", "started", "ended"),
    "started_at": "string?",
    "ended_at": "string?",
    "expiration?": "string?",
    "duration?": "number?",
    "aspect_ratio?": _RATIO,
    "metadata?": "object",
    "session_token?": "string",
    "access_token?": "string",
    "billing?": _BILLING,
}
AVATAR = {"avatar_id": "string", "preview_url": "string", "image_url": "string", "tags?": ["string"]}
UPLOAD_BODY = {"image_url?": "url", "image_base64?": "string"}
PREVIEW_BODY = {"avatar_id": "avatar_id"}
_AUTH = ("public", "api_key", "token")
_VOICE_AGENT = {"provider": "text", "agent_id": "text", "auth_method": _AUTH}
AGENT_BODY = {"name": "text", "avatar_image_url?": "url?", "voice_agent": _VOICE_AGENT}
AGENT_CHANGE = {
    "name?": "text",
    "avatar_image_url?": "url?",
    "voice_agent?": {f"{name}?": note for name, note in _VOICE_AGENT.items()},
}
AGENT = {
    "agent_id": "string",
    "name": "string",
    "avatar_image_url": "string?",
    "created_at": "string",
    "voice_agent": {f"{name}?": "string" for name in _VOICE_AGENT},
}
LINK_BODY = {"agent_id": "text", "name?": "string?", "expires_at?": "moment?", "use_limit?": "positive?"}
LINK_CHANGE = {
    "name?": "string?",
    "status?": ("active", "paused", "expired"),
    "expires_at?": "moment?",
    "use_limit?": "positive?",
}
OPENCLAW_BODY = {
    "avatar?": "own_id",
    "aspect_ratio?": _RATIO,
    "voice_id?": "string",
    "enable_transcription?": "boolean",
}
LINK_START = {"link_id": "text", "aspect_ratio?": "any"}
LINK = {
    "link_id": "string",
    "name": "string?",
    "url": "string",
    "agent": AGENT,
    "status": ("active", "paused", "expired"),
    "uses": "number",
    "use_limit": "number?",
    "created_at": "string",
    "expires_at": "string?",
}
USAGE = {
    "period": {"start": "string", "end": "string"},
    "included_minutes": {"total": "number", "used": "number", "remaining": "number"},
    "purchased_minutes": {"total": "number", "remaining": "number"},
    "total_remaining": "number",
    "active_sessions": [{"session_id": "string", "status": "string", "duration": "number?"}],
    "active_minutes": "number",
    "concurrency": {"current": "number", "max": "number", "available": "number"},
    "plan": {"key": "string", "name": "string", "max_session_duration": "number", "will_renew": "boolean"},
    "avatars": {"limit": "number?", "used": "number", "remaining": "number"},
}
FAULT = {
    "fault": (
        "status",
        "delay",
        "cut_before",
        "cut_after",
        "cut_body",
        "malformed_body",
        "avatar_crash",
        "avatar_silent",
        "no_playback_finished",
        "room_loss",
    ),
    "times?": "positive",
    "method?": "string?",
    "path?": "string?",
    "session_id?": "string?",
    "status?": "positive",
    "body?": "any",
    "headers?": "object",
    "delay_s?": "number",
    "processed?": "boolean",
}
CLOCK = {"now": "string", "paused": "boolean", "offset_s": "number", "next_expiry": "string?"}
CLOCK_BODY = {"paused?": "boolean", "advance_s?": "number", "advance_to?": ("next_expiry",)}
EXPORT = {
    "emulator": {"status": "string", "version": "string", "generation": "string", "room_server": "string"},
    "clock": CLOCK,
    "account": "object",
    "sessions": [{"session_id": "string", "timeline": ["object"]}],
    "avatars": [AVATAR],
    "agents": [AGENT],
    "links": [LINK],
    "faults": [FAULT],
}
