"""The page's server: files, the browser's offer, and one browser at a time."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from agenthuman_plugins.demo._assistant import openai_key
from agenthuman_plugins.demo._call import Call
from agenthuman_plugins.demo._errors import DemoError
from agenthuman_plugins.demo._pipeline import LEFT, Conversation
from agenthuman_plugins.demo._services import Services
from agenthuman_plugins.emulator import http_server
from agenthuman_plugins.emulator.voice import Voice
from agenthuman_plugins.viewer import web

NO_BROWSER = (
    "This machine has no network interface besides loopback, and browsers leave that one out for video."
    " Record the avatar instead: agenthuman demo --say TEXT --record FILE.mp4"
)
_HOST = "127.0.0.1"
_FILES = Path(__file__).parent / "page"
_BUSY = (
    "The avatar is already talking in another window, and the free plan has one session at a time."
    " Close that window, then try again."
)
_GOODBYE_S = 1.0
_END_TIMEOUT_S = 25.0  # for a conversation, its session included; the limits inside are shorter

_logger = logging.getLogger(__name__)


class Reception:
    """Lets one browser in at a time."""

    def __init__(self, services: Services, opening: str | None) -> None:
        self._services = services
        self._opening = opening
        self._voice = Voice()
        self._turn = asyncio.Lock()
        self._id = ""
        self._conversation: Conversation | None = None
        self._task: asyncio.Task[None] | None = None

    async def welcome(self, offer: Mapping[str, str]) -> dict[str, Any]:
        """Begin a conversation and return the answer to the offer.

        Raises:
            RefusedError: Another browser is in a conversation, or the offer cannot be used.
        """
        async with self._turn:
            # A reloaded page may be back before the word that it has left is here.
            if self._conversation and not await self._conversation.wait_over(timeout_s=_GOODBYE_S):
                raise web.RefusedError(409, _BUSY)
            await self._see_out()
            connection = Call()
            try:
                await connection.initialize(offer["sdp"], offer["type"])
            except Exception as error:
                _logger.debug("Offer refused", exc_info=error)
                await connection.disconnect()  # type: ignore[no-untyped-call]
                raise web.RefusedError(400, "This browser's offer for a call cannot be used.") from error
            answer = connection.get_answer()  # type: ignore[no-untyped-call]
            self._id = connection.pc_id
            self._conversation = Conversation(connection, self._services, self._voice, self._opening)
            self._task = asyncio.create_task(self._conversation.run(), name="conversation")
            return {**(answer or {}), "understands_speech": openai_key() is not None}

    def goodbye(self, conversation_id: str) -> None:
        """Note that a browser has left."""
        if self._conversation is not None and conversation_id == self._id:
            self._conversation.end(LEFT)

    async def aclose(self) -> None:
        """End the conversation there is."""
        if self._conversation is not None:
            self._conversation.end("The demo was stopped. Start it again with “agenthuman demo”.")
            await self._see_out()

    async def _see_out(self) -> None:
        """Wait until the last conversation is over, its session included."""
        if self._task is None:
            return
        task, self._task = self._task, None
        done, _ = await asyncio.wait([task], timeout=_END_TIMEOUT_S)
        if not done:
            task.cancel()
            _logger.error("A conversation did not end in time")
        elif not task.cancelled() and (error := task.exception()):
            _logger.error("A conversation failed", exc_info=error)


def create_app(reception: Reception) -> FastAPI:
    """Return the page's ASGI application."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Another site in the same browser must not open sessions.
    app.add_middleware(web.OwnPages)

    @app.post("/api/offer")
    async def offer(request: Request) -> JSONResponse:
        try:
            return JSONResponse(await reception.welcome(await web.read_offer(request)))
        except web.RefusedError as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)

    @app.post("/api/leave/{conversation_id}", status_code=204)
    async def leave(conversation_id: str) -> None:
        reception.goodbye(conversation_id)

    app.mount("/viewer", web.files())
    app.mount("/", StaticFiles(directory=_FILES, html=True))
    return app


def listen(port: int) -> socket.socket:
    """Open the page's port.

    Raises:
        DemoError: It is taken, or not to be had.
    """
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        what = (
            "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror or error})"
        )
        raise DemoError(
            f"Port {port} {what}: choose another one, or let --port 0 find one that is free."
        ) from error


@contextlib.asynccontextmanager
async def serving(listener: socket.socket, services: Services, *, opening: str | None) -> AsyncIterator[str]:
    """Serve the page inside the block, and end what was begun in it; gives the page's address."""
    reception = Reception(services, opening)
    async with http_server.serving(create_app(reception), listener):
        try:
            yield f"http://{_HOST}:{listener.getsockname()[1]}"
        finally:
            await reception.aclose()
