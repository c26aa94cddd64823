"""A room of one kind: the tests of the room server hold the two alike."""

from collections.abc import AsyncIterator

import pytest_asyncio

from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.speech.proxies import direct_to
from tests.emulator.room_server.conftest import join, room_name

__all__ = ["join", "room_name", "room_server"]


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def room_server(a_room_server: str) -> AsyncIterator[RoomServer]:
    """One server for all tests; each test has a room of its own."""
    async with await RoomServer.start(a_room_server) as server:
        with direct_to(server.url):  # LiveKit's clients run in this process
            yield server
