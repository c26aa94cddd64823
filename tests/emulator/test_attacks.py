"""Requests that are meant to break the emulator: each is refused, in bounds, and the next one is answered normally."""

import asyncio
import contextlib
import io
import json
import logging
import re
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import websockets
from PIL import Image

from agenthuman_plugins.emulator import Emulator, _catalogue, _faces, _pictures, face, http_server
from agenthuman_plugins.emulator._errors import ServiceError
from tests.emulator.fakes import PROXY, World
from tests.emulator.pictures import portrait

LIMIT_S = 20.0  # hang limit
LISTS = [
    "/v1/sessions",
    "/v1/avatars",
    "/v1/agents",
    "/v1/links",
    "/v1/usage",
    "/emulator/sessions",
    "/emulator/faults",
]
VOICE_AGENT = {"provider": "p", "agent_id": "a", "auth_method": "public"}
START = "/v1/links/start-session"


@pytest.fixture
def rules() -> dict[str, Any]:
    return {"plan": "pro"}


@pytest.fixture
async def sound(world: World) -> AsyncIterator[World]:
    """An emulator that must still answer every list when the test is over."""
    yield world
    for path in LISTS:
        reply = await world.http.get(path)
        assert reply.status_code == 200, path
        json.loads(reply.content, parse_constant=pytest.fail)


def nested(depth: int, kind: str) -> str:
    return '{"a":' * depth + "1" + "}" * depth if kind == "objects" else "[" * depth + "]" * depth


# --- what a body says


@pytest.mark.parametrize("kind", ["objects", "lists"])
@pytest.mark.parametrize(("depth", "status"), [(60, 200), (70, 400), (253, 400), (900, 400), (100_000, 400)])
async def test_depth_has_a_limit(depth: int, status: int, kind: str, sound: World):
    """What could not be written as JSON again, within metadata, is not taken."""
    body = json.dumps(PROXY)[:-1] + f', "metadata": {{"a": {nested(depth, kind)}}}}}'
    assert (await sound.http.post("/v1/sessions", content=body)).status_code == status


@pytest.mark.parametrize(
    "value", ["NaN", "-Infinity", "1e400", "-1e999", "9" * 5_000, '"\\ud800', "\x00", '"\x00"']
)
async def test_what_is_no_standard_json_is_refused(value: str, sound: World):
    """Numbers that JSON does not have, and texts with raw control characters."""
    body = json.dumps(PROXY)[:-1] + f', "metadata": {{"a": {value}}}}}'
    reply = await sound.http.post("/v1/sessions", content=body)
    assert (reply.status_code, reply.json()["error"]["message"]) == (
        400,
        "The request body is not valid JSON",
    )


@pytest.mark.parametrize(
    "value", ["9" * 4_000, "1e308", '"\\ud800"', '"\\u0000"', '"\\u202e"', '{"\\ud800": "\\u0000"}']
)
async def test_odd_values_come_back_as_sent(value: str, sound: World):
    """What JSON has is kept, however odd."""
    body = json.dumps(PROXY)[:-1] + f', "metadata": {{"a": {value}}}}}'
    reply = await sound.http.post("/v1/sessions", content=body)
    assert reply.json()["session"]["metadata"] == {"a": json.loads(value)}


@pytest.mark.parametrize("odd", ["\ud800", "\0", "\u202e", "\x1b[31m", "é", "x" * 300, "a\nb"])
async def test_odd_avatar_ids_do_not_exist(odd: str, sound: World):
    """An id that no address could carry is refused by every call that takes one."""
    avatar = f"avat_{odd}"
    for path, body in (
        ("/v1/sessions", PROXY | {"avatar": avatar}),
        ("/v1/avatars/preview", {"avatar_id": avatar}),
    ):
        assert (await sound.http.post(path, content=json.dumps(body))).status_code == 404, path


