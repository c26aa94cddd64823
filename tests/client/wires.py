"""Servers of bytes on this machine, and clients that reach them over pools of their own."""

import asyncio
import inspect
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.client._config import Clock
from tests.client.conftest import API_KEY

KINDS = ["sync", "async"]


async def _asleep(_: float) -> None:
    await asyncio.sleep(0)


def hurried(**changes: Any) -> Clock:
    """A clock that does not wait between attempts."""
    return Clock(**{"sleep": lambda _: None, "asleep": _asleep, "random": lambda: 0.0, **changes})


def use_own(kind: str, use: Callable[[Any], Any], **options: Any) -> Any:
    """Return `use(client)` of a client that makes its connections itself."""
    options = {"api_key": API_KEY, "_clock": hurried(), **options}
    if kind == "sync":
        with AgentHuman(**options) as client:
            return use(client)

    async def run() -> Any:
        async with AsyncAgentHuman(**options) as client:
            result = use(client)
            return await result if inspect.isawaitable(result) else result

    return asyncio.run(run())


class Request:
    """A request as it came over the wire."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }


class Wire:
    """A server on 127.0.0.1: each connection has a thread, which answers its requests.

    It knows no pipelining and no chunked requests, which our client does not send.
    """

    def __init__(
        self,
        answer: Callable[[Request, socket.socket], bytes],
        listener: socket.socket,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.connections = 0
        self.gone = threading.Event()  # set when the test is over
        self._answer = answer
        self._listener = listener
        self._open: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def log(self) -> list[str]:
        return [request.line.rpartition(" ")[0] for request in self.requests]

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def close(self) -> None:
        self.gone.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while raw := _read(connection):
                self.requests.append(Request(raw))
                answer = self._answer(self.requests[-1], connection)
                if not answer:
                    return
                connection.sendall(answer)


def _read(connection: socket.socket) -> bytes:
    raw = b""
    while b"\r\n\r\n" not in raw:
        part = connection.recv(65_536)
        if part.startswith(b"\x16"):  # TLS, where none is spoken
            connection.sendall(reply(b"", status=400))
            return b""
        if not part:
            return b""
        raw += part
    missing = int(Request(raw).headers.get("content-length", "0")) - len(Request(raw).body)
    while missing > 0:
        part = connection.recv(65_536)
        raw, missing = raw + part, missing - len(part)
    return raw


@contextmanager
def wire(
    answer: Callable[[Request, socket.socket], bytes],
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Wire]:
    """A server that answers like this; an empty answer hangs up."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = Wire(answer, socket.create_server((host, 0), family=family), tls)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield server
    finally:
        server.close()


def reply(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """An HTTP answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-length": str(len(content)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode("latin-1") + content


def empty(_: Request, __: socket.socket) -> bytes:
    """Answers any list with an empty one."""
    return reply({"success": True, "sessions": [], "links": [], "agents": []})
