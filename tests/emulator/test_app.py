"""The four session calls over HTTP, with avatars and rooms that only take notes."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agenthuman_plugins.emulator._errors import ServiceError
from tests.emulator.conftest import FakeClock
from tests.emulator.fakes import OWN_ROOM, PROXY, World

LIMIT_S = 30.0  # hang limit


async def test_create_in_own_room_sends_the_avatar_there(world: World):
    """The avatar joins the caller's room with the caller's token, in the size of the ratio."""
    await world.create(room=OWN_ROOM, aspect_ratio="3:4")
    job = world.avatars[0].job
    assert (job.url, job.token) == (OWN_ROOM["url"], OWN_ROOM["token"])
    assert (job.width, job.height) == (480, 640)
    assert OWN_ROOM["token"] not in repr(job)


async def test_create_with_proxy_makes_a_room(world: World):
    """The reply tells the caller how to join; the avatar joins the same room with a token of its own."""
    room = (await world.create())["room"]
    job = world.avatars[0].job
    assert job.url == room["roomURL"]
    assert room["participantToken"].removeprefix("participant:") == job.token.removeprefix("avatar:")


@pytest.mark.parametrize("avatar", ["avat_1", "avat_1-while-the-account-is-full"])
async def test_service_that_takes_documented_platforms_alone(avatar: str, world_of: Callable[..., World]):
    """`proxy` is refused like any unknown platform, before any limit; rooms of the caller's own are taken."""
    world = world_of(proxy_rooms=False)
    if avatar != "avat_1":
        await world.create(room=OWN_ROOM)
    before = len(world.avatars)
    reply = await world.http.post("/v1/sessions", json=PROXY | {"avatar": avatar})
    assert (reply.status_code, reply.json()) == (
        400,
        {
            "success": False,
            "error": {
                "message": "Invalid room platform",
                "suggestion": "Set room.platform to daily or livekit",
            },
        },
    )
    assert len(world.avatars) == before
    if avatar == "avat_1":
        await world.create(room=OWN_ROOM)


@pytest.mark.parametrize(("proxy_rooms", "platforms"), [(True, 3), (False, 2)])
async def test_document_names_the_platforms_that_are_taken(
    proxy_rooms: bool, platforms: int, world_of: Callable[..., World]
):
    """The OpenAPI document lists `proxy` only where it is taken."""
    document = (await world_of(proxy_rooms=proxy_rooms).http.get("/openapi.json")).json()
    body = document["paths"]["/v1/sessions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    named = body["properties"]["room"]["properties"]["platform"]["enum"]
    assert sorted(named) == ["daily", "livekit", "proxy"][:platforms]


async def test_daily_session_runs_without_a_room(world: World):
    """The avatar of a Daily room plays in no room, and the session's record says so."""
    await world.create(room={"platform": "daily", "url": "https://x.daily.co/y", "token": "t"})
    assert (world.avatars[0].job.url, world.avatars[0].job.token) == ("", "")
    timeline = (await world.observed())[0]["timeline"]
    assert [entry["event"] for entry in timeline] == ["created", "without_room", "avatar_starting"]


async def test_create_answers_before_the_avatar_is_there(world: World):
    """The reply does not wait for the avatar."""
    await world.create()
    assert (await world.observed())[0]["avatar_state"] == "starting"


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}])
@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/sess_1", "/emulator/sessions"])
async def test_key_is_required(headers: dict[str, str], path: str, world: World):
    """Without a key the documented body comes, before anything else is looked at."""
    del world.http.headers["x-api-key"]
    reply = await world.http.get(path, headers=headers)
    assert (reply.status_code, reply.json()) == (401, {"error": "API key required"})


async def test_wrong_key_is_refused(world: World):
    """A key that is not configured is HTTP 401, whatever the body; any configured one works."""
    reply = await world.http.post(
        "/v1/sessions", content=b"{", headers={"x-api-key": "ah_live_\xfc".encode("latin-1")}
    )
    assert (reply.status_code, reply.json()) == (401, {"error": "Invalid API key"})
    assert (await world.http.get("/v1/sessions", headers={"x-api-key": "ah_test_2"})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/nothing", 404), ("DELETE", "/v1/sessions", 405), ("GET", "/v1/sessions/", 404)],
)
async def test_framework_errors_have_the_shape_of_the_service(
    method: str, path: str, status: int, world: World
):
    """No route and wrong method answer as the service does, not as the framework."""
    reply = await world.http.request(method, path)
    assert reply.status_code == status
    assert reply.json()["success"] is False
    assert isinstance(reply.json()["error"]["message"], str)


async def test_crash_has_the_shape_of_the_service(world: World, monkeypatch: pytest.MonkeyPatch):
    """An unforeseen failure is HTTP 500 in the documented shape, without its details."""
    monkeypatch.setattr(world.service.store, "newest_first", lambda _: 1 / 0)
    reply = await world.http.get("/v1/sessions")
    assert (reply.status_code, reply.json()) == (
        500,
        {"success": False, "error": {"message": "Something went wrong"}},
    )


