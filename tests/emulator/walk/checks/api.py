"""Addresses, keys, statuses, times and the rate limit."""

import re
from datetime import datetime, timedelta

import httpx

from agenthuman_plugins.emulator import Emulator
from tests.contract.bodies import load as documented
from tests.emulator.walk.walk import AGENT, Walk, check, client_of, create_body

_STATUSES = {200, 201, 204, 400, 401, 403, 404, 429, 500, 503}
_SESSION = {"success": True, "session": {"session_id": "sess_1"}}


@check()
async def address():
    async with client_of(httpx.Response(200, json=_SESSION)) as (client, asked):
        await client.sessions.get("sess_1")
    assert str(asked[0].url) == "https://api.agenthuman.com/v1/sessions/sess_1"


@check()
async def json_in_and_out(walk: Walk):
    for path in ("/v1/sessions", "/v1/sessions/sess_1", "/v1/nothing"):
        reply = await walk.http.get(path)
        assert reply.headers["content-type"] == "application/json"
        assert isinstance(reply.json(), dict)


@check()
async def key_in_header(walk: Walk):
    async with client_of(httpx.Response(200, json=_SESSION)) as (client, asked):
        await client.sessions.get("sess_1")
    assert asked[0].headers["x-api-key"] == "ah_test_1"
    assert (await walk.http.get("/v1/sessions")).status_code == 200


@check()
async def key_on_every_call(walk: Walk):
    paths = (await walk.ok("GET", "/openapi.json"))["paths"]
    calls = [
        (method, path) for path, methods in paths.items() for method in methods if path.startswith("/v1/")
    ]
    replies = {
        (method, path): await walk.http.request(method, path, headers={"x-api-key": ""})
        for method, path in calls
    }
    keyless = {call for call, reply in replies.items() if reply.status_code != 401}
    assert keyless == {("post", "/v1/links/start-session")}


@check()
async def missing_key(walk: Walk):
    reply = await walk.http.get("/v1/sessions", headers={"x-api-key": ""})
    assert (reply.status_code, reply.json()) == (401, documented("error-auth-401"))


@check()
async def wrong_key(walk: Walk):
    assert (await walk.refused("GET", "/v1/sessions", headers={"x-api-key": "ah_test_0"}))[0] == 401


@check()
def form_of_keys():
    assert re.fullmatch(r"ah_(test|live)_.{32}", Emulator(media=False).api_key)


@check()
async def keys_of_any_length():
    async with client_of(httpx.Response(200, json=_SESSION)) as (client, asked):
        await client.sessions.get("sess_1")
    assert len(asked[0].headers["x-api-key"]) < 10


@check()
async def listed_statuses(walk: Walk):
    paths = (await walk.ok("GET", "/openapi.json"))["paths"]
    described = {
        int(status)
        for path, methods in paths.items()
        if path.startswith("/v1/")
        for call in methods.values()
        for status in call["responses"]
    }
    assert described
    assert described <= _STATUSES


@check(plan="pro")
async def status_of_success(walk: Walk):
    session = await walk.create()
    agent = await walk.agent()
    assert (await walk.end(session))["success"] is True
    assert (await walk.ok("DELETE", f"/v1/agents/{agent['agent_id']}"))["success"] is True


@check()
async def any_success_is_one():
    for status in (200, 201, 202):
        async with client_of(httpx.Response(status, json=_SESSION)) as (client, _):
            assert (await client.sessions.get("sess_1")).session_id == "sess_1"
    async with client_of(httpx.Response(204)) as (client, _):
        await client.avatars.delete("avat_1")


@check()
async def no_such_path(walk: Walk):
    assert (await walk.refused("GET", "/v1/nothing"))[0] == 404
    assert (await walk.refused("DELETE", "/v1/sessions"))[0] == 405


@check()
async def unknown_fields_are_ignored(walk: Walk):
    room = create_body()["room"] | {"display_name": "AI Avatar (AH)"}
    assert (await walk.create(room=room, mood="good"))["status"] == "started"


@check(plan="pro")
async def times_are_utc(walk: Walk):
    session = await walk.create()
    agent = await walk.ok("POST", "/v1/agents", AGENT)
    for moment in (session["started_at"], agent["agent"]["created_at"]):
        assert datetime.fromisoformat(moment) == walk.clock.now
    read = await walk.client.sessions.get(session["session_id"])
    assert read.started_at is not None
    assert read.started_at.utcoffset() == timedelta(0)


@check()
async def times_with_milliseconds():
    times = ("2024-01-15T10:30:00Z", "2024-01-15T10:30:00.000Z")
    body = {"session_id": "sess_1", "started_at": times[0], "ended_at": times[1]}
    async with client_of(httpx.Response(200, json={"success": True, "session": body})) as (client, _):
        session = await client.sessions.get("sess_1")
    assert session.started_at == session.ended_at is not None


@check()
async def rate_limit(walk: Walk):
    replies = [await walk.http.get("/v1/sessions") for _ in range(61)]
    assert {reply.status_code for reply in replies} == {200}


@check(requests_per_minute=60)
async def rate_limit_refuses(walk: Walk):
    replies = [await walk.http.get("/v1/sessions") for _ in range(61)]
    assert [reply.status_code for reply in replies] == [200] * 60 + [429]
    assert replies[-1].json() == documented("error-rate-limit-429")


@check(requests_per_minute=60)
async def rate_limit_headers(walk: Walk):
    headers = (await walk.http.get("/v1/sessions")).headers
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("60", "59")
    assert 0 < int(headers["x-ratelimit-reset"]) - walk.clock.now.timestamp() <= 60


@check()
async def rate_limit_is_waited_for():
    limited = httpx.Response(429, json=documented("error-rate-limit-429"), headers={"retry-after": "0"})
    async with client_of(limited, httpx.Response(200, json=_SESSION)) as (client, asked):
        await client.sessions.get("sess_1")
    assert len(asked) == 2


@check(requests_per_minute=1)
async def scope_of_rate_limit(walk: Walk):
    assert (await walk.http.get("/v1/sessions")).status_code == 200
    assert (await walk.http.get("/v1/usage")).status_code == 429


@check()
async def cookie_of_the_web_app(walk: Walk):
    statuses = {path: await _status_by_cookie(walk, path) for path in ("/v1/usage", "/v1/sessions")}
    assert statuses == {"/v1/usage": 200, "/v1/sessions": 401}


@check()
async def name_of_the_cookie(walk: Walk):
    assert await _status_by_cookie(walk, "/v1/usage", "session") == 401
    assert await _status_by_cookie(walk, "/v1/usage", value="wrong") == 401


async def _status_by_cookie(
    walk: Walk, path: str, name: str = "agenthuman_session", value: str | None = None
) -> int:
    headers = {"x-api-key": "", "cookie": f"{name}={value or walk.emulator.api_key}"}
    return (await walk.http.get(path, headers=headers)).status_code
