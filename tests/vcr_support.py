"""Cassettes: where they lie, what is written into them, and the guards around them.

They are recorded against the project's own emulator (see `cassettes/README.md`) and replayed with the network
blocked. A conftest gets all of it with `from tests.vcr_support import *`.
"""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from vcr.cassette import Cassette
from vcr.request import Request

from agenthuman_plugins.client._config import DEFAULT_BASE_URL
from agenthuman_plugins.client.redaction import redact

if TYPE_CHECKING:
    from agenthuman_plugins.emulator import Emulator

__all__ = ["cassette_is_played_fully", "recorded_service", "vcr_cassette_dir", "vcr_config"]

CASSETTES = Path(__file__).parent.parent / "cassettes"
API_KEY = "ah_test_recorded"

_REQUEST_HEADERS = {"accept", "content-type", "x-api-key", "x-retry-count"}
_RESPONSE_HEADERS = {
    "content-type",
    "retry-after",
    "x-request-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
}
_LOCAL = re.compile(rb"http://127\.0\.0\.1:\d+")
_BOUNDARY = re.compile(r"boundary=(\w+)")  # random for each upload
_FIXED_BOUNDARY = "0" * 32
# A token that was minted for a room: it is a secret, and another one at each run.
_MINTED = re.compile(rb"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_FIXED_TOKEN = b"scrubbed-room-token"
_ROOM_URL = "wss://rooms.example.com"
_ROOM_URLS = {"roomURL", "livekit_url", "ws_uri"}


@dataclass(frozen=True)
class RecordedService:
    """What a test needs to reach the service, recorded or played."""

    base_url: str
    api_key: str = API_KEY


@pytest.fixture(scope="module")
def vcr_cassette_dir(request: pytest.FixtureRequest) -> str:
    """One folder for each test module, since names of tests repeat."""
    return str(CASSETTES / Path(request.path).parent.name / Path(request.path).stem)


@pytest.fixture
def vcr_config() -> dict[str, Any]:
    """Settings of vcrpy."""
    return dict(VCR_CONFIG)


@pytest.fixture(autouse=True)
def cassette_is_played_fully(vcr: Cassette | None, record_mode: str) -> Iterator[None]:
    """A request that a cassette holds and no test makes any more is a lie about what we send."""
    yield
    if vcr is not None and record_mode == "none":
        assert vcr.all_played, f"{vcr.play_count} of {len(vcr)} entries were played"


@pytest.fixture
def recorded_service(record_mode: str) -> Iterator[Callable[..., RecordedService]]:
    """Make a service to talk to: the emulator while recording, else the public address, from the cassette.

    The arguments are those of `Emulator`, and mean something only while recording.
    """
    if record_mode == "none":
        yield lambda **_: RecordedService(DEFAULT_BASE_URL)
        return
    with emulators() as start:

        def record(**options: Any) -> RecordedService:
            return RecordedService(start(**options).url)

        yield record


def interactions(cassette: Path) -> list[tuple[Request, dict[str, Any]]]:
    """What a cassette holds, read as vcrpy reads it."""
    return list(Cassette.load(path=str(cassette)).data)


@contextmanager
def emulators() -> "Iterator[Callable[..., Emulator]]":
    """Emulators on a loop of their own thread, so that sync tests can talk to them."""
    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - only when recording

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="emulator")
    thread.start()
    running: list[Emulator] = []

    def start(**options: Any) -> Emulator:
        emulator = Emulator(media=False, api_key=API_KEY, **options)
        asyncio.run_coroutine_threadsafe(emulator.__aenter__(), loop).result(timeout=20)
        running.append(emulator)
        return emulator

    try:
        yield start
    finally:
        for emulator in running:
            asyncio.run_coroutine_threadsafe(emulator.__aexit__(None, None, None), loop).result(timeout=20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _clean_request(request: Request) -> Request:
    """Applied to what is recorded and to what is looked for, so both have the same address, boundary and tokens."""
    parts = urlsplit(request.uri)
    if parts.hostname == "127.0.0.1":
        request.uri = urlunsplit((*urlsplit(DEFAULT_BASE_URL)[:2], *parts[2:]))
    boundary = _BOUNDARY.search(str(request.headers.get("content-type", "")))
    request.headers = {
        name: value if boundary is None else value.replace(boundary[1], _FIXED_BOUNDARY)
        for name, value in request.headers.items()
        if name.lower() in _REQUEST_HEADERS
    }
    if request.body:
        body = _LOCAL.sub(DEFAULT_BASE_URL.encode(), bytes(request.body))
        body = _MINTED.sub(_FIXED_TOKEN, body)
        request.body = (
            body if boundary is None else body.replace(boundary[1].encode(), _FIXED_BOUNDARY.encode())
        )
    return request


def _clean_response(response: dict[str, Any]) -> dict[str, Any]:
    headers = {
        name: value for name, value in response["headers"].items() if name.lower() in _RESPONSE_HEADERS
    }
    body = _LOCAL.sub(DEFAULT_BASE_URL.encode(), response["body"]["string"])
    try:
        scrubbed = json.dumps(redact(_elsewhere(json.loads(body)))).encode()
    except ValueError:
        scrubbed = body
    return {**response, "headers": headers, "body": {"string": scrubbed}}


def _elsewhere(value: Any) -> Any:
    """Put the address of a room, or of a gateway, out of reach."""
    match value:
        case dict():
            return {
                key: _ROOM_URL if key in _ROOM_URLS and item != "try_again" else _elsewhere(item)
                for key, item in value.items()
            }
        case list():
            return [_elsewhere(item) for item in value]
        case _:
            return value


# No playback repeats, because an unexpected repeat may be a second billed session.
VCR_CONFIG: Mapping[str, Any] = {
    "match_on": ["method", "scheme", "host", "port", "path", "query", "body"],
    "filter_headers": [("x-api-key", "scrubbed")],
    "before_record_request": _clean_request,
    "before_record_response": _clean_response,
    "decode_compressed_response": True,
}
