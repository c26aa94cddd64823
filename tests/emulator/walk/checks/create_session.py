"""`POST /v1/sessions` of today."""

import base64
import json

import httpx
import pytest

from agenthuman_plugins.client import DailyRoom, LiveKitRoom
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.emulator import LimitError
from tests.contract.bodies import load as documented
from tests.emulator.fakes import OWN_ROOM
from tests.emulator.pictures import no_face, portrait, two_faces
from tests.emulator.walk.walk import (
    DAILY_ROOM,
    PROXY_ROOM,
    Walk,
    check,
    client_of,
    connected,
    create_body,
    shape,
    web_with,
)

_URL = "https://pictures.example/me.png"


def data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


@check()
async def starts_at_once(walk: Walk):
    session = await walk.create()
    assert (session["status"], session["started_at"]) == ("started", "2024-01-15T10:30:00Z")


@check()
async def no_start_call(walk: Walk):
    session = await walk.create()
    assert walk.service.job(walk.service.store.get(session["session_id"])) is not None


@check()
async def avatar_is_required(walk: Walk):
    for avatar in (..., "", None):
        assert await walk.refused_create(avatar=avatar) == (400, "Avatar ID is required")


@check()
async def avatar_by_id_on_any_plan(walk: Walk):
    assert await walk.create(avatar="avat_01KMZJ4WE5QCD9G3EK21QW8NJK")


@check()
async def public_avatar_by_id(walk: Walk):
    public = (await walk.ok("GET", "/v1/avatars"))["public_avatars"][0]
    assert await walk.create(avatar=public["avatar_id"])


@check(plan="pro")
async def image_url_on_paid_plans(walk: Walk):
    with web_with(portrait()) as asked:
        assert await walk.create(avatar=_URL)
    assert asked == [_URL]


@check(plan="explorer")
async def base64_on_paid_plans(walk: Walk):
    assert await walk.create(avatar=data_uri(portrait()))


@check(plan="free")
async def image_url_on_the_free_plan(walk: Walk):
    assert (await walk.refused_create(avatar=_URL))[0] == 403


@check(plan="free")
async def base64_on_the_free_plan(walk: Walk):
    assert (await walk.refused_create(avatar=data_uri(portrait())))[0] == 403


@check(plan="pro")
async def image_is_checked(walk: Walk):
    for picture in (no_face(), two_faces()):
        assert (await walk.refused_create(avatar=data_uri(picture)))[0] == 400


@check(plan="pro")
async def errors_of_the_upload(walk: Walk):
    for picture in (no_face(), two_faces(), b"%PDF-1.7"):
        files = {"file": ("a.png", picture, "image/png")}
        upload = await walk.http.post("/v1/avatars/upload-face", files=files)
        create = await walk.http.post("/v1/sessions", json=create_body(avatar=data_uri(picture)))
        assert (create.status_code, create.json()) == (upload.status_code, upload.json())
        assert create.status_code == 400


@check(plan="pro")
async def image_becomes_an_avatar(walk: Walk):
    await walk.create(avatar=data_uri(portrait()))
    (listed,) = (await walk.ok("GET", "/v1/avatars"))["my_avatars"]
    (active,) = (await walk.usage())["active_sessions"]
    assert active["avatar"]["avatar_id"] == walk.record()["avatar"] == listed["avatar_id"]
    assert (await walk.http.get(active["avatar"]["url"])).headers["content-type"] == "image/jpeg"


@check(plan="pro")
async def image_counts_as_an_avatar(walk: Walk):
    await walk.create(avatar=data_uri(portrait()))
    assert (await walk.usage())["avatars"]["used"] == 1


@check()
async def avatar_of_another_account(walk: Walk):
    reply = await walk.http.post("/v1/sessions", json=create_body(avatar="avat_exclusive"))
    assert (reply.status_code, reply.json()) == (403, documented("error-access-denied-403"))


@check(plan="pro")
async def own_avatar(walk: Walk):
    assert await walk.create(avatar=(await walk.upload())["avatar_id"])


@check()
async def unknown_avatar(walk: Walk):
    for avatar in ("avat_unknown", "sara"):
        assert await walk.refused_create(avatar=avatar) == (404, "Avatar not found")


