"""Nothing that the emulator sends to this machine goes through a proxy of the environment."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
from aiohttp import web
from livekit import rtc

from agenthuman_plugins.emulator import _pictures
from agenthuman_plugins.emulator._avatars import WORKER
from agenthuman_plugins.emulator.process import Child, ChildError
from agenthuman_plugins.speech.proxies import direct_to
from tests import proxies as dead

LIMIT_S = 20.0  # hang limit
PROXY = {"avatar": "avat_1", "room": {"platform": "proxy"}}


def use(proxies: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)


@pytest.mark.chain
@dead.every_kind
async def test_avatar_comes_up_behind_dead_proxies(
    proxies: Mapping[str, str], room_server_kind: str, monkeypatch: pytest.MonkeyPatch
):
    """Room server, service and avatar reach each other, and a caller finds the avatar in the room."""
    with monkeypatch.context() as environment:
        use(proxies, environment)
        child = await Child.start("agenthuman_plugins.emulator", {"room_server": room_server_kind})
    http = httpx.AsyncClient(base_url=child.ready["url"], trust_env=False, timeout=LIMIT_S)
    room, here = rtc.Room(), asyncio.Event()
    room.on("track_subscribed", lambda *_: here.set())
    try:
        http.headers["x-api-key"] = child.ready["api_key"]
        session = (await http.post("/v1/sessions", json=PROXY)).json()["session"]
        url, token = session["room"]["roomURL"], session["room"]["participantToken"]
        with direct_to(url):
            await room.connect(url, token)
        async with asyncio.timeout(LIMIT_S):
            await here.wait()
    finally:
        await room.disconnect()
        await http.aclose()
        await child.stop()


@pytest.mark.chain
async def test_refused_token_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch):
    """Not even LiveKit's question why its token was refused goes through a proxy."""
    asked = asyncio.Event()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401, text="invalid token")

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = {"url": f"ws://127.0.0.1:{runner.addresses[0][1]}", "token": "a-token", "avatar": "avat_1"}
    try:
        async with await asyncio.start_server(note, "127.0.0.1", 0) as proxy:
            address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
            use(dict.fromkeys(dead.HTTP, address) | {"NO_PROXY": "", "no_proxy": ""}, monkeypatch)
            with pytest.raises(ChildError, match="invalid token"):
                await Child.start(WORKER, settings, timeout_s=LIMIT_S)
    finally:
        await runner.cleanup()
    assert not asked.is_set()


@pytest.fixture
async def pictures() -> AsyncIterator[str]:
    """A web server on this machine: `/picture` is one, `/moved` leads there, `/away` elsewhere, `/round` nowhere."""
    app = web.Application()

    async def picture(_: web.Request) -> web.Response:
        return web.Response(body=b"picture")

    def moved_to(location: str):
        async def answer(_: web.Request) -> web.Response:
            raise web.HTTPFound(location)

        return answer

    app.router.add_get("/picture", picture)
    for path, location in (
        ("/moved", "/picture"),
        ("/away", "http://192.0.2.1/me.png"),
        ("/round", "/round"),
    ):
        app.router.add_get(path, moved_to(location))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@dead.every_kind
@pytest.mark.parametrize("path", ["/picture", "/moved"])
async def test_picture_of_this_machine_is_fetched_directly(
    path: str, proxies: Mapping[str, str], pictures: str, monkeypatch: pytest.MonkeyPatch
):
    """An image on this machine is fetched without the proxies, also behind a redirection."""
    use(proxies, monkeypatch)
    assert await _pictures.fetch(pictures + path, allow_private=True) == b"picture"


@dead.every_kind
@pytest.mark.parametrize("path", ["/away", "/round"])
async def test_picture_behind_a_proxy_that_does_not_work(
    path: str, proxies: Mapping[str, str], pictures: str, monkeypatch: pytest.MonkeyPatch
):
    """What cannot be fetched is HTTP 400 to the caller, also where httpx cannot read the proxy's address."""
    use(proxies, monkeypatch)
    with pytest.raises(Exception, match="could not be fetched"):
        await _pictures.fetch(pictures + path, allow_private=True)
