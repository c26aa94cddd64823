"""Refusals."""

import httpx
import pytest

from agenthuman_plugins.client.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    ServerError,
    UsageLimitError,
)
from tests.contract.bodies import load as documented
from tests.emulator.walk import models
from tests.emulator.walk.walk import Walk, check, client_of, create_body


@check()
async def schema(walk: Walk):
    await walk.create()
    replies = [
        await walk.http.get("/v1/sessions", headers={"x-api-key": ""}),
        await walk.http.get("/v1/sessions/sess_none"),
        await walk.http.get("/v1/agents/agnt_none"),
        await walk.http.get("/v1/nothing"),
        await walk.http.post("/v1/sessions", json={}),
        await walk.http.post("/v1/sessions", json=create_body()),
    ]
    for reply in replies:
        models.Error.model_validate(reply.json())


@check()
async def with_suggestion(walk: Walk):
    error = (await walk.http.post("/v1/sessions", json={})).json()["error"]
    assert error["message"] == documented("error-bad-request-400")["error"]["message"]
    assert isinstance(error["suggestion"], str)


@check()
async def not_found(walk: Walk):
    assert (await walk.http.get("/v1/sessions/sess_none")).json() == documented("error-not-found-404")


@check()
async def access_denied(walk: Walk):
    reply = await walk.http.post("/v1/sessions", json=create_body(avatar="avat_exclusive"))
    assert reply.json() == documented("error-access-denied-403")


@check(minutes=1)
async def insufficient_minutes(walk: Walk):
    await walk.ended(minutes=1)
    reply = await walk.http.post("/v1/sessions", json=create_body())
    assert reply.json() == documented("error-insufficient-minutes")


@check()
async def details(walk: Walk):
    await walk.create()
    error = (await walk.http.post("/v1/sessions", json=create_body())).json()["error"]
    assert "concurrency" in error["details"]


@check()
async def server_error(walk: Walk):
    walk.service.store.newest_first = lambda _: 1 / 0  # type: ignore[assignment,method-assign]
    reply = await walk.http.get("/v1/sessions")
    assert reply.status_code == 500
    assert reply.json() == {"success": False, "error": {"message": "Something went wrong"}}
    assert reply.json()["error"]["message"] == documented("error-standard")["error"]["message"]


@check()
async def offline(walk: Walk):
    walk.emulator.fail("status", status=503)
    assert (await walk.refused("GET", "/v1/sessions"))[0] == 503
    assert (await walk.http.get("/v1/sessions")).status_code == 200


@check()
async def object_is_read():
    body = {"success": False, "error": {"code": "A", "message": "B", "suggestion": "C", "details": {"d": 1}}}
    async with client_of(httpx.Response(400, json=body)) as (client, _):
        with pytest.raises(BadRequestError, match="B") as caught:
            await client.usage.get()
    error = caught.value
    assert (error.code, error.suggestion, error.details) == ("A", "C.", {"d": 1})


@check()
async def string_is_read():
    for name, status, kind in (
        ("error-auth-401", 401, AuthenticationError),
        ("error-string", 404, NotFoundError),
    ):
        async with client_of(httpx.Response(status, json=documented(name))) as (client, _):
            with pytest.raises(kind, match=documented(name)["error"]):
                await client.agents.get("agnt_1")


@check()
async def limit_is_told_by_its_code():
    for status in (400, 402, 403, 429):
        answer = httpx.Response(status, json=documented("error-insufficient-minutes"))
        async with client_of(answer) as (client, asked):
            with pytest.raises(UsageLimitError):
                await client.sessions.create(avatar="avat_1")
        assert len(asked) == 1


@check()
async def missing_success():
    body = {"success": False, "error": "No"}
    async with client_of(httpx.Response(200, json=body)) as (client, _):
        with pytest.raises(APIStatusError, match="No"):
            await client.usage.get()


@check()
async def anything_else():
    async with client_of(httpx.Response(403, content=b"<html>nginx</html>")) as (client, _):
        with pytest.raises(APIStatusError, match="403") as caught:
            await client.usage.get()
    assert "nginx" not in str(caught.value)
    assert not isinstance(caught.value, ServerError)


@check()
async def offline_is_tried_again():
    offline = httpx.Response(503, json=documented("error-standard"), headers={"retry-after": "0"})
    async with client_of(offline, httpx.Response(200, json=documented("usage-summary"))) as (client, asked):
        await client.usage.get()
    assert len(asked) == 2
