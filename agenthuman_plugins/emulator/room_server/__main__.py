"""The room server as a child process: settings `{"api_key", "api_secret", "port"}`, event `ready` with the port."""

import asyncio
import gc
import logging
from typing import Any

from agenthuman_plugins.emulator.process import Emit, Event, run_child
from agenthuman_plugins.emulator.room_server import _aiortc
from agenthuman_plugins.emulator.room_server._signalling import serve

_HOST = "127.0.0.1"  # of the signalling; media goes over the machine's other addresses

_logger = logging.getLogger(__name__)


async def _main(settings: dict[str, Any], emit: Emit, _: "asyncio.Queue[Event]") -> None:
    _aiortc.install()
    asyncio.get_running_loop().set_exception_handler(_log_in_one_line)
    runner = await serve(
        api_key=settings["api_key"], api_secret=settings["api_secret"], host=_HOST, port=settings["port"]
    )
    gc.collect()
    gc.freeze()  # or a collection of all that is loaded holds up every packet for 25 ms
    try:
        emit({"event": "ready", "port": runner.addresses[0][1]})
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _log_in_one_line(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an unhandled failure; odd offers make aiortc fail in tasks of its own."""
    _logger.warning("%s (%s)", context["message"], type(context.get("exception")).__name__)


if __name__ == "__main__":
    run_child(_main)
