"""The documented bodies, and what reads each of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from agenthuman_plugins.client import Session, Usage, _calls
from agenthuman_plugins.client._answers import Answer, understand
from agenthuman_plugins.client._calls import account as account_calls
from agenthuman_plugins.client._calls import sessions as session_calls

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Body:
    """A documented body that a model holds.

    Attributes:
        name: Its file.
        call: The call that it answers, or for the example of a schema page, what reads that schema.
        told: The part of the body that the model holds.
    """

    name: str
    call: _calls.Call[Any]
    told: Callable[[Any], Any] = lambda body: body

    def read(self, body: Any) -> Any:
        """Make the model of a body, as the client does."""
        return read(self.call, body)


def load(name: str) -> Any:
    """Return the body of this name."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def read(call: _calls.Call[Any], body: Any) -> Any:
    """Read a body as the answer to a call, as the client does."""
    return understand(Answer(200, {}, json.dumps(body).encode()), call.parse, ())


def dumped(value: Any) -> Any:
    """What a model holds, under the names of the wire and with its secrets."""
    match value:
        case BaseModel():
            return dumped(value.model_dump(by_alias=True, exclude_unset=True))
        case SecretStr():
            return value.get_secret_value()
        case dict():
            return {key: dumped(item) for key, item in value.items()}
        case list():
            return [dumped(item) for item in value]
        case _:
            return value


def as_dumped(value: Any) -> Any:
    """A documented body, with its times as times and the token of the older generation under its newer name."""
    match value:
        case dict():
            return {
                "session_token" if key == "access_token" else key: as_dumped(item)
                for key, item in value.items()
            }
        case list():
            return [as_dumped(item) for item in value]
        case str() if value[:2] == "20" and "T" in value:
            return datetime.fromisoformat(value)
        case _:
            return value


def _without_success(body: Any) -> Any:
    return {key: item for key, item in body.items() if key != "success"}


def _session(body: Any) -> Any:
    return body["session"]


def _created(body: Any) -> Any:
    return {**body["session"], "usage": body["usage"], "message": body["message"]}


_CREATE = session_calls.create_session(avatar=None, room=None, aspect_ratio="4:3", metadata=None)
_GET = session_calls.get_session("sess_1")
_END = session_calls.end_session("sess_1")
_AVATARS = account_calls.list_avatars()
_AGENT = account_calls.get_agent("agnt_1")
_SESSION = _calls.Call("GET", "/", Session.model_validate)
_USAGE = _calls.Call("GET", "/", Usage.model_validate)
_LINK = account_calls.get_link("lnk_1")

BODIES = [
    Body("session-created-own-room", _CREATE, _created),
    Body("session-created-managed", _CREATE, _created),
    Body("session-get-managed", _GET, _session),
    Body("session-end-own-room", _END, _session),
    Body("session-end-managed", _END, _session),
    Body("session-start-managed", session_calls.start_session("sess_1"), _without_success),
    Body("session-schema-created-own-room", _SESSION),
    Body("session-schema-ended-own-room", _SESSION),
    Body("session-schema-created-managed", _SESSION),
    Body("session-schema-started-managed", _SESSION),
    Body("session-schema-ended-managed", _SESSION),
    Body("avatar-uploaded", account_calls.upload_face(b"GIF89a"), _without_success),
    Body("avatar-list-own-room", _AVATARS, _without_success),
    Body("avatar-list-managed", _AVATARS, _without_success),
    Body("avatar-list-public-managed", _AVATARS, _without_success),
    Body("avatar-preview", account_calls.preview_avatar("avat_1"), _without_success),
    Body("agent-created", _AGENT, lambda body: body["agent"]),
    Body("agent-updated", _AGENT, lambda body: body["agent"]),
    Body("link-created", _LINK, lambda body: body["link"]),
    Body("link-updated", _LINK, lambda body: body["link"]),
    Body("link-list", account_calls.list_links(), lambda body: body["links"]),
    Body(
        "link-session-started",
        account_calls.start_session_by_link("lnk_1", aspect_ratio="4:3"),
        _without_success,
    ),
    Body("usage-summary", account_calls.get_usage(), lambda body: body["usage"]),
    Body("usage-schema", _USAGE),
]

# Whether there was a body is all that a delete could tell.
EMPTY = {
    "avatar-deleted": account_calls.delete_avatar("avat_1"),
    "link-deleted": account_calls.delete_link("lnk_1"),
}

ERRORS = [path.stem for path in sorted(FOLDER.glob("error-*.json"))]

# Not answers of the REST API that we call, each with the reason.
OTHERS = {
    "openclaw-initiated": "its session cannot be ended by id, so that there is no call for it",
    "session-create-request-early": "a request, of a form that we do not send",
    "ws-agent-speak-confirmed": "a message of the speech gateway",
    "ws-connection-established": "a message of the speech gateway",
    "ws-session-init-managed": "a message of the speech gateway",
    "ws-session-init-own-room": "a message of the speech gateway",
}