async def test_metadata_comes_back_as_sent(world: World):
    """Any JSON object is kept, even text that has no UTF-8 form."""
    metadata = {"nested": [1, 2.5, None, True, {"ü": "\ud800"}]}
    content = httpx.Request("POST", "http://x", json=PROXY).content[:-1] + b', "metadata": '
    content += b'{"nested": [1, 2.5, null, true, {"\\u00fc": "\\ud800"}]}}'
    reply = await world.http.post("/v1/sessions", content=content)
    assert reply.json()["session"]["metadata"] == metadata


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_end_is_idempotent(method: str, world: World, clock: FakeClock):
    """Ending twice answers the same; the avatar leaves once, with the reason."""
    path = f"/v1/sessions/{(await world.create())['session_id']}/end"
    first = (await world.http.request(method, path)).json()
    clock.advance(minutes=1)
    second = (await world.http.request(method, path)).json()
    assert first["session"] == second["session"]
    assert first["success"] is second["success"] is True
    assert ("message" in first) == (method == "PUT")
    async with asyncio.timeout(LIMIT_S):
        assert await world.avatars[0].stopped == "session_ended"
    assert (await world.observed())[0]["ended_by"] == "caller"


@pytest.mark.parametrize(
    ("change", "by"), [({"hours": 4}, "expiry"), ({"minutes": 3}, "sweep"), ({"seconds": 5}, "room_empty")]
)
async def test_service_ends_sessions_itself(
    change: dict[str, float], by: str, world: World, clock: FakeClock
):
    """Expiry, sweep and an emptied room end the session, name themselves, and send the avatar away."""
    await world.create()
    world.avatars[0].tell({"event": "ready", "pid": 1})
    if by == "room_empty":
        world.avatars[0].tell({"event": "participants", "count": 1})
        world.avatars[0].tell({"event": "participants", "count": 0})
    clock.advance(**change)
    world.service.tick()
    async with asyncio.timeout(LIMIT_S):
        await world.avatars[0].stopped
    assert (await world.observed())[0]["ended_by"] == by


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"event": "avatar_failed", "message": "no room"}, "failed: no room"),
        ({"event": "error", "message": "no picture"}, "failed: no picture"),
        ({"event": "disconnected", "reason": "fault"}, "lost its room: fault"),
        ({"event": "exit", "code": -9}, "died with exit code -9"),
    ],
)
async def test_failed_avatar_is_logged(
    event: dict[str, Any], sentence: str, world: World, caplog: pytest.LogCaptureFixture
):
    """An avatar that is lost while its session runs is one line in the log; what it does after the end is none."""
    session_id = (await world.create())["session_id"]
    world.avatars[0].tell(event)
    world.avatars[0].tell({"event": "exit", "code": 1})
    await world.http.post(f"/v1/sessions/{session_id}/end")
    world.avatars[0].tell(event)
    assert caplog.messages == [f"The avatar of {session_id} {sentence}"]


async def test_timeline_shows_what_the_avatar_did(world: World):
    """The avatar's events stand in the record of its session, in order and with their time."""
    await world.create()
    for event in ({"event": "ready", "pid": 42}, {"event": "utterance_started"}):
        world.avatars[0].tell(event)
    observed = (await world.observed())[0]
    assert [entry["event"] for entry in observed["timeline"]] == [
        "created",
        "avatar_starting",
        "ready",
        "utterance_started",
    ]
    assert observed["timeline"][0]["at"] == "2024-01-15T10:30:00.000+00:00"
    assert (observed["avatar_state"], observed["avatar_pid"]) == ("ready", 42)


async def test_limits_hold_while_the_room_server_starts(world: World):
    """Of two creates that wait for the same room server, the free plan lets one pass; the other leaves nothing."""
    world.rooms.available.clear()
    both = asyncio.gather(*(world.http.post("/v1/sessions", json=PROXY) for _ in range(2)))
    async with asyncio.timeout(LIMIT_S):
        await world.rooms.waiting.wait()
        world.rooms.available.set()
        assert sorted(reply.status_code for reply in await both) == [200, 403]
    assert len(await world.observed()) == len(world.avatars) == 1


async def test_cancelled_create_leaves_nothing(world: World):
    """A create that is cancelled half-way opens no session and sends no avatar."""
    world.rooms.available.clear()
    create = asyncio.create_task(world.http.post("/v1/sessions", json=PROXY))
    async with asyncio.timeout(LIMIT_S):
        await world.rooms.waiting.wait()
    create.cancel()
    await asyncio.wait([create])
    assert await world.observed() == world.avatars == []


async def test_no_room_server_is_an_answer(world: World):
    """A room that cannot be made is HTTP 503 with a sentence, and leaves no session."""
    world.rooms.failure = ServiceError(503, "The room server could not be started.")
    reply = await world.http.post("/v1/sessions", json=PROXY)
    assert (reply.status_code, reply.json()["error"]["message"]) == (
        503,
        "The room server could not be started.",
    )
    assert await world.observed() == []


async def test_closing_stops_avatars_but_ends_no_session(world: World):
    """When the emulator stops, avatars leave, and a session that its caller left open stays on record as open."""
    await world.create()
    await world.service.aclose()
    assert world.avatars[0].stopped.result() == "service_stopped"
    assert world.service.store.newest_first()[0].active


async def test_api_is_described(world: World):
    """The OpenAPI document is served and names the four calls."""
    paths = (await world.http.get("/openapi.json")).json()["paths"]
    assert {"/v1/sessions", "/v1/sessions/{session_id}", "/v1/sessions/{session_id}/end"} <= set(paths)
