"""`/v1/openclaw`."""

from typing import Any

from fastapi import APIRouter, Request

from agenthuman_plugins.emulator._routes._replies import json_body
from agenthuman_plugins.emulator._schemas import OPENCLAW_BODY, describe, reply
from agenthuman_plugins.emulator._service import Service


def openclaw(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/openclaw", tags=["openclaw"])
    started = reply(room={"name": "string", "url": "string", "token": "string"})

    @router.post("/initiate", **describe(started, body=OPENCLAW_BODY))
    async def initiate(request: Request) -> dict[str, Any]:
        """Make a room with the service's own agent, of which only the avatar is played."""
        return await service.start_openclaw(await json_body(request))

    return router