@pytest.mark.parametrize("odd", ["%00", "%ED%A0%80", "%FF", "%0D%0A", "%E2%80%AE", "9" * 5_000])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/sessions/{}"),
        ("POST", "/v1/sessions/{}/end"),
        ("GET", "/v1/sessions?status={}"),
        ("DELETE", "/v1/avatars/{}"),
        ("GET", "/v1/agents/{}"),
        ("GET", "/v1/links/{}"),
        ("GET", "/v1/links?status={}"),
        ("GET", "/emulator/pictures/avat_{}/preview"),
        ("GET", "/emulator/pictures/{}/{}"),
    ],
)
async def test_odd_addresses_are_not_there(method: str, path: str, odd: str, sound: World):
    """Whatever bytes a path or a query holds, it is a call for something that is not there."""
    reply = await sound.http.request(method, path.replace("{}", odd))
    assert reply.status_code in ((200,) if "?" in path else (400, 404, 405)), reply.text


@pytest.mark.parametrize("value", [b"\xff\xfe", b"\xed\xa0\x80", b"x" * 10_000])
async def test_odd_keys_are_wrong_keys(value: bytes, sound: World):
    """Whatever bytes the key has."""
    reply = await sound.http.get("/v1/sessions", headers={"x-api-key": value})
    assert (reply.status_code, reply.json()) == (401, {"error": "Invalid API key"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/agents", {"name": "\ud800\0", "voice_agent": VOICE_AGENT}, id="agent"),
        pytest.param(
            "/emulator/faults", {"fault": "status", "times": 10**4_000, "path": "*[" * 500}, id="fault"
        ),
        pytest.param("/emulator/faults", {"fault": "malformed_body", "body": "\ud800"}, id="body"),
    ],
)
async def test_odd_texts_are_kept_without_harm(path: str, body: dict[str, Any], sound: World):
    """A name, a pattern or an answer may be any text."""
    assert (await sound.http.post(path, content=json.dumps(body))).status_code == 200
    if body.get("fault") == "malformed_body":
        assert (await sound.http.get("/v1/usage")).content == b"?"


async def test_values_have_a_limit(sound: World):
    """Millions of empty lists would take a hundred times the memory of their text."""
    body = b"[" + b"[]," * 200_000 + b"[]]"
    reply = await sound.http.post("/v1/agents", content=body)
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "The JSON has too many values")


# --- how large a request is


@pytest.mark.parametrize(
    ("path", "limit"), [(START, 1), ("/v1/agents", 1), ("/v1/sessions", 16), ("/v1/avatars/upload-face", 16)]
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_has_a_limit(path: str, limit: int, chunked: bool, sound: World):
    """More than the limit is not even read, whether its length is told or not."""
    asked = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield bytes(1024 * 1024)

    headers = {"content-length": str(100 * 1024 * 1024)} if not chunked else {}
    reply = await sound.http.post(path, content=pieces(), headers=headers)
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "The request body is too large")
    assert asked <= limit + 2


