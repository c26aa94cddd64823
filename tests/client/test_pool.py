"""One client, one pool of connections."""

import asyncio

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator

LIMIT_S = 60.0  # hang limit only


async def test_hundred_concurrent_calls_hold_one_pool() -> None:
    """A client has one pool of connections, made once, however many calls share it."""
    async with (
        asyncio.timeout(LIMIT_S),
        Emulator(media=False) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        answers = await asyncio.gather(*(client.sessions.list() for _ in range(100)))
        assert answers == [[]] * 100
        (http,) = client._driver._pools._pools.values()
        pool = http._transport._pool  # type: ignore[attr-defined]
        before = set(map(id, pool.connections))
        assert 0 < len(before) <= 100
        await asyncio.gather(*(client.sessions.list() for _ in range(len(before))))
        assert set(map(id, pool.connections)) <= before  # used again, not opened anew
