"""An avatar process without a room: it tells what it was told; see test_avatars.py."""

import asyncio
from typing import Any

from agenthuman_plugins.emulator.process import Emit, Event, run_child


async def _main(settings: dict[str, Any], emit: Emit, messages: "asyncio.Queue[Event]") -> None:
    emit({"event": "ready", "settings": settings})
    while (message := await messages.get())["command"] == "note":
        emit({"event": "noted", "number": message["number"]})
    if settings["avatar"] == "avat_deaf":
        await asyncio.Event().wait()
    emit({"event": "left", "reason": message["reason"]})


if __name__ == "__main__":
    run_child(_main)
