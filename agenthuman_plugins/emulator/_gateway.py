"""The WebSocket gateway: speech for an avatar, as JSON messages.

The first message is `session.init`, and the answer `connection.established`: once the avatar has joined, or at once with
`established_first`, since the pages have both. Then come `agent.speak` and `agent.interrupt`, which are confirmed on
receipt; before the avatar is there, they wait for it. Closing the connection ends the session.
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from agenthuman_plugins.emulator._errors import ServiceError
from agenthuman_plugins.emulator._requests import parse_json
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._store import LOST, Session
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
_INIT_TIMEOUT_S = 10.0
_AVATAR_TIMEOUT_S = 30.0  # longer than the start of a worker may take
_SEND_TIMEOUT_S = 5.0
# Any rate is resampled, by the pages. Far from those of speech, one message would make hours of it, or next to nothing.
_MIN_RATE, _MAX_RATE = 1_000, 768_000
_NORMAL, _POLICY_VIOLATION = 1000, 1008  # RFC 6455, section 7.4.1

_FIRST = "First message must be session.init"


class _RefusedError(Exception):
    """Raised for what the caller is told as an error message."""


class Gateway:
    """Connections of callers to the avatars of their sessions.

    Args:
        service: Whose sessions.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection to its end."""
        await socket.accept()
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        try:
            session = self._session(await _first_message(socket), events)
        except _RefusedError as error:
            with contextlib.suppress(WebSocketDisconnect, TimeoutError):
                await _send(socket, _error(error))
                await socket.close(_POLICY_VIOLATION)
            return
        except (WebSocketDisconnect, TimeoutError):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await socket.close(_POLICY_VIOLATION)
            return
        try:
            await self._speak(socket, session, events)
        finally:
            self._service.unlisten(session)
            self._service.end(session, "gateway_closed")

    def _session(self, message: Any, events: asyncio.Queue[dict[str, Any]]) -> Session:
        """Return the session of a first message, from now on with its events."""
        if not isinstance(message, dict) or message.get("type") != "session.init":
            raise _RefusedError(_FIRST)
        managed = self._service.store.rules.generation == "managed"
        config = message.get("config") if managed else message
        if not isinstance(config, dict):
            raise _RefusedError("Invalid config")
        if managed:
            _check_managed(config)
        session_id, token = (
            config.get("session_id"),
            config.get("access_token" if managed else "session_token"),
        )
        if not isinstance(session_id, str) or not isinstance(token, str):
            raise _RefusedError("session_id and token are required")
        try:
            session = self._service.store.get(session_id)
        except ServiceError as error:
            raise _RefusedError(str(error)) from None
        if not hmac.compare_digest(token.encode(errors="replace"), session.session_token.encode()):
            raise _RefusedError("Invalid session token")
        if session.status != "started":
            raise _RefusedError(f"Session is {session.status}, not started")
        if not self._service.listen(session, events.put_nowait):
            raise _RefusedError("Session is already connected")
        return session

    async def _speak(
        self, socket: WebSocket, session: Session, events: asyncio.Queue[dict[str, Any]]
    ) -> None:
        reading = asyncio.create_task(self._read(socket, session, events), name="gateway commands")
        writing = asyncio.create_task(self._write(socket, session, events), name="gateway confirmations")
        done, pending = await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            with contextlib.suppress(WebSocketDisconnect, TimeoutError, RuntimeError):
                task.result()

    async def _read(self, socket: WebSocket, session: Session, events: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            try:
                command = _command(_parsed(await _receive(socket)))
            except _RefusedError as error:
                answer = _error(error)
            else:
                self._service.command(session, command)
                answer = _confirmation(command)
            events.put_nowait({"event": "gateway", "message": answer})

    async def _write(
        self, socket: WebSocket, session: Session, events: asyncio.Queue[dict[str, Any]]
    ) -> None:
        early: list[dict[str, Any]] = []  # answers that wait until the connection is established
        if not self._service.store.rules.established_first:
            try:
                async with asyncio.timeout(_AVATAR_TIMEOUT_S):
                    while session.active and session.avatar_state == "starting":
                        event = await events.get()
                        early += [event["message"]] if event["event"] == "gateway" else []
            except TimeoutError:
                await _send(socket, {"type": "error", "error": "The avatar did not start in time"})
                return
        established = session.active and session.avatar_state not in LOST
        if established:
            await _send(socket, {"type": "connection.established", "session_id": session.session_id})
            for message in early:
                await _send(socket, message)
        while session.active and session.avatar_state not in LOST:
            match await events.get():
                case {"event": "gateway", "message": message}:
                    await _send(socket, message)
        if session.active and (session.avatar_state == "failed" or not established):
            await _send(socket, {"type": "error", "error": "The avatar could not start"})
        await socket.close(_NORMAL)


async def _first_message(socket: WebSocket) -> Any:
    async with asyncio.timeout(_INIT_TIMEOUT_S):
        return _parsed(await _receive(socket))


async def _receive(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", _NORMAL))
    text = message.get("text")
    return text if isinstance(text, str) else (message.get("bytes") or b"").decode(errors="replace")


async def _send(socket: WebSocket, message: dict[str, Any]) -> None:
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        await socket.send_text(json.dumps(message))


def _parsed(text: str) -> Any:
    try:
        return parse_json(text.encode())
    except ServiceError:
        raise _RefusedError("Message is not valid JSON") from None


def _command(message: Any) -> dict[str, Any]:
    """Make the avatar's command of a caller's message."""
    match message:
        case {"type": "agent.speak"}:
            audio, rate = message.get("audio"), message.get("sample_rate", 16_000)
            if type(rate) not in (int, float) or rate % 1 or not _MIN_RATE <= rate <= _MAX_RATE:
                raise _RefusedError("Invalid sample_rate")
            if not isinstance(audio, str) or not audio:
                raise _RefusedError("audio is required")
            try:
                pcm = base64.b64decode(audio, validate=True)
            except (binascii.Error, ValueError):
                raise _RefusedError("audio is not valid base64") from None
            if len(pcm) % 2:
                raise _RefusedError("audio must be signed 16-bit samples")
            samples = len(pcm) // 2 * SPEECH_SAMPLE_RATE // int(rate)
            return {"command": "speak", "audio": audio, "sample_rate": int(rate), "samples": samples}
        case {"type": "agent.interrupt"}:
            return {"command": "interrupt"}
        case {"type": "session.init"}:
            raise _RefusedError("Session is already initialised")
        case {"type": str(name)}:
            raise _RefusedError(f"Unknown message type: {name[:40]}")
    raise _RefusedError("Message has no type")


def _confirmation(command: dict[str, Any]) -> dict[str, Any]:
    if command["command"] == "speak":
        return {"type": "agent.speak.confirmed", "audio_samples": command["samples"]}
    return {"type": "agent.interrupt.confirmed"}


def _check_managed(config: dict[str, Any]) -> None:
    room = config.get("room")
    if not isinstance(room, dict) or room.get("platform") != "daily":
        raise _RefusedError("Invalid room platform")
    if not all(isinstance(room.get(name), str) and room[name] for name in ("url", "token")):
        raise _RefusedError("room.url and room.token are required")
    for name in ("video_width", "video_height"):
        value = config.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise _RefusedError("Invalid video dimensions")


def _error(error: _RefusedError) -> dict[str, Any]:
    return {"type": "error", "error": str(error)}
