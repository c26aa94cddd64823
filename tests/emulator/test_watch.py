"""The page at `/watch`: which session it shows, what it says of the others, and who may call it."""

import re
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import jwt
import pytest

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator._app import create_app
from agenthuman_plugins.emulator._board import Board
from agenthuman_plugins.emulator._store import EndedBy
from agenthuman_plugins.emulator._watch import Watch
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.viewer import ViewerError
from tests.emulator.fakes import KEY, OWN_ROOM, World

OFFER = {"sdp": "v=0", "type": "offer"}
SERVER = RoomServer(
    "ws://127.0.0.1:7880", "url", api_key="API1", api_secret="a-secret-of-thirty-two-characters"
)


class Rooms:
    """The emulator's room server, which runs when a test says so."""

    started: RoomServer | None = SERVER


class FakeViewer:
    """Notes where it was sent and who called."""

    def __init__(self, url: str, token: str, *, avatar_identity: str) -> None:
        self.url, self.token, self.avatar_identity = url, token, avatar_identity
        self.offers: list[Any] = []
        self.farewells: list[str] = []

    async def answer(self, offer: Any) -> dict[str, str]:
        if self.offers:
            raise ViewerError("Too many windows.")
        self.offers.append(offer)
        return {"sdp": "v=0", "type": "answer"}

    async def aclose(self, text: str) -> None:
        self.farewells.append(text)


@pytest.fixture
def rules() -> dict[str, Any]:
    return {"plan": "explorer"}


@pytest.fixture
def rooms() -> Rooms:
    return Rooms()


@pytest.fixture
def viewers(monkeypatch: pytest.MonkeyPatch) -> list[FakeViewer]:
    made: list[FakeViewer] = []

    def make(*args: Any, **options: Any) -> FakeViewer:
        made.append(FakeViewer(*args, **options))
        return made[-1]

    monkeypatch.setattr("agenthuman_plugins.emulator._watch._load_viewer", lambda: make)
    return made


@pytest.fixture
async def watch(world: World, rooms: Rooms, viewers: list[FakeViewer]) -> AsyncIterator[Watch]:
    watch = Watch(world.service, rooms)
    yield watch
    await watch.aclose()


