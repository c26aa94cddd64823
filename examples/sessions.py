"""Open a session, look at it, end it, and see what it cost.

    python examples/sessions.py                         on a local emulator; needs no key
    AGENTHUMAN_API_KEY=... python examples/sessions.py  on the real service, which bills a minute

The calls are the same in the sync client, `AgentHuman`, without `await`.
"""

import asyncio
import os
import sys

from agenthuman_plugins import AgentHumanError, AsyncAgentHuman


async def tour(client: AsyncAgentHuman) -> None:
    # The session ends with the block, whatever happens in it: errors, Ctrl-C, and here SIGTERM, too.
    async with client.sessions.open(metadata={"user": "Ada"}, handle_signals=True) as session:
        print(f"Opened {session.session_id}; it would end by itself at {session.expiration:%H:%M} UTC.")
        if session.room is not None:
            print(f"The service made a room for it at {session.room.url}.")
        if session.usage is not None and session.usage.concurrency is not None:
            print(f"Sessions that could still be opened: {session.usage.concurrency.available}.")

        running = await client.sessions.list("started")
        print(f"Running now: {', '.join(each.session_id for each in running)}.")

    ended = await client.sessions.get(session.session_id)
    print(f"It is {ended.status} after {ended.duration or 0:.0f} s.")
    if ended.billing is not None:
        print(f"Minutes consumed: {ended.billing.minutes_consumed:.0f}.")

    try:
        await client.sessions.get("sess_of_somebody_else")
    except AgentHumanError as error:
        print(f"And this is what an error looks like: {error}")


async def main() -> None:
    if os.environ.get("AGENTHUMAN_API_KEY"):
        async with AsyncAgentHuman() as client:
            await tour(client)
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    async with (
        Emulator() as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        await tour(client)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except AgentHumanError as error:  # its text says what to do
        sys.exit(f"sessions.py: {error}")
