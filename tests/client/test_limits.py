"""Time limits mean what they say, whatever the other side does."""

import asyncio
import contextlib
import socket
import threading
import time as real_time
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import httpx
import pytest

from agenthuman_plugins.client import (
    AgentHuman,
    APITimeoutError,
    AsyncAgentHuman,
    ConfigurationError,
    _http,
    _pools,
)
from agenthuman_plugins.client._config import Clock
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Time
from tests.client.wires import KINDS, Request, Wire, empty, hurried, reply, use_own, wire

LIMIT_S = 30.0  # hang limit only
GIF = b"GIF89a"

NO_LIMITS = [
    pytest.param(0, id="zero"),
    pytest.param(-1, id="negative"),
    pytest.param(float("nan"), id="nan"),
    pytest.param(float("inf"), id="infinite"),
    pytest.param("30", id="text"),
    pytest.param(True, id="bool"),
    pytest.param(..., id="ellipsis"),
    pytest.param([], id="list"),
]
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "create": lambda c, limit: c.sessions.create(room=ROOM, timeout=limit),
    "open": lambda c, limit: c.sessions.open(room=ROOM, timeout=limit),
    "start-by-link": lambda c, limit: c.links.start_session("lnk_1", timeout=limit),
    "get": lambda c, limit: c.sessions.get("sess_1", timeout=limit),
    "list": lambda c, limit: c.sessions.list(timeout=limit),
    "find": lambda c, limit: c.sessions.find("ref-1", timeout=limit),
    "start": lambda c, limit: c.sessions.start("sess_1", timeout=limit),
    "end": lambda c, limit: c.sessions.end("sess_1", timeout=limit),
    "upload": lambda c, limit: c.avatars.upload_face(GIF, timeout=limit),
    "avatars": lambda c, limit: c.avatars.list(timeout=limit),
    "usage": lambda c, limit: c.usage.get(timeout=limit),
    "request": lambda c, limit: c.request("GET", "/v1/usage", timeout=limit),
    "with-options": lambda c, limit: c.with_options(timeout=limit),
    "close": lambda c, limit: (c.close if isinstance(c, AgentHuman) else c.aclose)(timeout=limit),
}


@pytest.mark.parametrize("limit", NO_LIMITS)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_limit_is_refused_before_the_wire(
    call: str, limit: object, client: Handle, service: FakeService
) -> None:
    """0, a negative number, NaN, infinity or no number as a limit is an error, and nothing is sent."""
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        client(lambda c: CALLS[call](c, limit))
    assert service.requests == []


@pytest.mark.parametrize("limit", [*NO_LIMITS, pytest.param(None, id="none")])
@pytest.mark.parametrize("cls", [AgentHuman, AsyncAgentHuman])
def test_what_is_no_limit_is_refused_at_construction(cls: Any, limit: object) -> None:
    """The limit of a client is checked like that of a call; `None` is none either."""
    with pytest.raises(ConfigurationError, match="timeout must be a number"):
        cls(api_key=API_KEY, timeout=limit)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [1e12, 10**400], ids=["centuries", "beyond-floats"])
def test_limit_that_means_for_ever_is_taken(kind: str, limit: float) -> None:
    """A limit longer than the system can count is as good as none: the call is sent and answered."""
    with wire(empty) as server:
        assert use_own(kind, lambda c: c.sessions.list(), base_url=server.url, timeout=limit) == []


def test_slow_create_within_its_limit_comes_with_its_token(
    client: Handle, service: FakeService, time: Time
) -> None:
    """A create that takes 33 of its 90 s is answered: no read gives up before the call does."""
    process = service.handle

    def slow(request: httpx.Request) -> httpx.Response:
        limit = request.extensions["timeout"]["read"]
        if limit < 33:
            raise httpx.ReadTimeout("late", request=request)
        time.now += 33
        return process(request)

    service.handle = slow  # type: ignore[method-assign]
    session = client(lambda c: c.sessions.create(room=ROOM, timeout=90))
    assert session.session_token.get_secret_value() == "seeded-session-token"
    assert service.requests[0].extensions["timeout"]["read"] >= 90


def dripping(answer: bytes, *, from_byte: int) -> Callable[[Request, socket.socket], bytes]:
    """A server that sends its answer whole to a point, and from there a byte at a time, for 3 s."""

    def drip(_: Request, connection: socket.socket) -> bytes:
        connection.sendall(answer[:from_byte])
        pause = threading.Event()
        for byte in answer[from_byte:-1]:
            pause.wait(3 / (len(answer) - from_byte))
            connection.sendall(bytes([byte]))
        return answer[-1:]

    return drip


ANSWER = reply(b'{"success": true, "sessions": []}' + b" " * 300, headers={"x-padding": "x" * 300})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("from_byte", [20, len(ANSWER) - 300], ids=["headers", "body"])
def test_dripping_answer_is_bound_by_the_limit(kind: str, from_byte: int) -> None:
    """An answer of which a byte comes now and then is given up when the time of the call is up."""
    begin = real_time.monotonic()
    with (
        wire(dripping(ANSWER, from_byte=from_byte)) as server,
        pytest.raises(APITimeoutError, match=r"time limit of the call|ReadTimeout"),
    ):
        use_own(kind, lambda c: c.sessions.list(), base_url=server.url, timeout=0.1)
    assert real_time.monotonic() - begin < 2


