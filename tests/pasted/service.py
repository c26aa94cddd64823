"""The account of a reader: an emulator with a LiveKit server, in a process that ends with its standard input.

It prints the variables that a page's `export` sets, as one line of JSON.
"""

import asyncio
import json
import os
import sys

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import RoomServer


async def _main() -> None:
    async with await RoomServer.start("embedded") as server:
        livekit = dict(
            zip(
                ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"),
                (server.url, *server.keys),
                strict=True,
            )
        )
        os.environ.update(livekit)  # the account and its reader use the same rooms
        async with Emulator(plan="explorer", sweep=False) as emulator:
            account = {
                "AGENTHUMAN_API_KEY": emulator.api_key,
                "AGENTHUMAN_BASE_URL": emulator.url,
                "AGENTHUMAN_GATEWAY_URL": emulator.gateway_url,
            }
            print(json.dumps(account | livekit), flush=True)  # noqa: T201
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
