"""Limits for some calls, endpoints that the client has no method for, and the ids that the service's support asks for.

python examples/client_options.py                         on a local emulator; needs no key
AGENTHUMAN_API_KEY=... python examples/client_options.py  on the real service; opens no session
"""

import asyncio
import os
import sys

from agenthuman_plugins import AgentHumanError, AsyncAgentHuman


async def tour(client: AsyncAgentHuman) -> None:
    # --8<-- [start:options]
    # Other limits over the same connections, for some calls.
    patient = client.with_options(timeout=120, max_retries=4)
    avatars = await patient.avatars.list()
    print(f"Avatars: {len(avatars.all)}.")

    # Every answer has the headers that it came with, and the service's id of the request.
    usage = await client.usage.get(extra_headers={"x-correlation-id": "order-42"})
    print(f"Answered at {usage.headers['date']}, request {usage.request_id}.")

    # Any other endpoint: its JSON comes back as it is.
    answer = await client.request("GET", "/v1/sessions", params={"status": "started"})
    print(f"Sessions that run: {len(answer['sessions'])}.")
    # --8<-- [end:options]


async def main() -> None:
    if os.environ.get("AGENTHUMAN_API_KEY"):
        async with AsyncAgentHuman() as client:
            await tour(client)
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    async with (
        Emulator(media=False) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        await tour(client)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except AgentHumanError as error:  # its text says what to do
        sys.exit(f"client_options.py: {error}")
