"""A gateway that does what a test tells it."""

import asyncio
import base64
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

LIMIT_S = 30.0  # hang limit

_silent = logging.Logger("scripted gateway", level=logging.CRITICAL + 1)  # noqa: LOG001 - a test looks for the token in all that is logged


class ScriptedGateway:
    """Keeps what it is sent, and answers as the real one unless told otherwise.

    Attributes:
        url: Address to connect to.
        received: Messages, the first one included.
        sockets: Connections, in order.
        established: Whether the first message is answered.
        confirms_speech: Whether speech is confirmed.
        confirms_interrupts: Whether interruptions are confirmed.
        on_message: Called with the connection and each message, before it is answered.
        on_request: Called with the HTTP request; what it returns is answered in place of a connection.
    """

    def __init__(self) -> None:
        self.url = ""
        self.received: list[dict[str, Any]] = []
        self.sockets: list[ServerConnection] = []
        self.established = True
        self.confirms_speech = True
        self.confirms_interrupts = True
        self.on_message: Callable[[ServerConnection, dict[str, Any]], Awaitable[None]] | None = None
        self.on_request: Callable[[ServerConnection, Request], Response | None] | None = None
        self._happened = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["ScriptedGateway"]:
        async with serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=tls,
            process_request=self._on_request,
            logger=_silent,
            close_timeout=0.5,
        ) as server:
            self.url = f"ws{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def tell(self, message: Any) -> None:
        """Send a message, or a text that is none."""
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        await self.sockets[-1].send(text)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until a condition on what was received holds."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    def of_type(self, name: str) -> list[dict[str, Any]]:
        return [message for message in self.received if message["type"] == name]

    def speech(self) -> bytes:
        """All speech that came."""
        return b"".join(base64.b64decode(message["audio"]) for message in self.of_type("agent.speak"))

    def _on_request(self, socket: ServerConnection, request: Request) -> Response | None:
        return self.on_request(socket, request) if self.on_request else None

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                message = json.loads(text)
                self.received.append(message)
                self._happened.set()
                if self.on_message:
                    await self.on_message(socket, message)
                if (answer := self._answer(message)) is not None:
                    await socket.send(json.dumps(answer))
        self._happened.set()

    def _answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        match message["type"]:
            case "session.init" if self.established:
                return {"type": "connection.established", "session_id": "sess_1"}
            case "agent.speak" if self.confirms_speech:
                samples = len(base64.b64decode(message["audio"])) // 2
                return {"type": "agent.speak.confirmed", "audio_samples": samples}
            case "agent.interrupt" if self.confirms_interrupts:
                return {"type": "agent.interrupt.confirmed"}
        return None
