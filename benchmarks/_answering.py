"""A server that answers every request with the same documented session at once: what is left is the client's cost.

`python -m benchmarks._answering` prints its port and runs until its input ends.
"""

import asyncio
import json
import sys

_BODY = json.dumps(
    {
        "success": True,
        "session": {
            "session_id": "sess_01H3Z8G9YR3K2N5M6P7Q8W4T",
            "status": "started",
            "started_at": "2024-01-15T10:35:00Z",
            "ended_at": None,
            "expiration": "2024-01-15T14:35:00Z",
            "duration": 120,
            "aspect_ratio": "4:3",
            "metadata": {"user_name": "John Doe", "client_ref": "5f2b7d1c9e8a4b6f8d3c2a1b0e9f8d7c"},
        },
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_01H3Z8G9YR3K2N5M\r\n"
    b"date: Mon, 15 Jan 2024 10:37:00 GMT\r\nx-ratelimit-limit: 60\r\nx-ratelimit-remaining: 45\r\n"
    b"x-ratelimit-reset: 1705315080\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # Requests without a body, one after the other: each is read in one piece, or its end is.
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(_ANSWER)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answering, "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