@pytest.mark.parametrize("path", [START, "/v1/sessions"])
async def test_body_of_a_stranger_is_not_read(path: str):
    """Over a real connection the rest of a long body is not taken; the answer tells why."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Emulator(media=False) as emulator:
        async with _connected(emulator) as (reader, writer), asyncio.timeout(LIMIT_S):
            writer.write(head.encode())
            for _ in range(3):
                writer.write(b"100000\r\n" + bytes(0x100000) + b"\r\n")
            status = await reader.readline()
            assert status.split()[1] == (b"400" if path == START else b"401")
        await _answers(emulator)


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        pytest.param("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n" * 50, "The form has too many parts", id="parts"),
        pytest.param("multipart/form-data; boundary=x", b"--x\r\n" + b"a: b\r\n" * 9_000 + b"\r\n--x--", "A part of the form has too long a header", id="header"),
        pytest.param("multipart/form-data; boundary=x", b"\n" * 15_000_000, "No file uploaded", id="lines"),
        pytest.param("multipart/form-data; boundary=" + "(" * 30_000, b"--x", "No file uploaded", id="comments"),
        pytest.param("multipart/form-data" + ';a="' * 10_000, b"--x", "No file uploaded", id="quotes"),
        pytest.param("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name" + b';a*0="' * 600 + b"\r\n\r\n--x--", "No file uploaded", id="parameters"),
        pytest.param("multipart/form-data; boundary=\xff\xfe", b"--x", "No file uploaded", id="no-text"),
        pytest.param("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=file", "Unsupported image format", id="cut-off"),
    ],
)  # fmt: skip
async def test_forms_have_limits(content_type: str, body: bytes, message: str, sound: World):
    """A form that is none, or has more to it than a picture needs, costs next to nothing."""
    headers = {"content-type": content_type.encode("latin-1")}
    async with asyncio.timeout(5):
        reply = await sound.http.post("/v1/avatars/upload-face", content=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, message)


# --- how a request arrives


@contextlib.asynccontextmanager
async def _connected(
    emulator: Emulator,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = httpx.URL(emulator.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _answers(emulator: Emulator) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        reply = await http.get(f"{emulator.url}/v1/usage", headers={"x-api-key": emulator.api_key})
        assert reply.status_code == 200


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /v1/usage HTTP/1.1\r\nHost: local", id="half-a-header"),
        pytest.param(b"POST /v1/links/start-session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{", id="half-a-body"),
        pytest.param(b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{", id="half-a-body-without-a-key"),
        pytest.param(b"POST /window/emulator/clock HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{", id="half-a-body-for-the-window"),
        pytest.param(b"POST /watch/sess_1/offer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{", id="half-an-offer"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", id="half-a-handshake"),
        pytest.param(b"GET /v1/usage HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/", id="after-a-request"),
    ],
)  # fmt: skip
async def test_half_a_request_is_dropped(
    begun: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A connection whose request does not arrive is closed, although it goes on drop by drop; no log line."""
    monkeypatch.setattr(http_server, "_ARRIVAL_LIMIT_S", 0.3)
    async with Emulator(media=False) as emulator:
        async with _connected(emulator) as (reader, writer), asyncio.timeout(LIMIT_S):
            writer.write(begun)

            async def drip() -> None:
                while True:
                    await asyncio.sleep(0.02)
                    writer.write(b"a" if begun else b"")

            dripping = asyncio.create_task(drip())
            with contextlib.suppress(ConnectionError):
                while await reader.read(1_000):
                    pass
            dripping.cancel()
        await _answers(emulator)
    assert caplog.records == []


async def test_slow_answers_and_open_sockets_are_not_dropped(monkeypatch: pytest.MonkeyPatch):
    """The limit is for what the client has to send: an answer may take longer, and a WebSocket may be silent."""
    monkeypatch.setattr(http_server, "_ARRIVAL_LIMIT_S", 0.1)
    async with (
        Emulator(media=False) as emulator,
        httpx.AsyncClient(trust_env=False, base_url=emulator.url) as http,
    ):
        http.headers["x-api-key"] = emulator.api_key
        session = (await http.post("/v1/sessions", json=PROXY)).json()["session"]
        async with websockets.connect(emulator.gateway_url, proxy=None) as gateway:
            emulator.fail("delay", path="/v1/usage", delay_s=0.5)
            assert (await http.get("/v1/usage")).status_code == 200
            first = {name: session[name] for name in ("session_id", "session_token")}
            await gateway.send(json.dumps({"type": "session.init", **first}))
            assert json.loads(await gateway.recv())["type"] == "connection.established"


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000 + b"\r\n", id="many-headers"),
        pytest.param(b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n", id="long-address"),
        pytest.param(b"GET /\xed\xa0\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n", id="bytes-in-the-address"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two-hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n\x00\r\n\r\n", id="behind-a-request"),
    ],
)
async def test_garbage_is_refused(garbage: bytes, caplog: pytest.LogCaptureFixture):
    """What is no HTTP gets 400, or nothing; it is no error of ours."""
    async with Emulator(media=False) as emulator:
        async with _connected(emulator) as (reader, writer), asyncio.timeout(LIMIT_S):
            writer.write(garbage)
            with contextlib.suppress(ConnectionError):
                assert re.match(rb"$|HTTP/1.1 40[04] ", await reader.readline())
        await _answers(emulator)
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


