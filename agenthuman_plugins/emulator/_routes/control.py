"""`/emulator`: what the emulator saw, and what shall go wrong. Not part of the service."""

from typing import Any

from fastapi import APIRouter, Request

from agenthuman_plugins.emulator._faults import Fault
from agenthuman_plugins.emulator._routes._replies import json_body
from agenthuman_plugins.emulator._schemas import FAULT, describe, reply
from agenthuman_plugins.emulator._service import Service


def control(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/emulator", tags=["emulator"])

    @router.get("/sessions", **describe({"sessions": [{"session_id": "string"}]}))
    async def observe_sessions() -> dict[str, Any]:
        """Tell who ended each session, how its avatar fares, and what happened when."""
        return {"sessions": [service.store.record(session) for session in service.store.newest_first()]}

    @router.post("/faults", **describe(reply(faults=[FAULT]), body=FAULT, missing=True))
    async def inject_fault(request: Request) -> dict[str, Any]:
        """Let something go wrong; the answer tells what waits for its time."""
        service.inject(Fault.parse(await json_body(request)))
        return {"success": True, "faults": service.faults.describe()}

    @router.get("/faults", **describe(reply(faults=[FAULT])))
    async def list_faults() -> dict[str, Any]:
        """List what waits for its time."""
        return {"success": True, "faults": service.faults.describe()}

    @router.delete("/faults", **describe(reply()))
    async def clear_faults() -> dict[str, Any]:
        """Let nothing go wrong any more."""
        service.faults.clear()
        return {"success": True}

    return router
