"""`/watch`: a page that shows sessions. Not part of the service, and without its key: only pages from here may call it."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from agenthuman_plugins.emulator._routes._replies import hung_up
from agenthuman_plugins.emulator._watch import Watch
from agenthuman_plugins.viewer import ViewerError, web

PATHS = ("/watch", "/viewer")
_INDEX = web.FILES / "index.html"


def watch_page(watch: Watch) -> list[Route]:
    """Return the routes of the page, to be added to those of an application."""
    page = _application(watch)
    return [
        Route(path + rest, page, include_in_schema=False)  # no function, hence for all methods
        for path in PATHS
        for rest in ("", "/{rest:path}")
    ]


def _application(watch: Watch) -> ASGIApp:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    router = APIRouter(prefix="/watch")

    @router.get("")
    @router.get("/{session_id}")
    async def page(session_id: str = "") -> Response:
        del session_id  # the page asks for it
        watch.prepare()
        return FileResponse(_INDEX)

    @router.get("/{session_id}/state")
    async def state_of(session_id: str) -> JSONResponse:
        return JSONResponse(watch.state(session_id))

    @router.post("/{session_id}/offer")
    async def offer(session_id: str, request: Request) -> JSONResponse:
        try:
            return JSONResponse(await watch.answer(session_id, await web.read_offer(request)))
        except web.RefusedError as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except ViewerError as refusal:
            return JSONResponse({"error": str(refusal)}, 409)

    @app.get("/watch/state")
    async def state() -> JSONResponse:
        return JSONResponse(watch.state())

    app.include_router(router)
    app.add_exception_handler(ClientDisconnect, hung_up)
    app.mount("/viewer", web.files())
    return app