@pytest.mark.parametrize(
    "first", ["[" * 100_000, '{"a": NaN}', "[" + "[]," * 300_000 + "[]]", "\x00", '{"type": 1e400}']
)
async def test_first_message_of_the_gateway_is_checked(first: str):
    """It is JSON in the same bounds, or the connection is over."""
    async with Emulator(media=False) as emulator:
        async with websockets.connect(emulator.gateway_url, proxy=None) as gateway:
            await gateway.send(first)
            assert json.loads(await gateway.recv()) == {"type": "error", "error": "Message is not valid JSON"}
            with pytest.raises(websockets.ConnectionClosed):
                await gateway.recv()
        await _answers(emulator)


# --- pictures


def _png(
    width: int, height: int, colours: int = 2, bits: int = 8, more: bytes = b"", cut: int | None = None
) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    row = bytes(1 + (width * channels * bits + 7) // 8)
    packer = zlib.compressobj(9)
    pixels = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )[:cut]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _many_scans() -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    content = _saved(Image.new("RGB", (4_900, 4_900)), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xc4") : -2]
    return content[:-2] + last * 2_000 + b"\xff\xd9"


def _text_bomb() -> bytes:
    text = b"Comment\0\0" + zlib.compress(bytes(300_000_000), 9)
    return struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))


