"""One local HTTP service over a real socket, which fails on demand. Every tool under test is pointed at it."""

import contextlib
import json
import select
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self

HOLD_S = 2.0  # how long an answer is kept back while the run is cancelled
_POLL_S = 0.02  # how fast a caller that has gone is noticed


class Service(Protocol):
    """What answers while nothing is wrong, and in whose format errors are told."""

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The answer to a request, to be sent as JSON with status 200."""

    def refusal(self, status: int, text: str) -> Any:
        """An error, in the service's own form."""


@dataclass
class Seen:
    """A request.

    Attributes:
        began: When it had arrived, on the monotonic clock.
        body_bytes: Size of what it carried, address included.
        finished: When it was answered, or its caller had gone.
        delivered: Whether the caller was still there for the answer.
    """

    began: float
    body_bytes: int
    finished: float | None = None
    delivered: bool = False


class FaultyServer:
    """A context manager; `arm` decides from when on what goes wrong.

    Args:
        service: What answers while nothing is wrong.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._fault: str | None = None
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._listens = True
        self.seen: list[Seen] = []
        self.held = threading.Event()  # the request that a cancellation waits for is here
        self._http = _Http(("127.0.0.1", 0), self._handler())
        self._http.connections = self._connections
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._stop()

    def arm(self, fault: str) -> None:
        """Let this go wrong from now on; what came before is forgotten."""
        self.seen.clear()
        if fault == "network_down":
            self._stop()
        self._fault = fault

    def _stop(self) -> None:
        if not self._listens:
            return
        self._listens = False
        self._http.shutdown()
        self._http.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                server.receive(self, Seen(time.monotonic(), len(body) + len(self.path)), body)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - as above

            def log_message(self, *_: Any) -> None:
                """Requests are in `seen`; the paths of some hold arguments."""

        return Handler

    def receive(self, handler: BaseHTTPRequestHandler, seen: Seen, body: bytes) -> None:
        """Answer a request, or do what the fault says."""
        self.seen.append(seen)
        fault = self._fault
        try:
            if fault == "time_out":
                self._closing.wait()
                return
            status, text = self._reply(fault, handler, body)
            if fault == "cancel" and not self.held.is_set():
                self.held.set()
                if not self._still_there(handler.connection):
                    return
            handler.send_response(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text)
            seen.delivered = True
        except OSError:
            handler.close_connection = True
        finally:
            seen.finished = time.monotonic()

    def _reply(self, fault: str | None, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        if fault == "malformed":
            return 200, b'{"success": tru'
        if fault in _REFUSALS:
            status = int(fault)
            return status, json.dumps(self._service.refusal(status, _REFUSALS[fault])).encode()
        with self._lock:
            return 200, json.dumps(self._service.answer(handler.command, handler.path, body)).encode()

    def _still_there(self, connection: socket.socket) -> bool:
        """Keep an answer back; `False` as soon as its caller has hung up."""
        until = time.monotonic() + HOLD_S
        while time.monotonic() < until:
            readable, _, _ = select.select([connection], [], [], _POLL_S)
            if readable and not connection.recv(1, socket.MSG_PEEK):
                return False
        return True


# Texts that name the failure and give no advice: that is the tool's part.
_REFUSALS = {"401": "Invalid API key", "429": "Too many requests", "500": "Internal error"}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    connections: set[socket.socket]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is part of the matter."""