@check()
async def every_id_is_an_avatar(walk: Walk):
    assert await walk.create(avatar="avat_nobody-made-this")


@check(plan="pro")
async def ratios(walk: Walk):
    for ratio in ("4:3", "3:4", "1:1"):
        session = await walk.create(aspect_ratio=ratio)
        assert (await walk.session(session))["aspect_ratio"] == ratio


@check()
async def default_ratio(walk: Walk):
    assert (await walk.session(await walk.create()))["aspect_ratio"] == "4:3"


@check()
async def wrong_ratio(walk: Walk):
    for ratio in ("16:9", "auto", None, 1):
        assert (await walk.refused_create(aspect_ratio=ratio))[0] == 400


@check()
async def ratio_is_sent():
    async with client_of(httpx.Response(200, json=documented("session-created-own-room"))) as (client, asked):
        await client.sessions.create()
        with pytest.raises(ConfigurationError):
            await client.sessions.create(aspect_ratio="auto")  # type: ignore[arg-type]
    (request,) = asked
    assert b'"aspect_ratio":"4:3"' in request.content.replace(b" ", b"")


@check(plan="pro")
async def size_of_the_video(walk: Walk):
    sizes = {}
    for ratio in ("4:3", "3:4", "1:1"):
        job = walk.service.job(walk.service.store.get((await walk.create(aspect_ratio=ratio))["session_id"]))
        sizes[ratio] = job and (job.width, job.height)
    assert sizes == {"4:3": (640, 480), "3:4": (480, 640), "1:1": (512, 512)}


@check()
async def room_is_required(walk: Walk):
    assert (await walk.refused_create(room=...))[0] == 400


@check()
async def livekit_room(walk: Walk):
    session = await walk.create(room=OWN_ROOM)
    job = walk.service.job(walk.service.store.get(session["session_id"]))
    assert job is not None
    assert (job.url, job.token) == (OWN_ROOM["url"], OWN_ROOM["token"])


@check()
async def daily_room(walk: Walk):
    session = await walk.create(room=DAILY_ROOM)
    job = walk.service.job(walk.service.store.get(session["session_id"]))
    assert job is not None
    assert job.url == ""
    assert "without_room" in [entry["event"] for entry in walk.record()["timeline"]]


@check()
async def other_platform(walk: Walk):
    for platform in ("zoom", "", None):
        assert (await walk.refused_create(room=OWN_ROOM | {"platform": platform}))[0] == 400


@check()
async def room_url_is_required(walk: Walk):
    assert (await walk.refused_create(room={"platform": "livekit", "token": "t"}))[0] == 400


@check()
async def room_token_is_required(walk: Walk):
    assert (await walk.refused_create(room=DAILY_ROOM | {"token": ""}))[0] == 400


@check()
async def status_of_room_errors(walk: Walk):
    status, message = await walk.refused_create(room=OWN_ROOM | {"platform": "zoom"})
    assert (status, message) == (400, "Invalid room platform")


@check()
async def own_room_is_required(walk: Walk):
    assert (await walk.create(room=PROXY_ROOM))["room"]


@check(proxy_rooms=False)
async def own_room_alone(walk: Walk):
    assert await walk.refused_create(room=PROXY_ROOM) == await walk.refused_create(room={"platform": "zoom"})


@check()
async def proxied_reply(walk: Walk):
    session = await walk.create(room=PROXY_ROOM)
    assert shape(session["room"]) == {"roomURL": "str", "participantToken": "str"}
    assert {"aspect_ratio", "duration", "metadata", "ended_at", "expiration"} <= set(session)


@check()
async def metadata_defaults_to_empty(walk: Walk):
    assert (await walk.create())["metadata"] == {}


@check()
async def metadata_is_kept(walk: Walk):
    metadata = {"nested": [1, 2.5, None, True, {"ü": "ß"}], "empty": {}}
    session = await walk.create(metadata=metadata)
    assert session["metadata"] == (await walk.session(session))["metadata"] == metadata


@check()
async def metadata_of_another_kind(walk: Walk):
    for metadata in ([], "text", 1, True, None):
        assert (await walk.refused_create(metadata=metadata))[0] == 400


