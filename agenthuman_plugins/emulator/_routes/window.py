"""`/window`: a page that shows the whole emulator. Without the key, hence for pages from here alone, as `/watch` is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from agenthuman_plugins.emulator._board import Board
from agenthuman_plugins.emulator._errors import ServiceError
from agenthuman_plugins.emulator._pictures import MAX_BYTES
from agenthuman_plugins.emulator._routes._replies import Reply, hung_up, refused
from agenthuman_plugins.emulator._routes.control import control

_FILES = Path(__file__).parents[1] / "window"


def window_page(board: Board) -> list[Route]:
    """Return the routes of the page and of `/emulator/health`, to be added to those of an application."""
    page = _application(board)
    paths = ("/window", "/window/{rest:path}", "/emulator/health")
    return [
        Route("/", _to_the_page, include_in_schema=False),
        *(Route(path, page, include_in_schema=False) for path in paths),  # no function, hence for all methods
    ]


def _application(board: Board) -> ASGIApp:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, default_response_class=Reply)
    app.include_router(control(board), prefix="/window")

    @app.get("/emulator/health")
    async def health() -> dict[str, Any]:
        return {"success": True, **board.health()}

    @app.get("/window")
    async def page() -> Response:
        board.watch.prepare()
        return Response((_FILES / "index.html").read_bytes(), media_type="text/html")

    @app.get("/window/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(_stream(board), media_type="text/event-stream")

    @app.post("/window/avatars")
    async def upload(request: Request) -> dict[str, Any]:
        service = board.service
        service.catalogue.check_allowance()
        picture = bytearray()
        async for piece in request.stream():
            picture += piece
            if len(picture) > MAX_BYTES:
                break  # the check of the size tells the caller
        avatar = service.catalogue.add(*await service.checked_picture(bytes(picture)))
        return {"success": True, "avatar_id": avatar.avatar_id}

    app.add_exception_handler(ServiceError, refused)
    app.add_exception_handler(ClientDisconnect, hung_up)
    app.mount("/window", StaticFiles(directory=_FILES, html=True))
    return app


async def _to_the_page(request: Request) -> Response:
    """Lead a browser that was given the address of the API to the page; everybody else finds nothing at `/`."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse("/window")


async def _stream(board: Board) -> AsyncIterator[bytes]:
    async for change in board.changes():
        yield b"data: %s\n\n" % Reply(change).body
