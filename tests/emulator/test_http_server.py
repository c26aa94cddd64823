"""The HTTP server inside a program."""

import socket

import httpx
from starlette.types import Receive, Scope, Send

from agenthuman_plugins.emulator._faults import CUT
from agenthuman_plugins.emulator.http_server import serving


async def test_an_answer_leaves_at_once() -> None:
    """A connection waits for no acknowledgement before it sends the rest of an answer: that would cost 40 ms each."""
    delays = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope[CUT].__self__
        delays.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with serving(app, listener), httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"http://127.0.0.1:{port}")
    assert delays
    assert all(delays)