BOMBS = {
    "a-gigapixel": lambda: _png(30_000, 30_000, colours=0, bits=1),
    "just-allowed": lambda: _png(5_000, 5_000, colours=6, bits=16),
    "just-allowed-webp": lambda: _saved(Image.new("RGBA", (5_000, 5_000)), "WEBP", lossless=True, method=0),
    "thin": lambda: _png(1, 2_000_000, colours=0, bits=1),
    "flat": lambda: _png(20_000_000, 1, colours=0, bits=1),
    "scans": _many_scans,
    "text": lambda: _png(8, 8, more=_text_bomb()),
    "gif": lambda: b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x08\x01\x00\x00;",
    "animation": lambda: _saved(
        Image.new("RGB", (2_000, 2_000)), "GIF", save_all=True, append_images=[Image.new("RGB", (2_000, 2_000), (i, 0, 0)) for i in range(6)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_small_files_with_large_pictures_stay_in_bounds(bomb: str):
    """What a file would take is known before it is decoded: at most 550 MB and a few seconds, whatever it holds."""
    content = BOMBS[bomb]()
    assert len(content) < 3_000_000
    child = subprocess.run(
        [sys.executable, "-m", "tests.emulator.a_picture"],
        input=content,
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    took = json.loads(child.stdout)
    assert took["refusal"]
    assert took["mb"] < 550, took
    assert took["cpu_s"] < 10, took


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_png(0, 10), id="no-width"),
        pytest.param(_png(10, 0), id="no-height"),
        pytest.param(_png(40, 40, cut=60), id="cut-off"),
        pytest.param(portrait()[:-4_000], id="half-a-face"),
        pytest.param(_png(1, 1)[:16] + struct.pack(">I", 2**31 - 1) + _png(1, 1)[20:40], id="huge-header"),
        pytest.param(_saved(Image.new("CMYK", (60, 60)), "JPEG"), id="cmyk"),
        pytest.param(_saved(Image.new("I;16", (60, 60)), "PNG"), id="16-bit-grey"),
        pytest.param(_saved(Image.new("LA", (60, 60)), "PNG"), id="grey-and-alpha"),
        pytest.param(_saved(Image.new("1", (60, 60)), "PNG"), id="one-bit"),
        pytest.param(_saved(Image.new("P", (60, 60)), "GIF"), id="palette"),
        pytest.param(_saved(Image.new("RGB", (1, 1)), "WEBP"), id="one-pixel"),
        pytest.param(_saved(Image.new("RGB", (16_000, 2)), "JPEG"), id="a-line"),
        pytest.param(b"GIF89a\x0a\x00\x0a\x00\x00\x00\x00;", id="gif-without-a-picture"),
        pytest.param(b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff", id="webp-header"),
        pytest.param(b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01", id="jpeg-header"),
        pytest.param(b"\xff\xd8\xff\xe1\x00\x10Exif\x00\x00MM\x00*\xff\xff\xff\xff" + _saved(Image.new("RGB", (40, 40)), "JPEG")[2:], id="exif"),
    ],
)  # fmt: skip
async def test_odd_pictures_are_refused(content: bytes, sound: World):
    """Broken, empty, thin and odd ones are HTTP 400, and make nothing."""
    reply = await sound.http.post("/v1/avatars/upload-face", files={"file": content})
    assert reply.status_code == 400, reply.text
    assert sound.service.catalogue.own == []


async def test_pictures_that_wait_hold_nothing_up(sound: World, monkeypatch: pytest.MonkeyPatch):
    """However many uploads wait for their turn, whatever else needs a thread goes on."""
    read = threading.Event()
    monkeypatch.setattr(_faces, "make_avatar_pictures", lambda _: read.wait(LIMIT_S))
    more_than_threads = [asyncio.create_task(sound.service.checked_picture(b"")) for _ in range(40)]
    await asyncio.sleep(0)  # each waits for its turn now
    try:
        async with asyncio.timeout(LIMIT_S / 2):
            assert (await sound.http.get("/emulator/pictures/avat_1/preview")).status_code == 200
    finally:
        read.set()
        await asyncio.gather(*more_than_threads)


async def test_drawn_pictures_are_not_kept_without_limit(sound: World, monkeypatch: pytest.MonkeyPatch):
    """Anybody may ask for the face of any id; only the latest are kept."""
    blank = SimpleNamespace(draw=lambda *_: np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(face, "Face", lambda *_: blank)  # a true one takes a tenth of a second
    del sound.http.headers["x-api-key"]
    for number in range(_catalogue._KEPT_PORTRAITS + 3):
        assert (await sound.http.get(f"/emulator/pictures/avat_{number}/preview")).status_code == 200
    sound.http.headers["x-api-key"] = "ah_test_1"
    assert _catalogue._portrait.cache_info().currsize <= 64
    _catalogue._portrait.cache_clear()


# --- addresses that the emulator is asked to fetch


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine that nobody may be led to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener.getsockname()[1]
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "0", "127.255.255.254",
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fe80::1]", "[fc00::1]", "[ff02::1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[2001:db8::1]", "user@127.0.0.1", "127.0.0.1.",
    ],
)  # fmt: skip
async def test_addresses_that_are_not_public_are_refused(host: str, listening: int, sound: World):
    """No connection is made to this machine or to a private network, in whatever form the address comes."""
    url = f"http://{host}:{listening}/me.png"
    for path, body in (
        ("/v1/avatars/upload-face", {"image_url": url}),
        ("/v1/sessions", PROXY | {"avatar": url}),
    ):
        async with asyncio.timeout(LIMIT_S):
            reply = await sound.http.post(path, json=body)
        assert (reply.status_code, reply.json()["error"]["message"]) == (
            400,
            "The image could not be fetched",
        )


async def test_open_and_closed_ports_look_alike(listening: int, sound: World):
    """The refusal is the same, to the byte."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    replies = [
        await sound.http.post("/v1/avatars/upload-face", json={"image_url": f"http://127.0.0.1:{each}/"})
        for each in (listening, port)
    ]
    assert replies[0].content == replies[1].content


class _Names:
    """What names lead to: each answer is used once, as with a name whose owner changes it between two looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[str]) -> None:
        self._answers = {f"{name}.example": list(answer) for name, answer in answers.items()}
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._look_up)

    async def _look_up(self, host: str, port: Any, **_: Any) -> list[Any]:
        address = self._answers[host].pop(0) if host in self._answers else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A web site on 127.0.0.1, which counts as public for the test, as nothing else on this machine does."""
    connections: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        if path.startswith("/to/"):
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {path[4:]}\r\nContent-Length: 0\r\n\r\n".encode())
        elif path == "/picture":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\npicture")
        elif path == "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not writer.is_closing():
                writer.write(b".")
                await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()

    monkeypatch.setattr(_pictures, "_is_public", lambda address: str(address) == "127.0.0.1")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*connections, return_exceptions=True)


async def test_public_picture_is_fetched(site: int, monkeypatch: pytest.MonkeyPatch):
    """A name is asked once, and what it answered is what is connected to."""
    _Names(monkeypatch, pictures=["127.0.0.1", "10.0.0.1"])
    assert await _pictures.fetch(f"http://pictures.example:{site}/picture", allow_private=False) == b"picture"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/to/http://10.0.0.1/", id="address"),
        pytest.param("/to/http://inner.example/", id="name"),
        pytest.param("/to//inner.example/", id="without-a-scheme"),
        pytest.param("/to/file:///etc/passwd", id="file"),
        pytest.param("/to/http://pictures.example/picture", id="the-same-name-with-another-answer"),
        pytest.param("/to/http://[", id="no-address"),
    ],
)
async def test_redirect_leads_to_no_private_address(path: str, site: int, monkeypatch: pytest.MonkeyPatch):
    """Every step is judged anew."""
    _Names(monkeypatch, pictures=["127.0.0.1", "10.0.0.1"], inner=["192.168.0.1"])
    with pytest.raises(ServiceError, match="could not be fetched"):
        await _pictures.fetch(f"http://pictures.example:{site}{path}", allow_private=False)


@pytest.mark.parametrize(("address", "asked"), [("93.184.216.34", True), ("10.0.0.1", False)])
async def test_proxy_is_asked_for_the_name(address: str, asked: bool, monkeypatch: pytest.MonkeyPatch):
    """Behind a proxy of the environment the name goes out as it came, if what it leads to here is public."""
    requests: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\npicture")
        writer.close()
        await writer.wait_closed()

    _Names(monkeypatch, pictures=[address])
    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name, value in (("http_proxy", url), ("HTTP_PROXY", url), ("no_proxy", ""), ("NO_PROXY", "")):
            monkeypatch.setenv(name, value)
        with contextlib.nullcontext() if asked else pytest.raises(ServiceError):
            assert await _pictures.fetch("http://pictures.example/me.png", allow_private=False) == b"picture"
    assert [request.split()[1] for request in requests] == [b"http://pictures.example/me.png"] * asked


async def test_fetch_has_one_limit_for_the_whole(site: int, monkeypatch: pytest.MonkeyPatch):
    """A site that sends for ever, drop by drop, is left."""
    monkeypatch.setattr(_pictures, "_FETCH_TIMEOUT_S", 0.2)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ServiceError, match="could not be fetched"):
            await _pictures.fetch(f"http://127.0.0.1:{site}/endless", allow_private=False)


async def test_private_addresses_can_be_allowed(site: int, world_of: Any, monkeypatch: pytest.MonkeyPatch):
    """With `allow_private_urls` a picture on this machine is fetched, and then checked like every other."""
    monkeypatch.undo()
    world = world_of(plan="pro", allow_private_urls=True)
    reply = await world.http.post(
        "/v1/avatars/upload-face", json={"image_url": f"http://127.0.0.1:{site}/picture"}
    )
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "Unsupported image format")
