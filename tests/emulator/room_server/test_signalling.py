"""What the embedded server answers before anybody is in."""

import asyncio
import base64
import contextlib
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient, TestServer
from livekit.protocol import rtc

from agenthuman_plugins.emulator.room_server._peer import Peer
from agenthuman_plugins.emulator.room_server._signalling import Server, serve

KEY, SECRET = "APIkey", "s" * 32
LIMIT_S = 30.0  # hang limit


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


def signal(**request: Any) -> bytes:
    return rtc.SignalRequest(**request).SerializeToString()


def offer(sdp: str) -> bytes:
    return signal(offer=rtc.SessionDescription(type="offer", sdp=sdp))


def candidate(text: str) -> bytes:
    return signal(trickle=rtc.TrickleRequest(candidateInit=text))


HALF_BUNDLE = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sctp-port:5000\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AA'] * 32)}\r\n"
)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\xff\xff\xff", id="no message"),
        pytest.param(bytes(100), id="zeros"),
        pytest.param(offer("v=0\r\nm=text 9 UDP/TLS/RTP/SAVPF 96\r\n"), id="offer of another kind"),
        pytest.param(offer("v=0\r\nm=video nine UDP/TLS/RTP/SAVPF\r\n"), id="offer without numbers"),
        pytest.param(offer(HALF_BUNDLE), id="bundle of a missing section"),
        pytest.param(candidate("{"), id="no JSON"),
        pytest.param(candidate("[]"), id="no object"),
        pytest.param(candidate("[" * 100_000), id="deep"),
        pytest.param(candidate('{"candidate": "candidate:1 1 udp x"}'), id="no candidate"),
    ],
)
async def test_malformed_message_is_one_line(
    message: bytes, http: TestClient[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Its sender is disconnected, the log says so in one line, and the others go on."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # aiortc's own; the process has another
    headers = bearer()
    join = f"/rtc/v1?join_request={wrapped(rtc.JoinRequest().SerializeToString())}"
    async with http.ws_connect(join, headers=headers) as socket, asyncio.timeout(LIMIT_S):
        await socket.send_bytes(message)
        while (await socket.receive()).type is WSMsgType.BINARY:
            pass
    records = [record for record in caplog.records if record.name != "aiohttp.access"]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert "\n" not in caplog.text.rstrip("\n")
    assert headers["Authorization"].split(".")[1] not in caplog.text
    assert (await http.get("/rtc/v1/validate", headers=headers)).status == 200


async def test_connection_of_half_an_offer_closes() -> None:
    """An offer that failed half-way leaves no second failure behind."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # aiortc's own, as above
    peer = Peer(on_connected=lambda: None, on_lost=lambda: None, on_data=lambda *_: None)
    with pytest.raises(AttributeError):
        await peer.answer(HALF_BUNDLE, [])
    await peer.aclose()


async def test_message_has_a_limit(http: TestClient[Any, Any]) -> None:
    """Who sends megabytes of signalling is disconnected."""
    join = f"/rtc/v1?join_request={wrapped(rtc.JoinRequest().SerializeToString())}"
    async with http.ws_connect(join, headers=bearer()) as socket, asyncio.timeout(LIMIT_S):
        await socket.send_bytes(bytes(2_000_000))
        while (await socket.receive()).type is WSMsgType.BINARY:
            pass
        assert socket.close_code == 1009


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET /rtc/v1?access_token=TOKEN\x01 HTTP/1.1\r\n\r\n", id="control character"),
        pytest.param(b"GET /rtc?access_token=TOKEN HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET /rtc?access_token=" + b"TOKEN" * 50_000 + b" HTTP/1.1\r\n\r\n", id="long address"),
        pytest.param(b"GET / HTTP/1.1\r\nAuthorization: Bearer TOKEN\xff\x00\r\n\r\n", id="broken header"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"TOKEN" * 50_000 + b"\r\n\r\n", id="long header"),
        pytest.param(b"\x00\x01TOKEN\r\n\r\n", id="no request"),
        pytest.param(
            b"GET /rtc/v1?access_token=eyJhbGciOiJIUzI1NiJ9.TOKEN.x HTTP/1.1\r\n\r\n", id="no token"
        ),
    ],
)
async def test_no_part_of_a_request_is_logged(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A broken request is at most one line, which quotes nothing of it, at whatever level."""
    caplog.set_level(logging.DEBUG)
    runner = await serve(api_key=KEY, api_secret=SECRET, host="127.0.0.1", port=0)
    try:
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(request_)
        async with asyncio.timeout(LIMIT_S):
            with contextlib.suppress(ConnectionError):
                assert (await reader.readline()).split()[1] in (b"400", b"401")
        writer.close()
    finally:
        await runner.cleanup()
    assert "TOKEN" not in caplog.text
    assert caplog.text.count("\n") <= 1 + caplog.text.count("Using selector")


@pytest.mark.parametrize(
    "claims", [{"attributes": ["a"]}, {"sub": 7}, {"sub": "\ud800"}, {"metadata": "\ud800"}, {"exp": "never"}]
)
async def test_odd_token_is_a_client_error(http: TestClient[Any, Any], claims: dict[str, Any]) -> None:
    """Whoever holds the key may still mint what no participant can be."""
    payload = jwt.decode(bearer()["Authorization"].split()[1], options={"verify_signature": False})
    token = jwt.api_jws.encode(json.dumps(payload | claims).encode(), SECRET, "HS256")
    join = f"/rtc/v1?join_request={wrapped(rtc.JoinRequest().SerializeToString())}"
    answer = await http.get(join, headers={"Authorization": f"Bearer {token}"})
    assert answer.status in (400, 401)


async def test_deep_body_is_a_client_error(http: TestClient[Any, Any]) -> None:
    """Also in the one call of the room service."""
    claims = {"iss": KEY, "sub": "me", "exp": time.time() + 60}
    claims |= {"video": {"roomJoin": True, "room": "here", "roomCreate": True}}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}
    answer = await http.post("/twirp/livekit.RoomService/DeleteRoom", data=b"[" * 100_000, headers=headers)
    assert (answer.status, (await answer.json())["code"]) == (400, "malformed")
