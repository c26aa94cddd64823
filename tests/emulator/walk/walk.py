"""What the checks of the walk share: their list, and a service to ask."""

import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import websockets

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator, _service
from agenthuman_plugins.emulator._app import create_app
from tests.client.conftest import Time
from tests.emulator.conftest import FakeClock
from tests.emulator.fakes import OWN_ROOM
from tests.emulator.pictures import portrait

DAILY_ROOM = {"platform": "daily", "url": "https://x.daily.co/y", "token": "t"}
PROXY_ROOM = {"platform": "proxy"}
VOICE_AGENT = {"provider": "ElevenLabs", "agent_id": "el_1", "auth_method": "public"}
AGENT = {"name": "Support", "avatar_image_url": "https://a.example/b.jpg", "voice_agent": VOICE_AGENT}
LIMIT_S = 30.0  # hang limit

_ADDRESS = "http://127.0.0.1:8000"
_FREE_FORM = {"metadata"}  # the caller's own


@dataclass(frozen=True)
class Check:
    """What holds a fact.

    Attributes:
        served: Whether it needs a connection, and not the application alone.
        chain: Whether it starts real programs.
        options: Arguments of its `Emulator`.
    """

    function: Callable[..., Any]
    served: bool
    chain: bool
    options: dict[str, Any]


CHECKS: dict[str, list[Check]] = {}


