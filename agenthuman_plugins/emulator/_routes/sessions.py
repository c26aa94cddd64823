"""`/v1/sessions`, in the generation that the emulator plays."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request

from agenthuman_plugins.emulator._requests import (
    DOCUMENTED_PLATFORMS,
    PLATFORMS,
    parse_create,
    parse_managed_create,
)
from agenthuman_plugins.emulator._routes._replies import base_url, json_body
from agenthuman_plugins.emulator._schemas import SESSION, describe, reply
from agenthuman_plugins.emulator._schemas import create_body as create_body_schema
from agenthuman_plugins.emulator._service import Service

_END = ("session_id", "status", "started_at", "ended_at")
_END_MANAGED = (*_END, "avatar", "session_type", "created_at")


def sessions(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
    store = service.store
    managed = store.rules.generation == "managed"
    platforms = PLATFORMS if store.rules.proxy_rooms else DOCUMENTED_PLATFORMS
    parse = parse_managed_create if managed else partial(parse_create, platforms=platforms)
    body_schema = create_body_schema(managed=managed, platforms=platforms)

    @router.post("", **describe(reply(session=SESSION), body=body_schema))
    async def create_session(request: Request) -> dict[str, Any]:
        """Create a session, which in the newest generation also starts it."""
        return await service.create(parse(await json_body(request)))

    @router.get("", **describe(reply(sessions=[SESSION])))
    async def list_sessions(status: str = "all") -> dict[str, Any]:
        """List the sessions with status `all`, `started` or `ended`."""
        listed = [store.describe(session) for session in store.newest_first(status)]
        if not store.rules.list_metadata:
            for session in listed:
                del session["metadata"]
        return {"success": True, "sessions": listed}

    @router.get("/{session_id}", **describe(reply(session=SESSION), missing=True))
    async def get_session(session_id: str) -> dict[str, Any]:
        """Return a session."""
        return {"success": True, "session": store.describe(store.get(session_id))}

    @router.post("/{session_id}/end", **describe(reply(session=SESSION), missing=True))
    async def end_session(session_id: str) -> dict[str, Any]:
        """End a session that was started; harmless when repeated."""
        session = store.get(session_id)
        service.end(session, "caller")
        described = store.describe(session)
        fields = _END_MANAGED if managed else _END
        return {"success": True, "session": {name: described[name] for name in fields}}

    @router.put("/{session_id}/end", **describe(reply(session=SESSION, message="string"), missing=True))
    async def end_session_as_before(session_id: str) -> dict[str, Any]:
        """End a session in the older form of the call, whose answer has a message."""
        active = store.get(session_id).active
        message = "Session ended successfully" if active else "Session has already ended"
        return {**await end_session(session_id), "message": message}

    if managed:
        started = reply(ws_uri="string", expiration="string?", message="string")

        @router.post(
            "/{session_id}/start", **describe(started, missing=True), operation_id="start_session_by_post"
        )
        @router.put("/{session_id}/start", **describe(started, missing=True))
        async def start_session(session_id: str, request: Request) -> dict[str, Any]:
            """Start a session; `ws_uri` is `try_again` until its server is up."""
            return service.start(store.get(session_id), base_url(request).replace("http", "ws", 1))

    return router