@pytest.fixture
async def browser(world: World, watch: Watch) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the page; it sends no key."""
    transport = httpx.ASGITransport(
        create_app(world.service, [KEY], Board(world.service, watch, lambda: "url"))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


def own_room(server: RoomServer = SERVER, identity: str = "avatar", **changes: Any) -> dict[str, Any]:
    token = server.mint(room="lobby", identity=identity, kind="agent")
    return {"platform": "livekit", "url": server.url, "token": token, **changes}


async def test_the_page_and_all_that_it_needs_come_from_here(browser: httpx.AsyncClient) -> None:
    """Every file that the page names is served, at `/watch` and for one session, and nothing else may be loaded."""
    for path in ("/watch", "/watch/sess_1"):
        page = await browser.get(path)
        assert page.headers["content-security-policy"].startswith("default-src 'self'")
        names = re.findall(r'(?:src|href)="([^"#]+)', page.text)
        assert len(names) > 4
        for name in names:
            assert (await browser.get(name)).status_code == 200, name


async def test_the_page_waits_for_the_first_session(browser: httpx.AsyncClient) -> None:
    """Before there is one it says so."""
    state = (await browser.get("/watch/state")).json()
    assert state == {
        "state": "waiting",
        "text": "No session is running. The next one appears here by itself.",
        "session": None,
    }


async def test_the_newest_running_session_is_shown(browser: httpx.AsyncClient, world: World) -> None:
    """A newer one takes its place; when it ends, the one before is shown again; the last end stays told."""

    async def shown() -> tuple[str, str]:
        state = (await browser.get("/watch/state")).json()
        return state["state"], state["session"]["session_id"]

    first = (await world.create(room=own_room()))["session_id"]
    assert await shown() == ("running", first)
    second = (await world.create(room=own_room()))["session_id"]
    assert await shown() == ("running", second)
    await world.http.post(f"/v1/sessions/{second}/end")
    assert await shown() == ("running", first)
    await world.http.post(f"/v1/sessions/{first}/end")
    assert await shown() == ("ended", second)


@pytest.mark.parametrize("by", get_args(EndedBy))
async def test_why_a_session_ended(by: EndedBy, watch: Watch, world: World) -> None:
    """Each way to end has its sentence; only the page of the newest session goes on."""
    session_id = (await world.create(room=own_room()))["session_id"]
    world.service.end(world.service.store.get(session_id), by)
    state = watch.state(session_id)
    assert state["state"] == "ended"
    assert re.fullmatch(r"Ended: .+\.", state["text"])
    assert watch.state()["text"] == state["text"] + " The next session appears here by itself."


@pytest.mark.parametrize(
    ("room", "text"),
    [
        pytest.param(
            {"platform": "daily", "url": "https://x.daily.co/r", "token": "t"}, "in a Daily room", id="daily"
        ),
        pytest.param(
            OWN_ROOM, "in a room at wss://rooms.example, for which the emulator has no key", id="foreign"
        ),
        pytest.param(
            own_room(RoomServer("ws://127.0.0.1:7880", "url", api_key="API1", api_secret="another" * 5)),
            "for which the emulator has no key",
            id="same-address-other-secret",
        ),
    ],
)
async def test_what_cannot_be_watched_says_why(
    room: dict[str, str], text: str, browser: httpx.AsyncClient, world: World, viewers: list[FakeViewer]
) -> None:
    """One sentence, in the state and as the refusal of an offer; no token is in it."""
    session_id = (await world.create(room=room))["session_id"]
    state = (await browser.get(f"/watch/{session_id}/state")).json()
    assert state["state"] == "unseen"
    assert text in state["text"]
    refusal = await browser.post(f"/watch/{session_id}/offer", json=OFFER)
    assert (refusal.status_code, refusal.json()) == (409, {"error": state["text"]})
    assert room["token"] not in str(state) or len(room["token"]) < 5
    assert viewers == []


async def test_without_media_there_is_no_picture(world: World) -> None:
    """An emulator with `media=False` says so, with a session and without."""
    watch = Watch(world.service, None)
    before = watch.state()
    await world.create(room=own_room())
    for state in (before, watch.state()):
        assert state["state"] == "unseen"
        assert "media=False" in state["text"]


async def test_a_room_server_that_starts_is_awaited(watch: Watch, world: World, rooms: Rooms) -> None:
    """Until it is known whose rooms there are, nothing is refused for good."""
    rooms.started = None
    await world.create(room=own_room())
    assert watch.state()["state"] == "waiting"
    rooms.started = SERVER
    assert watch.state()["state"] == "running"


async def test_an_avatar_that_failed_is_not_awaited(watch: Watch, world: World) -> None:
    """The page says where to look."""
    await world.create(room=own_room())
    world.avatars[0].tell({"event": "avatar_failed", "message": "no room"})
    assert watch.state()["state"] == "unseen"
    assert "has failed" in watch.state()["text"]


async def test_a_session_that_does_not_exist(browser: httpx.AsyncClient) -> None:
    """Its page says so, and its offer is refused."""
    state = (await browser.get("/watch/sess_9/state")).json()
    assert (state["state"], state["text"]) == ("unseen", "There is no session sess_9.")
    assert (await browser.post("/watch/sess_9/offer", json=OFFER)).status_code == 409


async def test_the_viewer_joins_under_an_identity_of_its_own(
    browser: httpx.AsyncClient, watch: Watch, world: World, viewers: list[FakeViewer]
) -> None:
    """Its token is for the avatar's room, hides it, and lets it publish nothing; all browsers share it until the end."""
    session_id = (await world.create(room=own_room(identity="my-avatar")))["session_id"]
    answer = await browser.post(f"/watch/{session_id}/offer", json=OFFER)
    assert (answer.status_code, answer.json()) == (200, {"sdp": "v=0", "type": "answer"})
    refused = await browser.post(f"/watch/{session_id}/offer", json=OFFER)
    assert (refused.status_code, refused.json()) == (409, {"error": "Too many windows."})
    [viewer] = viewers
    assert (viewer.url, viewer.avatar_identity, viewer.offers) == (SERVER.url, "my-avatar", [OFFER])
    claims = claims_of(viewer.token)
    assert claims["sub"].startswith("viewer-")
    assert claims["kind"] == "standard"
    assert claims["video"] == {
        "roomJoin": True,
        "room": "lobby",
        "hidden": True,
        "canPublish": False,
        "canPublishData": False,
        "canUpdateOwnMetadata": False,
    }
    await world.http.post(f"/v1/sessions/{session_id}/end")
    assert (await browser.post(f"/watch/{session_id}/offer", json=OFFER)).status_code == 409
    await watch.aclose()  # waits for the farewell
    assert viewer.farewells == ["Ended: the program ended it."]
    assert len(viewers) == 1


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_a_room_server_knows_its_own_tokens() -> None:
    """Also one that has run out; not another key's, and not what is no token for a room."""
    assert SERVER.admits(SERVER.mint(room="r", identity="a", ttl_s=-60)) == ("r", "a")
    other = RoomServer(SERVER.url, "url", api_key="API1", api_secret="b" * 32)
    assert SERVER.admits(other.mint(room="r", identity="a")) is None
    assert SERVER.admits("no token") is None
    assert SERVER.admits("") is None


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param("/watch/state", {"origin": "https://evil.example"}, 403, id="another-site"),
        pytest.param("/watch/state", {"host": "evil.example"}, 400, id="dns-rebinding"),
        pytest.param("/watch/state", {"host": "localhost:8000"}, 200, id="localhost"),
        pytest.param("/viewer/call.js", {"host": "evil.example"}, 400, id="files-too"),
        pytest.param("/viewer/../../_viewer.py", {}, 404, id="no-file-of-ours"),
        pytest.param("/watch/sess_1/nothing", {}, 404, id="no-route"),
    ],
)
async def test_other_sites_cannot_watch(
    path: str, headers: dict[str, str], status: int, browser: httpx.AsyncClient
) -> None:
    """No key is needed, so only pages from here are answered."""
    assert (await browser.get(path, headers=headers)).status_code == status


async def test_the_page_is_no_part_of_the_service(browser: httpx.AsyncClient, world: World) -> None:
    """It is not in the description of the API, and the API's own rules hold as before."""
    paths = (await browser.get("/openapi.json")).json()["paths"]
    assert [path for path in paths if path.startswith(("/watch", "/viewer"))] == []
    assert (await browser.get("/v1/sessions")).status_code == 401


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
async def test_the_address_of_the_page(host: str, address: str) -> None:
    """It can be opened in a browser, also where the emulator listens everywhere."""
    async with Emulator(media=False, host=host) as emulator:
        port = emulator.url.rpartition(":")[2]
        assert emulator.watch_url == f"http://{address}:{port}/watch"
        async with httpx.AsyncClient(trust_env=False) as client:
            assert "<title>Watch the avatar" in (await client.get(emulator.watch_url)).text
