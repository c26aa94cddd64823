"""A service in memory, time that costs nothing, and both clients behind one handle."""

import asyncio
import inspect
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, LiveKitRoom
from agenthuman_plugins.client._config import Clock
from tests.vcr_support import *  # noqa: F403 - fixtures

API_KEY = "ah_test_seeded-key-000000000000000000"
ROOM = LiveKitRoom("wss://rooms.example.com", "seeded-room-token")


@dataclass
class Time:
    """A clock that moves only when somebody waits."""

    now: float = 1_000_000.0
    waits: list[float] = field(default_factory=list)
    owner: str | None = None
    in_thread: int = 0  # what the client gives to a thread is run on the spot

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def start(self, work: Callable[[], None], _name: str) -> None:
        self.in_thread += 1
        try:
            work()
        finally:
            self.in_thread -= 1

    def clock(self) -> Clock:
        refs = (f"ref-{number}" for number in range(1, 1_000))
        return Clock(
            monotonic=lambda: self.now,
            wall=lambda: self.now,
            random=lambda: 0.0,
            sleep=self.sleep,
            asleep=self.asleep,
            start=self.start,
            new_ref=lambda: next(refs),
            owner=lambda: self.owner,
        )


@dataclass(frozen=True)
class Reply:
    """A fault: answer like this, without doing what was asked."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> httpx.Response:
        if isinstance(self.body, bytes):
            return httpx.Response(self.status, content=self.body, headers=self.headers)
        return httpx.Response(self.status, json=self.body, headers=self.headers)


@dataclass(frozen=True)
class Lost:
    """A fault: do what was asked, then let the answer be lost in this way."""

    failure: type[Exception] | Reply


# An exception's class is raised as httpx does it; an exception itself is a defect of somebody.
Fault = Reply | Lost | type[Exception] | Exception | None


class FakeService:
    """The four session calls, with faults in the order given."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.ended: list[str] = []
        self.faults: deque[Fault] = deque()
        self.list_omits_metadata = False
        self.keeps_metadata = True

    @property
    def running(self) -> list[str]:
        return [key for key, item in self.sessions.items() if item["status"] == "started"]

    @property
    def log(self) -> list[str]:
        """What was asked, as `POST /v1/sessions`."""
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def bodies(self, method: str, path: str) -> list[Any]:
        return [
            json.loads(request.content)
            for request in self.requests
            if (request.method, request.url.path) == (method, path)
        ]

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        match self.faults.popleft() if self.faults else None:
            case None:
                return self._process(request)
            case Reply() as reply:
                return reply.response()
            case Lost(failure=Reply() as reply):
                self._process(request)
                return reply.response()
            case Lost(failure=failure):
                self._process(request)
                raise failure("lost", request=request)
            case Exception() as defect:
                raise defect
            case failure:
                raise failure("failed", request=request)

    def _process(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path.strip("/").split("/"):
            case "POST", ["v1", "sessions"]:
                return self._create(json.loads(request.content))
            case "GET", ["v1", "sessions"]:
                wanted = request.url.params["status"]
                found = [item for item in self.sessions.values() if wanted in {"all", item["status"]}]
                hidden = {"session_token"} | ({"metadata"} if self.list_omits_metadata else set())
                return _ok(sessions=[_without(item, hidden) for item in found])
            case "GET", ["v1", "sessions", key] if key in self.sessions:
                return _ok(session=_without(self.sessions[key], {"session_token"}))
            case (("POST" | "PUT"), ["v1", "sessions", key, "end"]) if key in self.sessions:
                self.sessions[key] |= {"status": "ended", "ended_at": "2024-01-15T10:35:00Z"}
                self.ended.append(key)
                return _ok(session=_without(self.sessions[key], {"session_token", "metadata"}))
            case _:
                return Reply(404, {"success": False, "error": {"message": "Session not found"}}).response()

    def _create(self, body: dict[str, Any]) -> httpx.Response:
        key = f"sess_{len(self.sessions) + 1}"
        self.sessions[key] = {
            "session_id": key,
            "status": "started",
            "session_token": "seeded-session-token",
            "started_at": "2024-01-15T10:30:00Z",
            "ended_at": None,
            "aspect_ratio": body["aspect_ratio"],
            "metadata": body.get("metadata", {}) if self.keeps_metadata else {},
        }
        return _ok(session=self.sessions[key])


def _ok(**body: Any) -> httpx.Response:
    return httpx.Response(200, json={"success": True, **body})


def _without(item: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in hidden}


@dataclass
class Handle:
    """One of the two clients; tests written against it hold for both."""

    kind: str
    service: FakeService
    time: Time
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, use: Callable[[Any], Any]) -> Any:
        """Return `use(client)`, awaited where the client is async."""
        options = {"api_key": API_KEY, "_clock": self.time.clock(), **self.options}
        if self.kind == "sync":
            with httpx.Client(transport=httpx.MockTransport(self.service.handle)) as http:
                return use(AgentHuman(http_client=http, **options))

        async def run() -> Any:
            async with httpx.AsyncClient(transport=httpx.MockTransport(self.service.handle)) as http:
                result = use(AsyncAgentHuman(http_client=http, **options))
                return await result if inspect.isawaitable(result) else result

        return asyncio.run(run())

    def with_options(self, **options: Any) -> "Handle":
        return replace(self, options={**self.options, **options})


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, service: FakeService, time: Time) -> Handle:
    return Handle(request.param, service, time)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASE_URL", "AVATAR", "LOG"):
        monkeypatch.delenv(f"AGENTHUMAN_{name}", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
