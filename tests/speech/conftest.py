"""Rooms and avatars for the tests of the LiveKit link, a gateway for those of the other one."""

import itertools
import shutil
from dataclasses import dataclass

import pytest
import pytest_asyncio

from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.speech import AVATAR_IDENTITY, GatewaySpeechLink, _own_clock
from tests.speech.scripted_gateway import LIMIT_S, ScriptedGateway

BOT = "bot"
TOKEN = "session-token-4711"
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_room_server(a_room_server):
    """One kind of room server."""
    async with await RoomServer.start(a_room_server) as server:
        yield server


@pytest.fixture
def a_room(one_room_server):
    """A room of its own for each test, on one kind of room server: what is said there, the link's tests say of both."""
    return TestRoom(one_room_server, f"speech-{next(_names)}")


@pytest.fixture
async def scripted():
    async with ScriptedGateway().running() as server:
        yield server


@pytest.fixture
async def link(scripted):
    """A link that is connected to the scripted gateway."""
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    await link.connect(timeout_s=LIMIT_S)
    try:
        yield link
    finally:
        await link.aclose()


@pytest.fixture
def quick(monkeypatch):
    """An own clock with short delays."""
    monkeypatch.setattr(_own_clock, "RENDER_DELAY_S", 0.01)
    monkeypatch.setattr(_own_clock, "CONFIRM_TIMEOUT_S", 0.2)
    monkeypatch.setattr(_own_clock, "CLEAR_TIMEOUT_S", 0.1)


@pytest.fixture(autouse=True)
def _no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rooms that the tests themselves join are on this machine, and LiveKit alone knows no exception for that.

    That our links leave proxies aside is tested in `test_livekit_addresses` and `test_gateway_addresses`.
    """
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
