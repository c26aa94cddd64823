"""Rooms and avatars for the tests of the LiveKit link."""

import itertools
import shutil
from dataclasses import dataclass

import pytest
import pytest_asyncio

from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.speech import AVATAR_IDENTITY

BOT = "bot"
_names = itertools.count(1)


@dataclass(frozen=True)
class TestRoom:
    """A room of its own for one test."""

    __test__ = False

    server: RoomServer
    name: str

    @property
    def url(self) -> str:
        return self.server.url

    def bot_token(self, **options) -> str:
        return self.server.mint(room=self.name, identity=BOT, kind="agent", **options)

    def avatar_token(self) -> str:
        attributes = {"lk.publish_on_behalf": BOT}
        return self.server.mint(room=self.name, identity=AVATAR_IDENTITY, kind="agent", attributes=attributes)

    def guest_token(self, identity: str = "guest", **options) -> str:
        return self.server.mint(room=self.name, identity=identity, **options)


@pytest_asyncio.fixture(params=["embedded", "livekit-server"], scope="module", loop_scope="module")
async def room_server(request):
    """Each kind of room server that there is, one for all tests of a module."""
    if request.param == "livekit-server" and shutil.which("livekit-server") is None:
        pytest.skip("no livekit-server on PATH; `make livekit-server` installs one")
    async with await RoomServer.start(request.param) as server:
        yield server


@pytest.fixture
def room(room_server):
    """A room of its own for each test."""
    return TestRoom(room_server, f"speech-{next(_names)}")