@contextlib.contextmanager
def never_accepting() -> Iterator[str]:
    """An address whose queue of connections is full, so that the system answers none."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


BILLED: dict[str, Callable[..., Any]] = {
    "create": lambda c, **options: c.sessions.create(room=ROOM, **options),
    "start-by-link": lambda c, **options: c.links.start_session("lnk_1", **options),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", BILLED)
@pytest.mark.parametrize(
    ("connect_s", "limit_s"),
    [pytest.param(5.0, 0.1, id="limit-below"), pytest.param(0.05, 20.0, id="limit-above")],
)
def test_host_that_never_accepts_is_a_timeout(
    kind: str, call: str, connect_s: float, limit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A billed call that could not be connected surely opened nothing, whichever limit is the shorter one."""
    monkeypatch.setattr(_http, "_CONNECT_S", connect_s)
    with never_accepting() as address, pytest.raises(APITimeoutError) as caught:
        use_own(kind, lambda c: BILLED[call](c, timeout=limit_s), base_url=address)
    assert type(caught.value) is APITimeoutError


@pytest.mark.parametrize("kind", KINDS)
def test_pool_without_a_free_connection_is_a_timeout(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A billed call that found no free connection surely opened nothing, and nothing is looked up."""
    options = _pools._options
    monkeypatch.setattr(_http, "_CONNECT_S", 0.2)
    monkeypatch.setattr(
        _pools, "_options", lambda *given: {**options(*given), "limits": httpx.Limits(max_connections=1)}
    )
    release = threading.Event()

    def hold(_: Request, __: socket.socket) -> bytes:
        release.wait(LIMIT_S)
        return reply({"success": True, "sessions": []})

    def sync(c: AgentHuman) -> None:
        busy = threading.Thread(target=c.sessions.list)
        busy.start()
        reached(server)
        try:
            c.sessions.create(room=ROOM, timeout=0.1)
        finally:
            release.set()
            busy.join()

    async def other(c: AsyncAgentHuman) -> None:
        busy = asyncio.ensure_future(c.sessions.list())
        await asyncio.to_thread(reached, server)
        try:
            await c.sessions.create(room=ROOM, timeout=0.1)
        finally:
            release.set()
            await busy

    with wire(hold) as server, pytest.raises(APITimeoutError):
        use_own(kind, sync if kind == "sync" else other, base_url=server.url)
    assert server.log == ["GET /v1/sessions?status=all"]


def reached(server: Wire) -> None:
    until = real_time.monotonic() + LIMIT_S
    while not server.requests and real_time.monotonic() < until:
        threading.Event().wait(0.001)


class Connecting:
    """Holds every new connection before it is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        connect = httpcore.SyncBackend.connect_tcp
        aconnect = httpcore.AnyIOBackend.connect_tcp

        def held(*args: Any, **kwargs: Any) -> Any:
            self.begun.set()
            self.go_on.wait(LIMIT_S)
            return connect(*args, **kwargs)

        async def aheld(*args: Any, **kwargs: Any) -> Any:
            self.begun.set()
            await asyncio.to_thread(self.go_on.wait, LIMIT_S)
            return await aconnect(*args, **kwargs)

        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", held)
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", aheld)


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> Connecting:
    return Connecting(monkeypatch)


@pytest.mark.parametrize("call", BILLED)
def test_interrupted_call_that_was_connecting_never_leaves(call: str, connecting: Connecting) -> None:
    """Ctrl-C while a billed request still connects: the connection may come about, the request does not."""

    def interrupted(event: threading.Event, seconds: float) -> bool:
        if not connecting.go_on.is_set():
            connecting.begun.wait(LIMIT_S)
            raise KeyboardInterrupt
        return event.wait(seconds)

    with wire(empty) as server:
        client = AgentHuman(api_key=API_KEY, base_url=server.url, _clock=Clock(wait=interrupted))
        with pytest.raises(KeyboardInterrupt):
            BILLED[call](client)
        connecting.go_on.set()
        assert client.sessions.list() == []
        client.close()
    assert server.log == ["GET /v1/sessions?status=all"]


@pytest.mark.parametrize("call", BILLED)
async def test_cancelled_call_that_was_connecting_never_leaves(call: str, connecting: Connecting) -> None:
    """Cancelled while a billed request still connects: the connection may come about, the request does not."""
    with wire(empty) as server:
        async with (
            asyncio.timeout(LIMIT_S),
            AsyncAgentHuman(api_key=API_KEY, base_url=server.url, _clock=hurried()) as client,
        ):
            task = asyncio.ensure_future(BILLED[call](client))
            await asyncio.to_thread(connecting.begun.wait, LIMIT_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            connecting.go_on.set()
            assert await client.sessions.list() == []
    assert server.log == ["GET /v1/sessions?status=all"]