@check()
async def metadata_is_checked():
    async with client_of() as (client, asked):
        for metadata in ([], "text", 1, True):
            with pytest.raises(ConfigurationError):
                await client.sessions.create(metadata=metadata)  # type: ignore[arg-type]
    assert asked == []


@check()
async def reply(walk: Walk):
    example = documented("session-created-own-room")
    answer = await walk.ok("POST", "/v1/sessions", create_body(metadata=example["session"]["metadata"]))
    assert shape(answer) == shape(example)
    for secret in ("session_id", "session_token"):
        del answer["session"][secret], example["session"][secret]
    assert answer == example


@check()
async def token_in_the_reply(walk: Walk):
    session = await walk.create(room=PROXY_ROOM)
    tokens = (session["session_token"], session["room"]["participantToken"])
    path = f"/v1/sessions/{session['session_id']}"
    later = [await walk.http.get(each) for each in ("/v1/sessions", path, "/v1/usage", "/emulator/sessions")]
    later.append(await walk.http.post(f"{path}/end"))
    assert all(tokens)
    assert [reply for reply in later for token in tokens if token in reply.text] == []


@check(served=True)
async def token_opens_the_gateway(walk: Walk):
    session = await walk.create()
    async with connected(walk) as gateway:
        refused = await gateway.ask(
            {"type": "session.init", "session_id": session["session_id"], "session_token": "wrong"}
        )
        assert "error" in refused
    async with connected(walk, session):
        pass


@check()
async def expiration(walk: Walk):
    session = await walk.create()
    limit = (await walk.usage())["plan"]["max_session_duration"]
    walk.clock.advance(minutes=limit)
    assert session["expiration"] == walk.clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")


@check()
async def id(walk: Walk):  # noqa: A001 - the name of its fact
    assert (await walk.create())["session_id"].startswith("sess_")


@check()
async def usage_in_the_reply(walk: Walk):
    answer = await walk.ok("POST", "/v1/sessions", create_body())
    assert answer["usage"] == documented("session-created-own-room")["usage"]


@check(minutes=1)
async def used_up_minutes(walk: Walk):
    await walk.ended(minutes=2)
    reply = await walk.http.post("/v1/sessions", json=create_body())
    error, example = reply.json()["error"], documented("error-insufficient-minutes")["error"]
    assert reply.status_code >= 400
    assert {name: error[name] for name in example} == example


@check(plan="free")
async def used_up_sessions(walk: Walk):
    await walk.create()
    assert (await walk.refused_create())[0] >= 400


@check(limit_errors={"sessions": LimitError(status=429, code="FULL", details=False)})
async def status_of_limits(walk: Walk):
    await walk.create()
    reply = await walk.http.post("/v1/sessions", json=create_body())
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], "details" in error) == (429, "FULL", False)


@check()
async def code_of_the_session_limit(walk: Walk):
    await walk.create()
    error = (await walk.http.post("/v1/sessions", json=create_body())).json()["error"]
    assert error["code"] == "CONCURRENCY_LIMIT_REACHED"
    assert error["details"]["concurrency"] == {"current": 1, "max": 1, "available": 0}


@check(slots=1)
async def refused_create_leaves_nothing(walk: Walk):
    await walk.create()
    await walk.refused_create()
    await walk.refused_create(avatar=...)
    assert len(walk.emulator.sessions()) == 1


@check()
async def early_avatar_field(walk: Walk):
    early = documented("session-create-request-early") | {"aspect_ratio": "4:3"}
    assert "avatar" not in early
    assert (await walk.ok("POST", "/v1/sessions", early))["session"]["status"] == "started"


@check()
async def newest_form_is_sent():
    created = httpx.Response(200, json=documented("session-created-own-room"))
    rooms = [
        (LiveKitRoom("wss://rooms.example", "t"), "livekit"),
        (DailyRoom("https://x.daily.co/y", "t"), "daily"),
    ]
    for room, platform in rooms:
        async with client_of(created) as (client, asked):
            await client.sessions.create(avatar="avat_1", room=room, metadata={"a": 1})
        body = json.loads(asked[0].content)
        assert set(body) == {"avatar", "aspect_ratio", "room", "metadata"}
        assert body["room"] == {"platform": platform, "url": room.url, "token": "t"}
