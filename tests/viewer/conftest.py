"""What the viewer's tests share: browsers' offers, and a room that does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

import numpy as np
import pytest
from aiortc import RTCPeerConnection

from agenthuman_plugins.viewer import Viewer, _viewer
from agenthuman_plugins.viewer._tracks import VOICE_FRAME_SAMPLES, Picture, Sound


class FakeRoom:
    """A room that nobody has to serve; it is lost when a test says so."""

    rooms: ClassVar[list["FakeRoom"]] = []

    def __init__(
        self,
        url: str,
        token: str,
        avatar_identity: str,
        *,
        on_picture: Callable[[Picture], None],
        on_sound: Callable[[Sound], None],
        on_here: Callable[[bool], None],
    ) -> None:
        self.joined = (url, token, avatar_identity)
        self.here = on_here
        self.show = on_picture
        self._sound = on_sound
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.left = asyncio.Event()
        FakeRoom.rooms.append(self)

    async def stay(self) -> str:
        try:
            return await self.lost
        finally:
            self.left.set()

    def hear(self, at_s: float, *, loud: bool) -> None:
        pcm = np.full(VOICE_FRAME_SAMPLES, 3_000 if loud else 0, np.int16).tobytes()
        self._sound(Sound(pcm, at_s))


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> list[FakeRoom]:
    """The rooms that were joined."""
    FakeRoom.rooms = []
    monkeypatch.setattr(_viewer, "WatchedRoom", FakeRoom)
    return FakeRoom.rooms


@asynccontextmanager
async def offering(
    *, audio: str = "recvonly", video: str = "recvonly"
) -> AsyncIterator[tuple[RTCPeerConnection, dict[str, str]]]:
    """A browser's peer connection, and its offer."""
    peer = RTCPeerConnection()
    peer.createDataChannel("messages")
    peer.addTransceiver("audio", direction=audio)
    peer.addTransceiver("video", direction=video)
    await peer.setLocalDescription(await peer.createOffer())
    try:
        yield peer, {"sdp": peer.localDescription.sdp, "type": peer.localDescription.type}
    finally:
        await peer.close()


@pytest.fixture
async def offer() -> AsyncIterator[dict[str, str]]:
    """What a page offers."""
    async with offering() as (_, made):
        yield made


@pytest.fixture
async def viewer(rooms: list[FakeRoom]) -> AsyncIterator[Viewer]:
    """A viewer of a fake room."""
    async with Viewer("ws://rooms.test", "a-token", max_browsers=2) as made:
        yield made
