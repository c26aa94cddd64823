"""Who may call the emulator: programs, its own pages, and everybody who has the key."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
import websockets

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator._app import create_app
from agenthuman_plugins.emulator._board import Board
from agenthuman_plugins.emulator._faults import Fault
from agenthuman_plugins.emulator._watch import Watch
from agenthuman_plugins.testing import RunningEmulator
from tests.emulator.fakes import KEY, PROXY, World

KEYLESS = ["/openapi.json", "/emulator/pictures/avat_1/preview", "/watch", "/watch/state", "/viewer/call.js"]
LINK = "/v1/links/start-session"


@pytest.fixture
async def caller(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key, at an emulator that may be called `emulator`."""
    app = create_app(
        world.service,
        [KEY],
        Board(world.service, Watch(world.service, None), lambda: "none"),
        allow_hosts=["Emulator"],
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000"
    ) as client:
        yield client


@pytest.mark.parametrize("path", KEYLESS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="program"),
        pytest.param({"origin": "http://127.0.0.1:8000"}, 200, id="own-page"),
        pytest.param({"host": "localhost:8000"}, 200, id="localhost"),
        pytest.param({"host": "192.168.1.5:8000"}, 200, id="address-of-this-machine"),
        pytest.param({"host": "emulator:8000"}, 200, id="compose-name"),
        pytest.param(
            {"host": "emulator:8000", "origin": "http://emulator:8000"}, 200, id="page-at-that-name"
        ),
        pytest.param({"host": "emulator.evil.example"}, 400, id="name-that-begins-alike"),
        pytest.param({"host": "evil.example:8000"}, 400, id="dns-rebinding"),
        pytest.param({"host": "evil.example", "x-api-key": "ah_test_guess"}, 400, id="with-a-wrong-key"),
        pytest.param({"origin": "http://127.0.0.1:3000"}, 403, id="page-on-another-port"),
        pytest.param({"origin": "https://evil.example"}, 403, id="another-site"),
        pytest.param({"host": "evil.example", "x-api-key": KEY}, 200, id="with-the-key"),
        pytest.param({"origin": "http://127.0.0.1:3000", "x-api-key": KEY}, 200, id="page-with-the-key"),
    ],
)
async def test_without_the_key_only_own_pages_and_programs_are_answered(
    path: str, headers: dict[str, str], status: int, caller: httpx.AsyncClient
):
    """What needs no key checks Host and Origin; the key opens it to every name and page."""
    assert (await caller.get(path, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 404, id="program"),
        pytest.param({"origin": "https://evil.example"}, 403, id="another-site"),
        pytest.param({"host": "evil.example", "origin": "http://evil.example"}, 400, id="dns-rebinding"),
    ],
)
async def test_a_link_cannot_be_started_from_another_site(
    headers: dict[str, str], status: int, caller: httpx.AsyncClient
):
    """The one call of the service without a key costs minutes, so it is checked like a page."""
    reply = await caller.post(LINK, json={"link_id": "lnk_1"}, headers=headers)
    assert reply.status_code == status


async def test_every_route_refuses_another_site(caller: httpx.AsyncClient, world: World):
    """No route is left out, whether it needs a key or not."""
    paths = (await caller.get("/openapi.json")).json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
                reply = await caller.request(method, path, headers=headers)
                assert reply.status_code in (400, 403), (method, path)
    assert world.service.store.newest_first() == []


async def test_machine_is_reached_by_its_own_addresses():
    """With `host="0.0.0.0"` each address works, and names that are allowed."""
    async with Emulator(media=False, host="0.0.0.0", allow_hosts=["emulator"]) as emulator:
        port = emulator.url.rpartition(":")[2]
        async with httpx.AsyncClient(trust_env=False) as http:
            for name, status in (("192.168.7.7", 200), ("[::1]", 200), ("emulator", 200), ("other", 400)):
                url = f"http://127.0.0.1:{port}/watch/state"
                reply = await http.get(url, headers={"host": f"{name}:{port}"})
                assert reply.status_code == status, name


@pytest.mark.agenthuman(allow_hosts=["emulator"])
def test_fixture_can_be_given_names(agenthuman_emulator: RunningEmulator):
    """The marker takes them as it takes every argument of `Emulator`."""
    url = f"{agenthuman_emulator.url}/openapi.json"
    for name, status in (("emulator", 200), ("evil.example", 400)):
        assert httpx.get(url, headers={"host": name}, trust_env=False).status_code == status


async def test_gateway_is_open_to_every_origin():
    """Users' own pages speak through it; the token in the first message lets them in."""
    async with Emulator(media=False) as emulator:
        headers = {"x-api-key": emulator.api_key}
        async with httpx.AsyncClient(base_url=emulator.url, headers=headers, trust_env=False) as http:
            session = (await http.post("/v1/sessions", json=PROXY)).json()["session"]
        first = {"type": "session.init", **{name: session[name] for name in ("session_id", "session_token")}}
        async with websockets.connect(
            emulator.gateway_url, origin="https://my-app.example", proxy=None
        ) as socket:
            await socket.send(json.dumps(first))
            assert json.loads(await socket.recv())["type"] == "connection.established"


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
async def test_another_site_uses_up_no_fault(
    headers: dict[str, str], caller: httpx.AsyncClient, world: World
):
    """A fault waits for a request that is let in."""
    world.service.inject(Fault("status"))
    assert (await caller.get("/v1/sessions", headers=headers)).status_code in (400, 403)
    assert (await caller.get("/v1/sessions", headers={"x-api-key": KEY})).status_code == 503
