"""A child process that does what its settings say; see test_process.py."""

import asyncio
import os
import sys
import time
from typing import Any

from agenthuman_plugins.emulator.process import Emit, Event, run_child

print("noise at import time")  # noqa: T201 - as some libraries do


async def _main(settings: dict[str, Any], emit: Emit, messages: "asyncio.Queue[Event]") -> None:
    match settings["do"]:
        case "refuse":
            raise RuntimeError(f"cannot open wss://rooms.example?token={settings['token']}")
        case "dawdle":
            await asyncio.Event().wait()
        case "die":
            os._exit(7)
        case "hurry":
            emit({"event": "before ready"})
    print("noise from Python")  # noqa: T201
    os.write(1, b"noise from a native library\n")
    emit({"event": "ready", "path": sys.path})
    await {"finish": _finish, "block": _block, "cling": _cling, "echo": _echo, "hurry": _finish}[
        settings["do"]
    ](emit, messages)


async def _finish(emit: Emit, _: "asyncio.Queue[Event]") -> None:
    emit({"event": "last words"})


async def _block(emit: Emit, messages: "asyncio.Queue[Event]") -> None:
    """Hold the event loop for ever, as a careless library would."""
    await messages.get()
    emit({"event": "blocking"})
    time.sleep(3600)  # noqa: ASYNC251


async def _cling(emit: Emit, _: "asyncio.Queue[Event]") -> None:
    """Do not want to be cancelled."""
    emit({"event": "clinging"})
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            emit({"event": "cancelled"})


async def _echo(emit: Emit, messages: "asyncio.Queue[Event]") -> None:
    while True:
        emit({"event": "echo", "message": await messages.get()})


if __name__ == "__main__":
    run_child(_main)
