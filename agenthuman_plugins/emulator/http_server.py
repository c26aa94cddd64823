"""A uvicorn server inside a running program: it leaves signals and logging to the program."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from agenthuman_plugins.emulator._faults import CUT

_START_TIMEOUT_S = 10.0
_GRACEFUL_SHUTDOWN_S = 1  # for requests in flight; uvicorn takes whole seconds
_ARRIVAL_LIMIT_S = 30.0  # for a whole request, body included; a picture of 10 MB takes below a second


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket, *, max_message_bytes: int | None = None
) -> AsyncIterator[None]:
    """Serve `app` on a listening socket while the body runs.

    Args:
        app: The application.
        listener: Where it is served.
        max_message_bytes: Largest message of a WebSocket; `None` for no WebSockets at all.
    """
    # Its connections inherit it. Without, the second part of an answer waits 40 ms for the caller's acknowledgement: asyncio
    # sets it for sockets that name TCP as their protocol, and those of `socket.create_server` name none.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        lifespan="off",
        ws="none" if max_message_bytes is None else _DiscreetWebSockets,
        ws_max_size=max_message_bytes or 0,
        log_config=None,  # logging is the program's business
        access_log=False,  # query strings belong in no log
        timeout_graceful_shutdown=_GRACEFUL_SHUTDOWN_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="HTTP server")
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await server.up.wait()
        yield
    finally:
        server.should_exit = True
        await task


class _Protocol(H11Protocol):
    """HTTP that drops requests which do not arrive in time, and others when the application says so."""

    _deadline: asyncio.TimerHandle | None = None  # runs while the client has something to send

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = self.app

        async def cuttable(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CUT] = self.transport.abort
            await app(scope, receive, send)

        self.app = cuttable

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wait for the first request."""
        super().connection_made(transport)
        self._watch_arrival()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._stop_deadline()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        cycle: Any = self.cycle  # none before the first request, which its type leaves out
        if cycle is None or cycle.response_complete:
            super().send_400_response(msg)
        else:  # an answer to the request before is still being sent, and a second one would break it
            self.transport.abort()

    def _watch_arrival(self) -> None:
        # A connection that has become a WebSocket has another protocol.
        ours = self.transport.get_protocol() is self
        if not ours or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(_ARRIVAL_LIMIT_S, self.transport.abort)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _DiscreetWebSockets(WebSocketsSansIOProtocol):
    """WebSockets whose messages are not logged, not even at DEBUG: the first one holds a session's token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.debug = False


class _Server(uvicorn.Server):
    """A uvicorn server that tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal handler."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.up.set()
