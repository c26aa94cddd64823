"""The calls of `/v1/sessions`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agenthuman_plugins.client._calls import Call, checks, without_success
from agenthuman_plugins.client._model import Answered, Lenient, Time, read_each
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import Session
from agenthuman_plugins.client.redaction import Secrets
from agenthuman_plugins.client.rooms import DailyRoom, LiveKitRoom, Room

STATES = ("all", "started", "ended")


class SessionStart(Answered):
    """The reply to the start call of the older generation.

    Attributes:
        ws_uri: Address of the speech gateway, or `try_again` while the server boots.
        expiration: When the service ends the session by itself; `None`: unlimited, or not told.
    """

    ws_uri: Lenient[str] = None
    expiration: Lenient[Time] = None


def create_session(
    *, avatar: str | None, room: Room | None, aspect_ratio: str, metadata: Mapping[str, Any] | None
) -> Call[Session]:
    """`POST /v1/sessions`: a session that starts, and is billed, at once.

    Source: docs.agenthuman.com, endpoints/create-session.
    """
    body: dict[str, Any] = {
        "avatar": checks.avatar(avatar),
        "aspect_ratio": checks.aspect_ratio(aspect_ratio),
        "metadata": checks.metadata(metadata),
        "room": _room(room),  # last: what is refused above shows no token in its traceback
    }
    return Call(
        "POST",
        "/v1/sessions",
        _created_session,
        json=body,
        secrets=Secrets(() if room is None else (body["room"]["token"],)),
        # With a room of the caller's own there is no older form: that generation makes the room itself.
        older=_create_managed(body) if room is None else None,
        repeatable=False,
        billed=True,
    )


def _create_managed(body: Mapping[str, Any]) -> Call[Session]:
    """`POST /v1/sessions` of the older, Daily-managed generation: a session that waits for its start.

    Source: docs.agenthuman.com, endpoints/create-session, older text.
    """
    return Call(
        "POST",
        "/v1/sessions",
        _created_session,
        json={"avatar_id": body["avatar"], "metadata": body["metadata"]},
        repeatable=False,
        billed=True,
    )


def with_metadata(call: Call[Session], metadata: Mapping[str, Any]) -> Call[Session]:
    """The same create, in its older form too, with other metadata; without the field if there is none."""
    body = {key: value for key, value in (call.json or {}).items() if key != "metadata"}
    return replace(
        call,
        json={**body, "metadata": dict(metadata)} if metadata else body,
        older=None if call.older is None else with_metadata(call.older, metadata),
    )


def get_session(session_id: str) -> Call[Session]:
    """`GET /v1/sessions/{session_id}`."""
    return Call("GET", f"/v1/sessions/{_segment(session_id)}", _session)


def list_sessions(status: str = "all") -> Call[list[Session]]:
    """`GET /v1/sessions`; no paging is documented."""
    return Call("GET", "/v1/sessions", _sessions, params={"status": checks.one_of("status", status, STATES)})


def start_session(session_id: str) -> Call[SessionStart]:
    """`PUT /v1/sessions/{session_id}/start`; repeating it answers with what the first one started.

    `POST` is what one page of the same generation says.
    """
    path = f"/v1/sessions/{_segment(session_id)}/start"
    return Call("PUT", path, _start, older=Call("POST", path, _start))


def end_session(session_id: str) -> Call[Session]:
    """`POST /v1/sessions/{session_id}/end`; safe to repeat, since an ended session answers with success too."""
    path = f"/v1/sessions/{_segment(session_id)}/end"

    def parse(body: Any) -> Session:
        # That the answer is a success decides that the session is over, whatever else it says.
        try:
            return _session(body)
        except (LookupError, TypeError, ValueError):
            return Session(session_id=session_id, status="ended")

    return Call("POST", path, parse, json={}, older=Call("PUT", path, parse))


def _segment(session_id: object) -> str:
    return checks.segment("session_id", session_id, "sess_…")


def _session(body: Any) -> Session:
    return Session.model_validate(body["session"])


def _created_session(body: Any) -> Session:
    # Usage and message stand beside the session; one object is easier to hold.
    beside = {key: body[key] for key in ("usage", "message") if key in body}
    return Session.model_validate({**body["session"], **beside})


def _sessions(body: Any) -> list[Session]:
    return read_each(Session, body["sessions"])


def _start(body: Any) -> SessionStart:
    return SessionStart.model_validate(without_success(body))


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
                f"room must be a LiveKitRoom, a DailyRoom or None (the service is asked for one), not {type(room).__name__}."
            )
