"""The service with fakes around it: avatars and rooms that only take notes."""

import asyncio
from typing import Any

import httpx

from agenthuman_plugins.emulator._app import create_app
from agenthuman_plugins.emulator._avatars import AvatarJob, OnEvent
from agenthuman_plugins.emulator._errors import ServiceError
from agenthuman_plugins.emulator._plans import PLANS
from agenthuman_plugins.emulator._proxy_rooms import ProxyRoom
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._store import Clock, Rules, SessionStore

KEY = "ah_test_1"
OWN_ROOM = {"platform": "livekit", "url": "wss://rooms.example", "token": "avatars-own-token"}
PROXY = {"avatar": "avat_1", "room": {"platform": "proxy"}}


class FakeAvatar:
    """An avatar that notes what is asked of it."""

    def __init__(self, job: AvatarJob, on_event: OnEvent) -> None:
        self.job = job
        self.tell = on_event
        self.commands: list[dict[str, Any]] = []
        self.stopped = asyncio.get_running_loop().create_future()
        on_event({"event": "avatar_starting"})

    def send(self, message: dict[str, Any]) -> None:
        self.commands.append(message)

    async def stop(self, reason: str) -> None:
        self.stopped.set_result(reason)


class FakeRooms:
    """Rooms that are there when a test says so."""

    def __init__(self) -> None:
        self.available = asyncio.Event()
        self.available.set()
        self.waiting = asyncio.Event()
        self.failure: ServiceError | None = None

    async def open(self, name: str) -> ProxyRoom:
        self.waiting.set()
        await self.available.wait()
        if self.failure:
            raise self.failure
        return ProxyRoom("ws://rooms.local", f"avatar:{name}", f"participant:{name}")


class World:
    """The service with fakes around it."""

    def __init__(self, clock: Clock, plan: str = "free", **rules: Any) -> None:
        self.avatars: list[FakeAvatar] = []
        self.rooms = FakeRooms()
        self.service = Service(
            SessionStore(Rules(PLANS[plan], **rules), clock), self.rooms, self._start, (640, 480)
        )
        transport = httpx.ASGITransport(
            create_app(self.service, [KEY, "ah_test_2"], allow_hosts=["emulator"]), raise_app_exceptions=False
        )
        self.http = httpx.AsyncClient(
            transport=transport, base_url="http://emulator", headers={"x-api-key": KEY}
        )

    def _start(self, job: AvatarJob, on_event: OnEvent) -> FakeAvatar:
        self.avatars.append(FakeAvatar(job, on_event))
        return self.avatars[-1]

    async def create(self, **changes: Any) -> dict[str, Any]:
        reply = await self.http.post("/v1/sessions", json=PROXY | changes)
        assert reply.status_code == 200, reply.text
        return reply.json()["session"]

    async def observed(self) -> list[dict[str, Any]]:
        return (await self.http.get("/emulator/sessions")).json()["sessions"]
