"""A session of the service's older generation: created, started when its server has booted, spoken through, ended.

python examples/older_generation.py                         on a local emulator; needs no key
AGENTHUMAN_API_KEY=... python examples/older_generation.py  on the real service, which bills a minute
"""

import asyncio
import math
import os
import sys
from array import array

from agenthuman_plugins import AgentHumanError, AsyncAgentHuman
from agenthuman_plugins.speech import speech_link

RATE = 16_000  # Hz; 16 bit, mono
TONE = array("h", (int(8_000 * math.sin(2 * math.pi * 220 * n / RATE)) for n in range(RATE))).tobytes()


async def speak_once(client: AsyncAgentHuman) -> None:
    # --8<-- [start:session]
    async with client.sessions.open() as opened:
        print(f"Opened {opened.session_id}: {opened.status}.")
        # The older generation waits to be started, and bills nothing before.
        session = await client.sessions.start(opened) if opened.status == "created" else opened
        print(f"Now it is {session.status}.")
        if session.daily_room is not None:
            print(f"Viewers go to {session.daily_room.url}.")

        link = speech_link(session)
        try:
            await link.connect(timeout_s=20)
            await link.send(TONE)
            await link.end_utterance()
            await link.wait_playback(timeout_s=60)
        finally:
            await link.aclose()
    # --8<-- [end:session]

    ended = await client.sessions.get(session.session_id)
    print(f"It is {ended.status} after {ended.duration or 0:.0f} s.")


async def main() -> None:
    if os.environ.get("AGENTHUMAN_API_KEY"):
        async with AsyncAgentHuman() as client:
            await speak_once(client)
        return

    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only needed without a key

    async with (
        Emulator(generation="managed", boot_s=1) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        await speak_once(client)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except AgentHumanError as error:  # its text says what to do
        sys.exit(f"older_generation.py: {error}")
