"""What the embedded server answers before anybody is in."""

import base64
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from livekit.protocol import rtc

from agenthuman_plugins.emulator.room_server._signalling import Server

KEY, SECRET = "APIkey", "s" * 32


@pytest_asyncio.fixture
async def http() -> AsyncIterator[TestClient[Any, Any]]:
    application = Server(api_key=KEY, api_secret=SECRET).application()
    async with TestClient(TestServer(application)) as client:
        yield client


def bearer() -> dict[str, str]:
    claims = {"iss": KEY, "sub": "me", "exp": time.time() + 60, "video": {"roomJoin": True, "room": "here"}}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}


def wrapped(content: bytes, *, packed: bool = False) -> str:
    compression = (
        rtc.WrappedJoinRequest.Compression.GZIP if packed else rtc.WrappedJoinRequest.Compression.NONE
    )
    wrapper = rtc.WrappedJoinRequest(compression=compression, join_request=content)
    return base64.urlsafe_b64encode(wrapper.SerializeToString()).decode().rstrip("=")


async def test_health_check(http: TestClient[Any, Any]) -> None:
    """The root says that the server runs, to anybody."""
    answer = await http.get("/")
    assert (answer.status, await answer.text()) == (200, "OK")


@pytest.mark.parametrize(
    "path", ["/rtc/v1", "/rtc/v1/validate", "/rtc", "/rtc/validate", "/rtc/rtc/validate"]
)
async def test_nobody_comes_in_without_a_token(http: TestClient[Any, Any], path: str) -> None:
    """Every way in asks for the token first, and none answers 404, which clients take for an older server."""
    assert (await http.get(path)).status == 401


async def test_token_may_be_in_the_query(http: TestClient[Any, Any]) -> None:
    """Older clients put it there."""
    token = bearer()["Authorization"].removeprefix("Bearer ")
    answer = await http.get("/rtc/v1/validate", params={"access_token": token})
    assert (answer.status, await answer.text()) == (200, "success")


async def test_resume_is_refused_so_that_the_client_reconnects_in_full(http: TestClient[Any, Any]) -> None:
    """Only a resume may be answered with 404."""
    resume = rtc.JoinRequest(reconnect=True, participant_sid="PA_1").SerializeToString()
    answer = await http.get("/rtc/v1", params={"join_request": wrapped(resume)}, headers=bearer())
    assert answer.status == 404


@pytest.mark.parametrize("path", ["/rtc", "/rtc/validate", "/rtc/rtc/validate"])
async def test_older_client_is_told_what_to_do(http: TestClient[Any, Any], path: str) -> None:
    """The text becomes the client's error."""
    answer = await http.get(path, headers=bearer())
    assert answer.status == 400
    assert "use livekit >= 1.1.15" in await answer.text()


@pytest.mark.parametrize(
    "join_request",
    [
        pytest.param("!", id="not base64"),
        pytest.param(base64.urlsafe_b64encode(b"\xff\xff").decode(), id="no message"),
        pytest.param(wrapped(b"\xff\xff"), id="no request"),
        pytest.param(wrapped(b"plain", packed=True), id="not packed"),
        pytest.param(wrapped(gzip.compress(bytes(1_000_000)), packed=True), id="too long"),
        pytest.param(wrapped(gzip.compress(b"x" * 100)[:-9], packed=True), id="cut off"),
    ],
)
async def test_broken_join_request_is_a_client_error(http: TestClient[Any, Any], join_request: str) -> None:
    """What cannot be read is answered with 400, in bounded time and memory."""
    answer = await http.get("/rtc/v1", params={"join_request": join_request}, headers=bearer())
    assert answer.status == 400
    assert (await answer.text()).startswith("invalid join_request: ")
