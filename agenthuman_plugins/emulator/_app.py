"""The HTTP face of the service: routes, the key check, and answers in the service's own shapes."""

import hmac
import json
from collections.abc import Collection
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from agenthuman_plugins._version import __version__
from agenthuman_plugins.emulator._errors import ServiceError, UnauthorizedError
from agenthuman_plugins.emulator._rate_limit import RateLimit
from agenthuman_plugins.emulator._requests import parse_create, parse_json
from agenthuman_plugins.emulator._service import Service


class _Reply(JSONResponse):
    """JSON in ASCII: a lone surrogate in a caller's metadata has no UTF-8 form."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


def create_app(service: Service, api_keys: Collection[str], rate_limit: RateLimit | None = None) -> FastAPI:
    """Return the ASGI application.

    Args:
        service: What the routes call.
        api_keys: Keys that `x-api-key` may hold; all of them belong to the same account.
        rate_limit: Limit on the requests to `/v1`; by default there is none.
    """

    async def check_key(request: Request) -> None:
        key = request.headers.get("x-api-key", "")
        if not key:
            raise UnauthorizedError("API key required")
        if not any(hmac.compare_digest(key.encode(), known.encode()) for known in api_keys):
            raise UnauthorizedError("Invalid API key")

    async def count(response: Response) -> None:
        if rate_limit is not None:
            response.headers.update(rate_limit.take())

    app = FastAPI(
        title="Agent Human emulator",
        version=__version__,
        default_response_class=_Reply,
        dependencies=[Depends(check_key)],
        redirect_slashes=False,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(_sessions(service), dependencies=[Depends(count)])
    app.include_router(_observation(service))
    app.add_exception_handler(ServiceError, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _failed)
    return app


def _sessions(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
    store = service.store

    @router.post("")
    async def create_session(request: Request) -> dict[str, Any]:
        """Create a session, which also starts it."""
        return await service.create(parse_create(parse_json(await request.body())))

    @router.get("")
    async def list_sessions(status: str = "all") -> dict[str, Any]:
        """List the sessions with status `all`, `started` or `ended`."""
        return {
            "success": True,
            "sessions": [store.describe(session) for session in store.newest_first(status)],
        }

    @router.get("/{session_id}")
    async def get_session(session_id: str) -> dict[str, Any]:
        """Return a session."""
        return {"success": True, "session": store.describe(store.get(session_id))}

    @router.post("/{session_id}/end")
    async def end_session(session_id: str) -> dict[str, Any]:
        """End a session; harmless when repeated."""
        session = store.get(session_id)
        service.end(session, "caller")
        fields = ("session_id", "status", "started_at", "ended_at")
        described = store.describe(session)
        return {"success": True, "session": {name: described[name] for name in fields}}

    @router.put("/{session_id}/end")
    async def end_session_as_before(session_id: str) -> dict[str, Any]:
        """End a session in the older form of the call, whose answer has a message."""
        message = (
            "Session ended successfully" if store.get(session_id).active else "Session has already ended"
        )
        return {**await end_session(session_id), "message": message}

    return router


def _observation(service: Service) -> APIRouter:
    router = APIRouter(prefix="/emulator", tags=["emulator"])

    @router.get("/sessions")
    async def observe_sessions() -> dict[str, Any]:
        """Tell who ended each session, how its avatar fares, and what happened when. Not part of the service."""
        return {"sessions": [service.store.record(session) for session in service.store.newest_first()]}

    return router


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for it alone
    return _Reply(error.body, error.status, dict(error.headers))


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    refusal = ServiceError(error.status_code, f"{error.detail}: {request.method} {request.url.path}")
    return _Reply(refusal.body, error.status_code, error.headers)


async def _failed(_: Request, __: Exception) -> JSONResponse:
    return _Reply(ServiceError(500, "Something went wrong").body, 500)
