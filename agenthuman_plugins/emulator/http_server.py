"""A uvicorn server inside a running program: it leaves signals and logging to the program."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

_START_TIMEOUT_S = 10.0
_GRACEFUL_SHUTDOWN_S = 1  # for requests in flight; uvicorn takes whole seconds


@contextlib.asynccontextmanager
async def serving(app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on a listening socket while the body runs."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
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
