"""A program that opens sessions and is killed somewhere on its way: `python -m tests.client.a_victim KIND`.

Its one line of input is JSON: where the service is, and how many sessions to open. It says `creating` before each
create and `open ID` after it, then waits for its end.
"""

import asyncio
import json
import sys
import threading

from agenthuman_plugins import AgentHuman, AsyncAgentHuman, LiveKitRoom

ROOM = LiveKitRoom("wss://rooms.example.com", "seeded-room-token")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def blocking(sessions: int, **options: str) -> None:
    client = AgentHuman(**options)
    for _ in range(sessions):
        say("creating")
        say(f"open {client.sessions.create(room=ROOM).session_id}")
    threading.Event().wait()


async def on_a_loop(sessions: int, **options: str) -> None:
    client = AsyncAgentHuman(**options)
    for _ in range(sessions):
        say("creating")
        session = await client.sessions.create(room=ROOM)
        say(f"open {session.session_id}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    settings = json.loads(sys.stdin.readline())
    if sys.argv[1] == "sync":
        blocking(**settings)
    else:
        asyncio.run(on_a_loop(**settings))
