"""`/emulator`: what the emulator saw, its clock, and what shall go wrong. Not part of the service."""

from typing import Any

from fastapi import APIRouter, Request

from agenthuman_plugins.emulator._board import Board
from agenthuman_plugins.emulator._errors import EmulatorError, bad_request
from agenthuman_plugins.emulator._faults import Fault
from agenthuman_plugins.emulator._routes._replies import base_url, json_body
from agenthuman_plugins.emulator._schemas import CLOCK, CLOCK_BODY, EXPORT, FAULT, describe, reply
from agenthuman_plugins.emulator._service import Service


def control(board: Board) -> APIRouter:
    """Return the routes."""
    service = board.service
    router = APIRouter(prefix="/emulator", tags=["emulator"])

    @router.get("/sessions", **describe({"sessions": [{"session_id": "string"}]}))
    async def observe_sessions() -> dict[str, Any]:
        """Tell who ended each session, how its avatar fares, and what happened when."""
        return {"sessions": [service.store.record(session) for session in service.store.newest_first()]}

    @router.get("/clock", **describe(reply(clock=CLOCK)))
    async def read_clock() -> dict[str, Any]:
        """Return the time, and whether it stands still."""
        return {"success": True, "clock": board.clock()}

    @router.post("/clock", **describe(reply(clock=CLOCK), body=CLOCK_BODY))
    async def set_clock(request: Request) -> dict[str, Any]:
        """Pause the clock, let it go on, or move it forward; sessions that are due have ended when this answers."""
        try:
            _set_clock(service, await json_body(request))
        except EmulatorError as error:
            raise bad_request(str(error).rstrip(".")) from None  # a suggestion may follow
        return {"success": True, "clock": board.clock()}

    @router.post("/reset", **describe(reply()))
    async def reset() -> dict[str, Any]:
        """Forget everything, as if the emulator had just been started."""
        service.reset()
        return {"success": True}

    @router.get("/export", **describe(EXPORT))
    async def export(request: Request) -> dict[str, Any]:
        """Return the whole state, with the timeline of each session and without secrets."""
        return board.export(base_url(request))

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


def _set_clock(service: Service, body: Any) -> None:
    clock = service.store.clock
    match body:
        case {"paused": bool(paused), **rest} if not rest:
            clock.pause() if paused else clock.resume()
        case {"advance_s": int() | float() as seconds, **rest} if not rest and type(seconds) is not bool:
            clock.advance(seconds=seconds)
        case {"advance_to": "next_expiry", **rest} if not rest:
            service.advance_to_expiry()
        case _:
            raise bad_request(
                "This does not set the clock", "Send one of paused, advance_s and advance_to (next_expiry)"
            )
