"""The bodies of avatars, agents, links, usage and of the older generation against the documented ones."""

from typing import Any

import pytest

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from tests.emulator.conftest import FakeClock
from tests.emulator.fakes import World
from tests.emulator.pictures import portrait
from tests.emulator.test_contract import documented, shape

VOICE_AGENT = {"provider": "ElevenLabs", "agent_id": "el_1", "auth_method": "public"}
AGENT = {"name": "Support", "avatar_image_url": "https://a.example/b.jpg", "voice_agent": VOICE_AGENT}


@pytest.fixture
def rules() -> dict[str, Any]:
    return {"plan": "pro"}


async def answer(world: World, method: str, path: str, **body: Any) -> Any:
    reply = await world.http.request(method, path, json=body or None)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def uploaded(world: World) -> dict[str, Any]:
    reply = await world.http.post(
        "/v1/avatars/upload-face", files={"file": ("a.png", portrait(), "image/png")}
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


async def linked(world: World, **changes: Any) -> dict[str, Any]:
    agent = (await answer(world, "POST", "/v1/agents", **AGENT))["agent"]
    return (await answer(world, "POST", "/v1/links", agent_id=agent["agent_id"], **changes))["link"]


async def test_avatars(world: World):
    """Upload, list, preview and delete answer as documented."""
    avatar = await uploaded(world)
    assert shape(avatar) == shape(documented("avatar-uploaded"))
    listed = await answer(world, "GET", "/v1/avatars")
    example = documented("avatar-list-own-room")
    assert {**shape(listed), "public_avatars": [shape(listed["public_avatars"][0])]} == shape(example)
    assert listed["my_avatars"][0]["avatar_id"] == avatar["avatar_id"]
    preview = await answer(world, "POST", "/v1/avatars/preview", avatar_id=avatar["avatar_id"])
    assert shape(preview) == shape(documented("avatar-preview"))
    assert await answer(world, "DELETE", f"/v1/avatars/{avatar['avatar_id']}") == documented("avatar-deleted")


async def test_agents(world: World):
    """Create and update answer as documented; get and list carry the same agent."""
    created = await answer(world, "POST", "/v1/agents", **AGENT)
    assert shape(created) == shape(documented("agent-created"))
    path = f"/v1/agents/{created['agent']['agent_id']}"
    updated = await answer(world, "PUT", path, name="New", voice_agent={"auth_method": "api_key"})
    assert shape(updated) == shape(documented("agent-updated"))
    assert updated["agent"]["voice_agent"] == VOICE_AGENT | {"auth_method": "api_key"}
    assert await answer(world, "GET", path) == updated
    assert await answer(world, "GET", "/v1/agents") == {"success": True, "agents": [updated["agent"]]}
    missing = await world.http.get("/v1/agents/agnt_none")
    assert (missing.status_code, missing.json()) == (404, documented("error-string"))


async def test_openclaw(world: World):
    """The service makes the room and sends its avatar there; the answer names no session."""
    started = await answer(world, "POST", "/v1/openclaw/initiate", avatar="avat_1")
    assert shape(started) == shape(documented("openclaw-initiated"))
    assert started["room"]["token"] == f"participant:{started['room']['name']}"
    job = world.avatars[0].job
    assert (job.avatar, job.url, job.width) == ("avat_1", started["room"]["url"], job.height)
    assert (await world.observed())[0]["status"] == "started"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 200),
        ({"aspect_ratio": "3:4", "voice_id": "v", "enable_transcription": False}, 200),
        ({"avatar": "PUBLIC/Avatars/sara-office"}, 400),
        ({"avatar": "https://pictures.example/me.jpg"}, 400),
        ({"avatar": "avat_unknown"}, 404),
        ({"aspect_ratio": "16:9"}, 400),
        ({"voice_id": 7}, 400),
        ({"enable_transcription": "yes"}, 400),
        ([], 400),
    ],
)
async def test_openclaw_rules(body: Any, status: int, world: World):
    """Every field is optional; a wrong one is refused and opens nothing."""
    reply = await world.http.post("/v1/openclaw/initiate", json=body)
    assert reply.status_code == status
    assert len(world.avatars) == (status == 200)


async def test_links(world: World):
    """All link calls answer as documented."""
    limits = {"use_limit": 100, "expires_at": "2024-02-15T10:30:00Z"}
    agent = (await answer(world, "POST", "/v1/agents", **AGENT))["agent"]
    created = await answer(world, "POST", "/v1/links", agent_id=agent["agent_id"], **limits)
    assert shape(created) == shape(documented("link-created"))
    assert created["link"]["expires_at"] == limits["expires_at"]
    path = f"/v1/links/{created['link']['link_id']}"
    assert await answer(world, "GET", path) == created
    assert shape(await answer(world, "GET", "/v1/links")) == shape(documented("link-list"))
    updated = await answer(world, "PUT", path, name="Updated", status="paused", expires_at=None)
    assert shape(updated) == shape(documented("link-updated"))
    assert updated["link"]["status"] == "paused"
    assert await answer(world, "DELETE", path) == documented("link-deleted")


