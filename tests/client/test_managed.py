"""The older, Daily-managed generation, from create to the spoken word to the bill, on the emulator."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.speech import PlaybackFinished, speech_link

LIMIT_S = 30.0  # hang limit only
HALF_A_SECOND = b"\x10\x20" * 8_000


class Account:
    """One of the two clients; a sync call is made on a thread, since the emulator lives on this loop."""

    def __init__(self, kind: str, emulator: Emulator) -> None:
        self.client: Any = {"sync": AgentHuman, "async": AsyncAgentHuman}[kind](
            api_key=emulator.api_key, base_url=emulator.url
        )

    async def __call__(self, use: Callable[[Any], Any]) -> Any:
        result = await asyncio.to_thread(use, self.client)
        return await result if inspect.isawaitable(result) else result


async def speak(session: Any) -> PlaybackFinished:
    """Say half a second through the session's gateway."""
    link = speech_link(session)
    await link.connect(timeout_s=10)
    try:
        await link.send(HALF_A_SECOND)
        await link.end_utterance()
        assert await link.wait_playback(timeout_s=10)
        async for event in link.events():
            if isinstance(event, PlaybackFinished):
                return event
    finally:
        await link.aclose()
    raise AssertionError("nothing was played")


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_from_create_to_the_bill(kind: str) -> None:
    """A session is created by the documented refusal, started, spoken through, ended, and billed."""
    async with asyncio.timeout(LIMIT_S), Emulator(generation="managed", media=False, boot_s=0.1) as emulator:
        account = Account(kind, emulator)
        created = await account(lambda client: client.sessions.create(metadata={"order": "7"}))
        assert (created.status, created.started_at, created.usage.concurrency.current) == ("created", None, 0)
        assert created.metadata["order"] == "7"

        started = await account(lambda client: client.sessions.start(created))
        assert started.status == "started"
        assert started.session_token == created.session_token
        assert started.ws_uri.startswith("ws://127.0.0.1:")
        assert started.daily_room.url
        assert started.daily_room.token is not None

        finished = await speak(started)
        assert finished.position_s == pytest.approx(0.5)

        ended = await account(lambda client: client.sessions.end(created.session_id))
        assert ended.has_ended
        usage = await account(lambda client: client.usage.get())
        assert usage.included_minutes.used == 1
        await account(lambda client: client.close() if kind == "sync" else client.aclose())


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_block_around_a_session_that_was_never_started(kind: str) -> None:
    """`open` gives the created session; left without a start there is nothing to end, and nothing was billed."""

    def sync_block(client: Any) -> str:
        with client.sessions.open() as session:
            return str(session.status)

    async def async_block(client: Any) -> str:
        async with client.sessions.open() as session:
            return str(session.status)

    async with asyncio.timeout(LIMIT_S), Emulator(generation="managed", media=False) as emulator:
        account = Account(kind, emulator)
        assert await account(sync_block if kind == "sync" else async_block) == "created"
        usage = await account(lambda client: client.usage.get())
        assert usage.included_minutes.used == 0
        await account(lambda client: client.close() if kind == "sync" else client.aclose())


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_block_around_a_started_session_ends_it(kind: str) -> None:
    """What was started inside of the block is ended with it."""

    def sync_block(client: Any) -> None:
        with client.sessions.open() as session:
            client.sessions.start(session)

    async def async_block(client: Any) -> None:
        async with client.sessions.open() as session:
            await client.sessions.start(session)

    async with asyncio.timeout(LIMIT_S), Emulator(generation="managed", media=False) as emulator:
        account = Account(kind, emulator)
        await account(sync_block if kind == "sync" else async_block)
        assert [session["ended_by"] for session in emulator.sessions()] == ["caller"]
        await account(lambda client: client.close() if kind == "sync" else client.aclose())
