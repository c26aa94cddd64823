"""The HTTP face of the service: routes, the key check, and answers in the service's own shapes."""

from collections.abc import Collection, Iterable
from typing import Any

from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from agenthuman_plugins._version import __version__
from agenthuman_plugins.emulator._board import Board
from agenthuman_plugins.emulator._door import Door
from agenthuman_plugins.emulator._errors import ServiceError, bad_request
from agenthuman_plugins.emulator._faults import FaultyApp
from agenthuman_plugins.emulator._gateway import Gateway
from agenthuman_plugins.emulator._keys import Keys
from agenthuman_plugins.emulator._routes._replies import Reply, hung_up, refused
from agenthuman_plugins.emulator._routes.agents import agents
from agenthuman_plugins.emulator._routes.avatars import avatars, pictures
from agenthuman_plugins.emulator._routes.control import control
from agenthuman_plugins.emulator._routes.links import link_page, link_starter, links
from agenthuman_plugins.emulator._routes.openclaw import openclaw
from agenthuman_plugins.emulator._routes.sessions import sessions
from agenthuman_plugins.emulator._routes.usage import usage
from agenthuman_plugins.emulator._routes.watch import watch_page
from agenthuman_plugins.emulator._routes.window import window_page
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._watch import Watch


def create_app(
    service: Service,
    api_keys: Collection[str],
    board: Board | None = None,
    allow_hosts: Iterable[str] = (),
) -> ASGIApp:
    """Return the ASGI application.

    Args:
        service: What the routes call.
        api_keys: Keys that `x-api-key` may hold; all of them belong to the same account.
        board: Shown at `/window`, its sessions at `/watch`; by default there are no such pages.
        allow_hosts: See `Door`.
    """
    keys = Keys(api_keys)

    async def count(response: Response) -> None:
        if service.rate_limit is not None:
            response.headers.update(service.rate_limit.take())

    app = FastAPI(
        title="Agent Human emulator",
        version=__version__,
        default_response_class=Reply,
        redirect_slashes=False,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(link_starter(service), dependencies=[Depends(count)])
    for routes in (sessions, avatars, agents, links, openclaw):
        app.include_router(routes(service), dependencies=[Depends(keys.check), Depends(count)])
    app.include_router(usage(service), dependencies=[Depends(keys.check_also_cookie), Depends(count)])
    shown = board or Board(service, Watch(service, None), lambda: "none")
    app.include_router(control(shown), dependencies=[Depends(keys.check)])
    app.include_router(pictures(service))
    if board is not None:
        app.router.routes.extend((*watch_page(board.watch), *window_page(board), link_page()))
    gateway = Gateway(service)

    @app.websocket("/")
    async def speak(socket: WebSocket) -> None:
        await gateway.serve(socket)

    app.add_exception_handler(ServiceError, refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(ClientDisconnect, hung_up)
    app.add_exception_handler(Exception, _failed)
    _describe_key(app)
    # Whom the door turns away uses up no fault.
    return Door(FaultyApp(app, service.faults), keys, allow_hosts)


def _describe_key(app: FastAPI) -> None:
    """Add the API key to the OpenAPI document, which is written when somebody asks: few do, and it takes 0.1 s.

    No call answers HTTP 422, which FastAPI would add.
    """
    write = app.openapi

    def openapi() -> dict[str, Any]:
        document = write()
        key = {"type": "apiKey", "in": "header", "name": "x-api-key"}
        document.setdefault("components", {})["securitySchemes"] = {"key": key}
        for calls in document["paths"].values():
            for call in calls.values():
                call["responses"].pop("422", None)  # FastAPI's own; here a wrong argument is HTTP 400
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document


async def _invalid(_: Request, __: Exception) -> JSONResponse:
    refusal = bad_request("An argument in the address is wrong")
    return Reply(refusal.body, refusal.status)


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    refusal = ServiceError(error.status_code, f"{error.detail}: {request.method} {request.url.path}")
    return Reply(refusal.body, error.status_code, error.headers)


async def _failed(_: Request, __: Exception) -> JSONResponse:
    return Reply(ServiceError(500, "Something went wrong").body, 500)
