"""A client that does not read costs nobody memory, and nobody else waits for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from livekit.protocol import rtc

from agenthuman_plugins.emulator.room_server._peer import LOSSY, RELIABLE, Peer
from agenthuman_plugins.emulator.room_server._signalling import _Outbox


class FakeChannel:
    """A data channel with so much waiting to be sent."""

    readyState = "open"  # noqa: N815 - aiortc's name

    def __init__(self, label: str, waiting: int) -> None:
        self.label = label
        self.bufferedAmount = waiting
        self.sent: list[bytes] = []

    def on(self, event: str, listener: Any) -> None: ...

    def send(self, message: bytes) -> None:
        self.sent.append(message)


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[tuple[Peer, list[str]]]:
    happened: list[str] = []
    peer = Peer(
        on_connected=lambda: happened.append("connected"),
        on_lost=lambda: happened.append("lost"),
        on_data=lambda *_: happened.append("data"),
    )
    yield peer, happened
    await peer.aclose()


async def test_connected_means_that_both_channels_are_there(peer: tuple[Peer, list[str]]) -> None:
    """A client is not called active before it can be sent to."""
    client, happened = peer
    client._on_channel(FakeChannel(RELIABLE, 0))
    assert happened == []
    client._on_channel(FakeChannel(LOSSY, 0))
    assert happened == ["connected"]


async def test_reliable_backlog_disconnects_the_client(peer: tuple[Peer, list[str]]) -> None:
    """Reliable data must not be dropped, so a client that does not take it has to go, once."""
    client, happened = peer
    channel = FakeChannel(RELIABLE, 17 * 2**20)
    client._on_channel(channel)
    client.send(RELIABLE, b"more")
    client.send(RELIABLE, b"more")
    assert (channel.sent, happened) == ([], ["lost"])


async def test_lossy_backlog_drops_the_message(peer: tuple[Peer, list[str]]) -> None:
    """Lossy data is dropped for a slow client, which stays."""
    client, happened = peer
    channel = FakeChannel(LOSSY, 65 * 2**10)
    client._on_channel(channel)
    client.send(LOSSY, b"more")
    assert (channel.sent, happened) == ([], [])
    channel.bufferedAmount = 0
    client.send(LOSSY, b"later")
    assert channel.sent == [b"later"]


class StuckSocket:
    """A WebSocket whose client reads nothing."""

    def __init__(self) -> None:
        self.closed = False

    async def send_bytes(self, message: bytes) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


async def test_signalling_backlog_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages to a client that does not read pile up to a limit; then its connection is closed."""
    monkeypatch.setattr("agenthuman_plugins.emulator.room_server._signalling._CLOSE_TIMEOUT_S", 0.01)
    socket = StuckSocket()
    outbox = _Outbox(socket)
    for _ in range(3_000):
        outbox.put(rtc.SignalResponse(pong=1))
    assert outbox._messages.qsize() <= 1_000
    await outbox.aclose()
    assert socket.closed
