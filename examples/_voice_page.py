"""The page of the voice agent's example: its server, and a guest as the agent meets one."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import uvicorn
from _voice_services import Ears, Place
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from agenthuman_plugins import LiveKitRoom
from agenthuman_plugins.viewer import Viewer, ViewerError, web

_FILES = Path(__file__).parent / "voice_page"
_LOOK_EVERY_S = 0.5  # whether the page is still there
_TOLD = {
    "agent_chunk",
    "avatar_connected",
    "avatar_disconnected",
    "avatar_started",
    "avatar_text",
    "avatar_finished",
}
_BUSY = "The avatar is talking in another window. Close that window, then try again."

_log = logging.getLogger(__name__)


async def _nothing() -> None:
    """Interrupt nobody."""


class Guest:
    """A page, from its call until it has gone.

    Attributes:
        room: Where the avatar is shown.
        on_interrupt: Called when the user presses the button.
    """

    def __init__(self, place: Place) -> None:
        self.room: LiveKitRoom = place.room
        self.on_interrupt: Callable[[], Awaitable[None]] = _nothing
        self._viewer = Viewer(place.room.url, place.viewer_token)
        self._ears = Ears()
        self._sounds: asyncio.Queue[dict[str, Any] | bytes | None] = asyncio.Queue()
        self._tasks: set[asyncio.Future[None]] = set()

    async def welcome(self, offer: dict[str, Any]) -> dict[str, Any]:
        """Answer the page's call."""
        answer = await self._viewer.answer(
            offer, on_message=self._on_message, on_microphone=self._sounds.put_nowait
        )
        return {**answer, "understands_speech": self._ears.understand}

    async def said(self) -> AsyncIterator[dict[str, Any]]:
        """What the user says, as the events of speech-to-text, until the page has gone."""
        watching = asyncio.create_task(self._watch())
        try:
            while (heard := await self._sounds.get()) is not None:
                event = await self._hear(heard) if isinstance(heard, bytes) else heard
                if event is None:
                    continue
                if event["type"] == "stt_output":
                    self._viewer.tell(event)  # at once: it may be a while until the agent takes it
                yield event
        finally:
            watching.cancel()

    def tell(self, event: dict[str, Any]) -> None:
        """Show an event on the page, if it is one of those that are shown."""
        if event["type"] in _TOLD:
            self._viewer.tell({name: value for name, value in event.items() if name != "audio"})

    async def aclose(self, text: str = "") -> None:
        """Let the page go."""
        await self._viewer.aclose(text)

    async def _hear(self, pcm: bytes) -> dict[str, Any] | None:
        try:
            return await self._ears.hear(pcm)
        except Exception as error:  # noqa: BLE001 - a transcription that fails is no reason to hang up
            _log.warning("Speech was not understood: %s", type(error).__name__)
            return None

    def _on_message(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "text", "text": str(text)} if text.strip():
                self._sounds.put_nowait({"type": "stt_output", "transcript": text.strip()})
            case {"type": "interrupt"}:
                task = asyncio.ensure_future(self.on_interrupt())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case _:
                pass

    async def _watch(self) -> None:
        while self._viewer.browsers:  # noqa: ASYNC110 - the viewer tells nobody
            await asyncio.sleep(_LOOK_EVERY_S)
        self._sounds.put_nowait(None)


Converse = Callable[[Guest], Awaitable[None]]


class Door:
    """Lets one guest in at a time: the free plan has one session."""

    def __init__(self, converse: Converse, make_room: Callable[[], Place]) -> None:
        self._converse = converse
        self._make_room = make_room
        self._talk: asyncio.Task[None] | None = None
        self._entering = asyncio.Lock()

    async def enter(self, request: Request) -> JSONResponse:
        """Answer a page's call, and begin to talk."""
        async with self._entering:  # of two pages at once, only one
            return await self._enter(request)

    async def _enter(self, request: Request) -> JSONResponse:
        if self._talk is not None and not self._talk.done():
            await asyncio.wait(
                [self._talk], timeout=2.0
            )  # a page that was loaded again is faster than its end
            if not self._talk.done():
                return JSONResponse({"error": _BUSY}, 409)
        guest = Guest(self._make_room())
        try:
            answer = await guest.welcome(await web.read_offer(request))
        except web.RefusedError as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except ViewerError as error:
            return JSONResponse({"error": str(error)}, 400)
        self._talk = asyncio.create_task(self._host(guest))
        return JSONResponse(answer)

    async def aclose(self) -> None:
        """End the conversation there is."""
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.wait([self._talk])

    async def _host(self, guest: Guest) -> None:
        try:
            await self._converse(guest)
        except Exception:  # noqa: BLE001 - logged, and the page is told
            _log.exception("The conversation failed.")
            await guest.aclose("The conversation failed: the terminal shows why.")
        finally:
            await guest.aclose("The conversation is over.")


class _Server(uvicorn.Server):
    """Leaves Ctrl-C to asyncio, which lets the conversation come to its end first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


async def serve_page(converse: Converse, make_room: Callable[[], Place], port: int) -> None:
    """Serve the page until Ctrl-C."""
    door = Door(converse, make_room)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(web.OwnPages)
    app.add_api_route("/offer", door.enter, methods=["POST"], response_model=None)
    app.mount("/viewer", web.files())
    app.mount("/", StaticFiles(directory=_FILES, html=True))
    listener = socket.create_server(("127.0.0.1", port))
    print(f"Talk to the avatar at http://127.0.0.1:{listener.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
    server = _Server(config)
    with contextlib.closing(listener):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        finally:
            await door.aclose()
            server.should_exit = True
            await serving