def check(*, served: bool = False, chain: bool = False, **options: Any) -> Callable[[Any], Any]:
    """Make a function the check of the fact that its module and its name say.

    It takes a `Walk` if it has an argument.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        CHECKS.setdefault(name, []).append(Check(function, served or chain, chain, options))
        return function

    return register


def shape(value: Any) -> Any:
    """Return keys and types instead of values; numbers are one type, as in JSON."""
    if isinstance(value, dict):
        return {key: "object" if key in _FREE_FORM else shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


class Walk:
    """An emulator without media for one check, at the time of the documented examples.

    Attributes:
        clock: Its clock, which the check moves.
        http: Asks it with its key.
    """

    def __init__(self, emulator: Emulator, clock: FakeClock, http: httpx.AsyncClient) -> None:
        self.emulator = emulator
        self.clock = clock
        self.http = http
        self.service = emulator._service

    @property
    def client(self) -> AsyncAgentHuman:
        """Our client."""
        return AsyncAgentHuman(
            api_key=self.emulator.api_key, base_url=str(self.http.base_url), http_client=self.http
        )

    async def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Return the body of an answer that must be a success."""
        reply = await self.http.request(method, path, json=body, **options)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def refused(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str]:
        """Return status and message of an answer that must be a refusal."""
        reply = await self.http.request(method, path, json=body, **options)
        assert reply.status_code >= 400, reply.text
        error = reply.json()["error"]
        return reply.status_code, error if isinstance(error, str) else error["message"]

    async def create(self, **changes: Any) -> dict[str, Any]:
        """Create a session and return it as the create shows it; `...` leaves a field out."""
        return (await self.ok("POST", "/v1/sessions", create_body(**changes)))["session"]

    async def refused_create(self, **changes: Any) -> tuple[int, str]:
        """Return status and message of a create that must be refused."""
        return await self.refused("POST", "/v1/sessions", create_body(**changes))

    async def session(self, session: dict[str, Any]) -> dict[str, Any]:
        """Return a session as the get shows it."""
        return (await self.ok("GET", f"/v1/sessions/{session['session_id']}"))["session"]

    async def end(self, session: dict[str, Any], method: str = "POST") -> dict[str, Any]:
        """End a session and return the whole answer."""
        return await self.ok(method, f"/v1/sessions/{session['session_id']}/end")

    async def ended(self, **duration: float) -> dict[str, Any]:
        """Return a session that lasted so long, as the get shows it."""
        session = await self.create()
        self.clock.advance(**duration)
        await self.end(session)
        return await self.session(session)

    async def usage(self) -> dict[str, Any]:
        """Return the account's usage."""
        return (await self.ok("GET", "/v1/usage"))["usage"]

    async def upload(self, picture: bytes | None = None) -> dict[str, Any]:
        """Make an avatar of a picture."""
        files = {"file": ("a.png", picture or portrait(), "image/png")}
        return await self.ok("POST", "/v1/avatars/upload-face", files=files)

    async def agent(self, **changes: Any) -> dict[str, Any]:
        """Make an agent."""
        return (await self.ok("POST", "/v1/agents", AGENT | changes))["agent"]

    async def link(self, **changes: Any) -> dict[str, Any]:
        """Make a link to a new agent."""
        body = {"agent_id": (await self.agent())["agent_id"], **changes}
        return (await self.ok("POST", "/v1/links", body))["link"]

    async def start_by_link(self, link: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Start the session of a link."""
        return await self.ok("POST", "/v1/links/start-session", {"link_id": link["link_id"], **changes})

    def happens(self, session: dict[str, Any], event: str, **details: Any) -> None:
        """Let something happen to a session's avatar, as its worker reports it, and the service look."""
        self.service.store.note(self.service.store.get(session["session_id"]), {"event": event, **details})
        self.service.tick()

    def record(self) -> dict[str, Any]:
        """Return what the emulator saw of the newest session."""
        self.service.tick()
        return self.emulator.sessions()[0]


def create_body(**changes: Any) -> dict[str, Any]:
    """Return the body of a create; `...` leaves a field out."""
    body = {"avatar": "avat_1", "room": OWN_ROOM} | changes
    return {name: value for name, value in body.items() if value is not ...}


@contextlib.asynccontextmanager
async def walking(found: Check) -> AsyncIterator[list[Walk]]:
    """Yield the arguments of a check: an emulator of its own, if it takes one."""
    if not inspect.signature(found.function).parameters:
        yield []
        return
    clock = FakeClock()
    options = {"media": False, "clock": clock} if not found.chain else {"room_server": "embedded"}
    emulator = Emulator(**options | found.options)
    headers = {"x-api-key": emulator.api_key}
    async with contextlib.AsyncExitStack() as stack:
        if found.served:
            await stack.enter_async_context(emulator)
            http = httpx.AsyncClient(base_url=emulator.url, headers=headers, trust_env=False, timeout=LIMIT_S)
        else:
            app = create_app(emulator._service, [emulator.api_key])
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            http = httpx.AsyncClient(transport=transport, base_url=_ADDRESS, headers=headers)
            stack.push_async_callback(emulator._service.aclose)
        await stack.enter_async_context(http)
        yield [Walk(emulator, clock, http)]


@contextlib.contextmanager
def web_with(image: bytes) -> Iterator[list[str]]:
    """Have every address lead to an image; yields the addresses that were asked for."""
    asked: list[str] = []

    async def fetch(url: str, *_: Any, **__: Any) -> bytes:
        asked.append(url)
        return image

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_service, "fetch", fetch)
        yield asked


class Gateway:
    """A connection to the gateway."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket

    async def ask(self, message: Any) -> dict[str, Any]:
        """Send a message and return the answer."""
        await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        return json.loads(await self.socket.recv())


@contextlib.asynccontextmanager
async def connected(walk: Walk, session: dict[str, Any] | None = None) -> AsyncIterator[Gateway]:
    """Connect to the gateway; with a session its `session.init` is sent, and its answer heard."""
    async with websockets.connect(walk.emulator.gateway_url, proxy=None, max_size=None) as socket:
        gateway = Gateway(socket)
        if session is not None:
            assert (await gateway.ask(init(session)))["type"] == "connection.established"
        yield gateway


def init(session: dict[str, Any]) -> dict[str, Any]:
    """Return the first message of a session."""
    return {"type": "session.init", **{name: session[name] for name in ("session_id", "session_token")}}


@contextlib.asynccontextmanager
async def client_of(*answers: httpx.Response) -> AsyncIterator[tuple[AsyncAgentHuman, list[httpx.Request]]]:
    """Yield our client before a service that gives these answers, and what it was asked; waiting costs no time."""
    asked: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return left.pop(0)

    time = Time()
    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        yield AsyncAgentHuman(api_key="ah_test_1", http_client=http, _clock=time.clock()), asked
