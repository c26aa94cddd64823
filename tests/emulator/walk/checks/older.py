"""The generation before today's: sessions that are created, then started, in the service's Daily rooms."""

from typing import Any

import httpx

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from tests.contract.bodies import load as documented
from tests.emulator.walk.walk import Walk, check, client_of, shape

_LOOK = {"avatar_id": DEFAULT_AVATAR, "metadata": {"user_name": "John Doe"}}


def older(**options: Any) -> Any:
    return check(generation="managed", **options)


async def _create(walk: Walk) -> dict[str, Any]:
    return (await walk.ok("POST", "/v1/sessions", _LOOK))["session"]


async def _start(walk: Walk, session: dict[str, Any], method: str = "PUT") -> dict[str, Any]:
    return await walk.ok(method, f"/v1/sessions/{session['session_id']}/start")


async def _started(walk: Walk) -> dict[str, Any]:
    session = await _create(walk)
    await _start(walk, session)
    return session


def _with_room(name: str) -> Any:
    return documented(name) | {"daily_room": documented("session-get-managed")["session"]["daily_room"]}


@older()
async def avatar_id_is_required(walk: Walk):
    reply = await walk.http.post("/v1/sessions", json={"metadata": {}})
    assert (reply.status_code, reply.json()) == (400, documented("error-bad-request-400"))


@older()
async def avatar_must_be_a_look(walk: Walk):
    listed = (await walk.ok("GET", "/v1/avatars?characters_only=false"))["avatars"]
    for avatar in listed:
        reply = await walk.http.post("/v1/sessions", json={"avatar_id": avatar["avatar_id"]})
        assert (reply.status_code < 300) == (avatar["parent_id"] is not None)
    assert {avatar["parent_id"] is None for avatar in listed} == {True, False}


@older()
async def create_reply(walk: Walk):
    answer, example = await walk.ok("POST", "/v1/sessions", _LOOK), documented("session-created-managed")
    assert shape(answer) == shape(example)
    assert (answer["usage"], answer["message"]) == (example["usage"], example["message"])


@older()
async def create_waits(walk: Walk):
    session = await _create(walk)
    assert (session["status"], session["started_at"], session["expiration"]) == ("created", None, None)
    assert (await walk.usage())["concurrency"]["current"] == 0
    assert walk.service.job(walk.service.store.get(session["session_id"])) is None


@older()
async def no_room_is_sent(walk: Walk):
    assert (await walk.session(await _create(walk)))["daily_room"]["url"].startswith(
        "https://agenthuman.daily.co/"
    )


@older()
async def daily_room_of_the_service(walk: Walk):
    session = await _started(walk)
    job = walk.service.job(walk.service.store.get(session["session_id"]))
    assert job is not None
    assert job.url == ""


@older()
async def daily_room_fields(walk: Walk):
    room = (await walk.session(await _create(walk)))["daily_room"]
    assert {"url", "name", "token"} <= set(room)
    assert room["url"].endswith(room["name"])


@older()
async def daily_room_exp(walk: Walk):
    assert "exp" not in (await walk.session(await _create(walk)))["daily_room"]


@older()
async def access_token(walk: Walk):
    session = await _create(walk)
    path = f"/v1/sessions/{session['session_id']}"
    later = [(await walk.http.get(each)).text for each in (path, "/v1/sessions", "/v1/usage")]
    assert session["access_token"]
    assert session["access_token"] not in "".join(later)


@check()
async def one_token():
    for name in ("session-created-own-room", "session-created-managed"):
        async with client_of(httpx.Response(200, json=documented(name))) as (client, _):
            session = await client.sessions.create(avatar="avat_1")
        assert session.session_token is not None
        assert session.session_token.get_secret_value().endswith("_token_xxxxxxxxxxxxx")


@older()
async def ws_uri(walk: Walk):
    session = await _create(walk)
    assert "ws_uri" in await _start(walk, session)
    assert "ws_uri" not in await walk.session(session)


@older()
async def type(walk: Walk):  # noqa: A001 - the name of its fact
    assert (await _create(walk))["session_type"] == "webrtc_video"


@older()
async def avatar(walk: Walk):
    shown = (await _create(walk))["avatar"]
    assert set(shown) == {"avatar_id", "name", "url"}
    assert shown["avatar_id"] == DEFAULT_AVATAR


@older()
async def created_at(walk: Walk):
    session = await _create(walk)
    walk.clock.advance(minutes=1)
    assert (await walk.session(session))["created_at"] == "2024-01-15T10:30:00Z"


@older()
async def status_from_times(walk: Walk):
    session = await _create(walk)
    seen = [await walk.session(session)]
    await _start(walk, session)
    seen.append(await walk.session(session))
    await walk.end(session, "PUT")
    seen.append(await walk.session(session))
    assert [each["status"] for each in seen] == ["created", "started", "ended"]
    assert [each["started_at"] is not None for each in seen] == [False, True, True]
    assert [each["ended_at"] is not None for each in seen] == [False, False, True]


@older()
async def duration(walk: Walk):
    session = await _started(walk)
    walk.clock.advance(minutes=5)
    assert (await walk.session(session))["duration"] is None
    await walk.end(session, "PUT")
    assert (await walk.session(session))["duration"] == 300