async def test_session_of_a_link(world: World):
    """The starter needs no key, answers as documented, and the link counts the use."""
    link = await linked(world)
    del world.http.headers["x-api-key"]
    started = await answer(world, "POST", "/v1/links/start-session", link_id=link["link_id"])
    assert shape(started) == shape(documented("link-session-started"))
    assert started["agent_identity"] == documented("link-session-started")["agent_identity"]
    assert world.service.links.get(link["link_id"]).uses == 1


@pytest.mark.parametrize("rules", [{"proxy_rooms": False}])
async def test_session_of_a_link_needs_no_room(world: World):
    """Links have rooms of the service's own by the documents, whatever platforms a create may name."""
    link = await linked(world)
    await answer(world, "POST", "/v1/links/start-session", link_id=link["link_id"])


@pytest.mark.parametrize("credential", ["key", "cookie"])
async def test_usage(credential: str, world: World, clock: FakeClock):
    """The usage answer has every documented key, and the newer `avatars` beside them; a cookie does for the key."""
    await world.create(metadata={"user_name": "John Doe"})
    clock.advance(seconds=450)
    if credential == "cookie":
        world.http.cookies.set("agenthuman_session", world.http.headers.pop("x-api-key"))
        assert (await world.http.get("/v1/sessions")).status_code == 401
    usage = (await answer(world, "GET", "/v1/usage"))["usage"]
    example = documented("usage-summary")["usage"]
    assert usage.pop("avatars") == {"limit": 180, "used": 0, "remaining": 180}
    assert shape(usage) == shape(example) == shape(documented("usage-schema"))
    assert usage["period"] == {"start": "2024-01-15T00:00:00.000Z", "end": "2024-02-14T23:59:59.000Z"}
    assert usage["active_minutes"] == example["active_minutes"]
    for name in ("duration", "started_at", "expiration"):
        assert usage["active_sessions"][0][name] == example["active_sessions"][0][name]


@pytest.mark.parametrize("rules", [{"generation": "managed"}])
async def test_managed_session(world: World, clock: FakeClock):
    """Create, start, get and end of the older generation answer as documented."""
    created = await answer(world, "POST", "/v1/sessions", avatar_id="avat_1", metadata={"a": 1})
    assert shape(created) == shape(documented("session-created-managed"))
    assert created["usage"] == documented("session-created-managed")["usage"]
    path = f"/v1/sessions/{created['session']['session_id']}"
    described = (await answer(world, "GET", path))["session"]
    room = documented("session-get-managed")["session"]["daily_room"]
    schema = documented("session-schema-created-managed") | {"daily_room": room}
    del schema["access_token"]
    assert shape(described) == shape(schema)
    started = await answer(world, "PUT", f"{path}/start")
    assert shape(started) == shape(documented("session-start-managed"))
    assert started["ws_uri"] == documented("session-start-managed")["ws_uri"]
    assert (await answer(world, "POST", f"{path}/start"))["ws_uri"] == "ws://emulator"
    running = (await answer(world, "GET", path))["session"]
    assert shape(running) == shape(documented("session-schema-started-managed") | {"daily_room": room})
    clock.advance(minutes=5)
    assert shape(await answer(world, "PUT", f"{path}/end")) == shape(documented("session-end-managed"))
    ended = await answer(world, "GET", path)
    assert shape(ended) == shape(documented("session-get-managed"))
    assert shape(ended["session"]) == shape(documented("session-schema-ended-managed"))


@pytest.mark.parametrize("rules", [{"generation": "managed", "plan": "pro"}])
async def test_managed_avatars(world: World):
    """The older lists have characters, their looks, and public avatars."""
    await uploaded(world)
    example = documented("avatar-list-managed")["avatars"]
    every = (await answer(world, "GET", "/v1/avatars?characters_only=false"))["avatars"]
    assert [shape(each) for each in every[:2]] == [shape(each) for each in example]
    assert every[1]["avatar_id"] == DEFAULT_AVATAR
    characters = (await answer(world, "GET", "/v1/avatars"))["avatars"]
    assert [each["parent_id"] for each in characters] == [None] * len(characters)
    looks = (await answer(world, "GET", f"/v1/avatars?parent_id={characters[0]['avatar_id']}"))["avatars"]
    assert len(looks) == characters[0]["looks_count"]
    assert {each["parent_id"] for each in looks} == {characters[0]["avatar_id"]}
    public = (await answer(world, "GET", "/v1/avatars/public"))["avatars"]
    assert shape(public[0]) == shape(documented("avatar-list-public-managed")["avatars"][0])


async def test_every_body_is_compared():
    """A documented body that no test here names judges nobody."""
    from pathlib import Path  # noqa: PLC0415

    here = Path(__file__).parent
    named = "".join(path.read_text() for path in here.glob("test_*.py"))
    folder = here.parent / "contract"
    left_out = {
        "error-standard",  # the shape of all the others
        "session-create-request-early",  # a request
    }
    names = {path.stem for path in folder.glob("*.json")} - left_out
    assert [name for name in sorted(names) if f'"{name}"' not in named] == []
