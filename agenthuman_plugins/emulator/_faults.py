"""Faults on demand: what goes wrong, how often, and where.

A fault of a request is used up by the next requests that match it; one of an avatar by the next sessions, unless it
names a session that runs.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agenthuman_plugins.emulator._errors import ServiceError, bad_request

RequestFault = Literal["status", "delay", "cut_before", "cut_after", "cut_body", "malformed_body"]
AvatarFault = Literal["avatar_crash", "avatar_silent", "no_playback_finished", "room_loss"]
REQUEST_FAULTS: tuple[str, ...] = get_args(RequestFault)
AVATAR_FAULTS: tuple[str, ...] = get_args(AvatarFault)
CUT = "agenthuman.cut"  # in the scope of a request: a function that drops its connection

_MAX_DELAY_S = 600.0
_MAX_TEXT = 1_000  # characters of a pattern or an id; fnmatch takes hours for a megabyte of brackets
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, section 5.6.2
_MALFORMED = '{"success": tru'
_BODYLESS = (204, 304)  # HTTP allows them none


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: One of `REQUEST_FAULTS` or `AVATAR_FAULTS`.
        times: Requests, or sessions, that it is left for.
        method: HTTP method that it is for; `None` for any.
        path: Pattern of the paths that it is for, such as `/v1/sessions/*`; `None` for all below `/v1`.
        session_id: Session whose requests it is for, or whose avatar.
        status: For `status`: what is answered.
        body: For `status` the answer's body; for `malformed_body` the text.
        headers: For `status`: headers of the answer.
        delay_s: For `delay`: seconds.
        processed: For `status` and `delay`: whether the request is processed before.
    """

    kind: str
    times: int = 1
    method: str | None = None
    path: str | None = None
    session_id: str | None = None
    status: int = 503
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 1.0
    processed: bool = False

    @classmethod
    def parse(cls, body: Any) -> "Fault":
        """Make a fault of a request body.

        Raises:
            ServiceError: It does not say what shall go wrong.
        """
        if not isinstance(body, dict):
            raise bad_request("The request body must be a JSON object")
        kinds = (*REQUEST_FAULTS, *AVATAR_FAULTS)
        if body.get("fault") not in kinds:
            raise bad_request("Unknown fault", f"Set fault to one of {', '.join(kinds)}")
        for name, value in body.items():
            if name != "fault" and (name not in _CHECKS or not _CHECKS[name](value)):
                raise bad_request(f"{name} does not fit", "GET /openapi.json describes the fields")
        return cls(**{"kind" if name == "fault" else name: value for name, value in body.items()})

    def describe(self) -> dict[str, Any]:
        """Return it as `GET /emulator/faults` tells it."""
        fields = asdict(self)
        return {"fault": fields.pop("kind"), **fields}

    def matches(self, method: str, path: str) -> bool:
        """Whether it is for a request."""
        return (
            self.kind in REQUEST_FAULTS
            and self.method in (None, method)
            and fnmatchcase(path, self.path or "/v1/*")
            and (self.session_id is None or self.session_id in path.split("/"))
        )


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= _MAX_TEXT)


def _is_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _HEADER_NAME.fullmatch(name)
        and isinstance(text, str)
        and text.isascii()
        and text.isprintable()
        and text == text.strip()
        for name, text in value.items()
    )


_MIN_STATUS, _MAX_STATUS = 200, 599
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "times": lambda value: type(value) is int and value > 0,
    "method": _is_text,
    "path": _is_text,
    "session_id": _is_text,
    "status": lambda value: type(value) is int and _MIN_STATUS <= value <= _MAX_STATUS,
    "body": lambda _: True,
    "headers": _is_headers,
    "delay_s": lambda value: type(value) in (int, float) and 0 <= value <= _MAX_DELAY_S,
    "processed": lambda value: isinstance(value, bool),
}


class FaultBoard:
    """The faults that wait for their time, in the order they were asked for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let something go wrong when its time comes."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()

    def describe(self) -> list[dict[str, Any]]:
        """Return what still waits."""
        return [fault.describe() for fault in self._faults]

    def for_request(self, method: str, path: str) -> Fault | None:
        """Take the first fault for a request."""
        for fault in self._faults:
            if fault.matches(method, path):
                self._take(fault)
                return fault
        return None

    def for_avatar(self) -> tuple[str, ...]:
        """Take the faults of the next avatar, one of each kind."""
        taken: dict[str, Fault] = {}
        for fault in list(self._faults):
            if fault.kind in AVATAR_FAULTS and fault.kind not in taken:
                taken[fault.kind] = fault
                self._take(fault)
        return tuple(taken)

    def _take(self, fault: Fault) -> None:
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)


class FaultyApp:
    """The application with faults in front of it.

    Args:
        app: The application.
        board: What goes wrong.
    """

    def __init__(self, app: ASGIApp, board: FaultBoard) -> None:
        self._app = app
        self._board = board

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or do what its fault says."""
        fault = self._board.for_request(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        match fault.kind:
            case "delay":
                await self._delay(fault, scope, receive, send)
            case "status":
                if fault.processed:
                    await self._app(scope, receive, _nowhere)
                await _answer(send, fault.status, _status_body(fault), fault.headers)
            case "malformed_body":
                await self._app(scope, receive, _nowhere)
                await _answer(send, 200, _text(_MALFORMED if fault.body is None else fault.body), {})
            case "cut_before":
                await _cut(scope, receive)
            case "cut_after":
                await self._app(scope, receive, _nowhere)
                await _cut(scope, receive)
            case "cut_body":
                await self._app(scope, receive, _first_half(send))
                await _cut(scope, receive)

    async def _delay(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if not fault.processed:
            await asyncio.sleep(fault.delay_s)
            await self._app(scope, receive, send)
            return
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, keep)
        await asyncio.sleep(fault.delay_s)
        for message in answer:
            await send(message)


def _status_body(fault: Fault) -> bytes:
    if isinstance(fault.body, str):
        return _text(fault.body)
    body = ServiceError(fault.status, "Injected fault").body if fault.body is None else fault.body
    return json.dumps(body).encode()


def _text(body: Any) -> bytes:
    return str(body).encode(errors="replace")  # it may hold lone surrogates


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    body = b"" if status in _BODYLESS else body
    kept = {"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}}
    pairs = [(name.encode(), value.encode()) for name, value in kept.items() if name != "content-length"]
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [*pairs, (b"content-length", b"%d" % len(body))],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _nowhere(_: Message) -> None:
    """Lose an answer."""


def _first_half(send: Send) -> Send:
    async def forward(message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            message = {**message, "body": body[: len(body) // 2], "more_body": True}
        await send(message)

    return forward


async def _cut(scope: Scope, receive: Receive) -> None:
    if CUT not in scope:
        raise ConnectionResetError(
            "The connection is cut."
        )  # without a connection: an application called in process
    await asyncio.sleep(0)  # what was written is on its way
    scope[CUT]()
    while (await receive())["type"] != "http.disconnect":
        pass