@older()
async def schema_created(walk: Walk):
    example = _with_room("session-schema-created-managed")
    del example["access_token"]
    assert shape(await walk.session(await _create(walk))) == shape(example)


@older()
async def schema_started(walk: Walk):
    example = _with_room("session-schema-started-managed")
    assert shape(await walk.session(await _started(walk))) == shape(example)


@older()
async def schema_ended(walk: Walk):
    session = await _started(walk)
    await walk.end(session, "PUT")
    shown = shape(await walk.session(session))
    assert shown == shape(documented("session-schema-ended-managed"))
    assert shown == shape(documented("session-get-managed")["session"])


@older()
async def start_reply(walk: Walk):
    answer, example = await _start(walk, await _create(walk)), documented("session-start-managed")
    assert shape(answer) == shape(example)
    assert (answer["ws_uri"], answer["message"]) == (example["ws_uri"], example["message"])


@older()
async def start_by_post(walk: Walk):
    session = await _create(walk)
    assert (await _start(walk, session, "POST"))["success"] is True
    assert (await walk.session(session))["status"] == "started"


@check()
async def start_tries():
    started = {"success": True, "session": {"session_id": "sess_1", "status": "started"}}
    answers = [httpx.Response(405), httpx.Response(200, json={"success": True, "ws_uri": "wss://a.example"})]
    async with client_of(*answers, httpx.Response(200, json=started)) as (client, asked):
        session = await client.sessions.start("sess_1")
    assert [request.method for request in asked[:2]] == ["PUT", "POST"]
    assert session.ws_uri == "wss://a.example"


@older(boot_s=20)
async def try_again(walk: Walk):
    session = await _create(walk)
    told = []
    for _ in range(3):
        told.append((await _start(walk, session))["ws_uri"])
        walk.clock.advance(seconds=15)
    assert told[:2] == ["try_again", "try_again"]
    assert told[2].startswith("ws://")


@older()
async def start_again(walk: Walk):
    session = await _started(walk)
    first, second = [await _start(walk, session) for _ in range(2)]
    assert first == second
    assert first["ws_uri"].startswith("ws://")


@older()
async def start_of_an_ended_session(walk: Walk):
    session = await _started(walk)
    await walk.end(session, "PUT")
    assert (await walk.refused("PUT", f"/v1/sessions/{session['session_id']}/start"))[0] >= 400
    assert (await walk.session(session))["status"] == "ended"


@older()
async def bill_from_the_start(walk: Walk):
    session = await _create(walk)
    walk.clock.advance(minutes=30)
    await _start(walk, session)
    walk.clock.advance(seconds=61)
    await walk.end(session, "PUT")
    assert (await walk.usage())["included_minutes"]["used"] == 2


@older()
async def end_before_start(walk: Walk):
    session = await _create(walk)
    for method in ("PUT", "POST"):
        assert (await walk.refused(method, f"/v1/sessions/{session['session_id']}/end"))[0] >= 400
    assert (await walk.session(session))["status"] == "created"
    assert (await _start(walk, session))["success"] is True


@older()
async def end_reply(walk: Walk):
    answer, example = await walk.end(await _started(walk), "PUT"), documented("session-end-managed")
    assert shape(answer) == shape(example)
    assert answer["message"] == example["message"]


@older()
async def end_again(walk: Walk):
    session = await _started(walk)
    first, second = await walk.end(session, "PUT"), await walk.end(session, "PUT")
    assert first["session"] == second["session"]
    assert second["success"] is True
    assert second["message"]


@older(plan="pro")
async def list_reply(walk: Walk):
    await walk.upload()
    both = (await walk.ok("GET", "/v1/avatars?characters_only=false"))["avatars"]
    character, look = documented("avatar-list-managed")["avatars"]
    for avatar in both:
        assert shape(avatar) == shape(character if avatar["parent_id"] is None else look)


@older()
async def list_of_characters(walk: Walk):
    listed = (await walk.ok("GET", "/v1/avatars"))["avatars"]
    assert {avatar["parent_id"] for avatar in listed} == {None}
    assert (await walk.ok("GET", "/v1/avatars?characters_only=true"))["avatars"] == listed


@older()
async def list_of_looks(walk: Walk):
    for character in (await walk.ok("GET", "/v1/avatars"))["avatars"]:
        looks = (await walk.ok("GET", f"/v1/avatars?parent_id={character['avatar_id']}"))["avatars"]
        assert {look["parent_id"] for look in looks} == {character["avatar_id"]}
        assert len(looks) == character["looks_count"]


@older()
async def list_of_both(walk: Walk):
    listed = (await walk.ok("GET", "/v1/avatars?characters_only=false"))["avatars"]
    assert {avatar["parent_id"] is None for avatar in listed} == {True, False}


@older()
async def public_list(walk: Walk):
    (example, *_) = documented("avatar-list-public-managed")["avatars"]
    answer = await walk.ok("GET", "/v1/avatars/public")
    assert answer["avatars"]
    assert {str(shape(avatar)) for avatar in answer["avatars"]} == {str(shape(example))}


@older()
async def public_list_limit(walk: Walk):
    listed = (await walk.ok("GET", "/v1/avatars/public"))["avatars"]
    moments = [avatar["created_at"] for avatar in listed]
    assert len(listed) <= 100
    assert moments == sorted(moments, reverse=True)
