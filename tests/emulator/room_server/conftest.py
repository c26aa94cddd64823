"""Room servers and clients. Every test that takes `room_server` runs on each kind of server."""

import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio
from livekit import rtc

from agenthuman_plugins.emulator.rooms import RoomServer, media_interface
from agenthuman_plugins.speech.proxies import direct_to
from tests.emulator.room_server.clients import Client

Join = Callable[..., Awaitable[Client]]


def need_livekit_server() -> None:
    """Skip the test when there is no real server."""
    if shutil.which("livekit-server") is None:
        pytest.skip("no livekit-server on PATH or in .tools/bin (make livekit-server)")


@pytest_asyncio.fixture(scope="package", loop_scope="package", params=["embedded", "livekit-server"])
async def room_server(request: pytest.FixtureRequest) -> AsyncIterator[RoomServer]:
    """One server of each kind for all tests; each test has a room of its own."""
    if media_interface() is None:
        pytest.skip("no network interface besides loopback, which LiveKit clients do not use")
    if request.param == "livekit-server":
        need_livekit_server()
    async with await RoomServer.start(request.param) as server:
        with direct_to(server.url):  # LiveKit's clients run in this process
            yield server
        assert server.running, "the room server ended during the tests"


@pytest.fixture
def room_name() -> str:
    return f"room-{secrets.token_hex(4)}"


@pytest_asyncio.fixture(loop_scope="package")
async def join(room_server: RoomServer, room_name: str) -> AsyncIterator[Join]:
    """Makes clients in the room of the test; they leave at the end."""
    clients: list[Client] = []

    async def join(
        identity: str,
        *,
        auto_subscribe: bool = True,
        single_peer_connection: bool | None = None,
        grants: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> Client:
        client = Client()
        clients.append(client)
        options = rtc.RoomOptions(
            auto_subscribe=auto_subscribe, single_peer_connection=single_peer_connection
        )
        token = room_server.mint(room=room_name, identity=identity, grants=grants, **claims)
        await client.room.connect(room_server.url, token, options)
        return client

    yield join
    for client in reversed(clients):
        await client.aclose()
