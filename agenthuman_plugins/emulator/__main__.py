"""Runs the emulator as a child process; its settings are the arguments of `Emulator`."""

import asyncio
from typing import Any

from agenthuman_plugins.emulator.process import Emit, Event, run_child


async def _main(settings: dict[str, Any], emit: Emit, _: "asyncio.Queue[Event]") -> None:
    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - a missing extra is told to the parent

    async with Emulator(**settings) as emulator:
        ready = {"event": "ready", "room_server": await emulator.wait_ready()}
        addresses = {"url": emulator.url, "room_server_url": emulator.room_server_url}
        emit({**ready, **addresses, "api_key": emulator.api_key})
        await asyncio.Event().wait()


if __name__ == "__main__":
    run_child(_main)
