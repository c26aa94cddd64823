"""The WebSocket gateway over a real connection, with avatars that only confirm."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from agenthuman_plugins.emulator import Emulator, _server
from agenthuman_plugins.emulator._avatars import AvatarJob, OnEvent
from tests.contract.bodies import load as documented
from tests.emulator.conftest import until
from tests.emulator.fakes import OWN_ROOM, FakeAvatar

LIMIT_S = 30.0  # hang limit
DAILY = {"platform": "daily", "url": "https://x.daily.co/y", "token": "t"}


class Caller:
    """A caller with a session and a connection."""

    def __init__(
        self, emulator: Emulator, session: dict[str, Any], socket: websockets.ClientConnection
    ) -> None:
        self.emulator = emulator
        self.session = session
        self.socket = socket

    async def ask(self, message: Any) -> dict[str, Any]:
        await self.socket.send(message if isinstance(message, str) else json.dumps(message))
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT_S):
            return json.loads(await self.socket.recv())

    async def init(self) -> dict[str, Any]:
        await self.send_init()
        return await self.hear()

    async def send_init(self) -> None:
        example = documented("ws-session-init-own-room")
        message = {name: self.session.get(name, value) for name, value in example.items()}
        await self.socket.send(json.dumps(message))

    def ended_by(self) -> Any:
        return self.emulator.sessions()[0]["ended_by"]


async def post(emulator: Emulator, path: str, body: Any) -> Any:
    async with httpx.AsyncClient(
        base_url=emulator.url, headers={"x-api-key": emulator.api_key}, trust_env=False
    ) as http:
        reply = await http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with Emulator(media=False, sweep=False) as emulator:
        session = (await post(emulator, "/v1/sessions", {"avatar": "avat_1", "room": OWN_ROOM}))["session"]
        async with websockets.connect(emulator.gateway_url, proxy=None, max_size=None) as socket:
            yield Caller(emulator, session, socket)


@pytest.fixture
def avatars(monkeypatch: pytest.MonkeyPatch) -> list[FakeAvatar]:
    """The avatars of an emulator without media, which are on their way until a test says more."""
    avatars: list[FakeAvatar] = []

    def start(job: AvatarJob, on_event: OnEvent) -> FakeAvatar:
        avatars.append(FakeAvatar(job, on_event))
        return avatars[-1]

    monkeypatch.setattr(_server, "NoAvatar", start)
    return avatars


def speech(samples: int, rate: float = 16_000) -> dict[str, Any]:
    return {
        "type": "agent.speak",
        "audio": base64.b64encode(bytes(2 * samples)).decode(),
        "sample_rate": rate,
    }


@pytest.mark.parametrize("first", [False, True])
async def test_both_orders_of_established(first: bool, avatars: list[FakeAvatar]):
    """The connection is established once the avatar is there or, by a setting, at once; early speech waits for it."""
    async with Emulator(media=False, sweep=False, established_first=first) as emulator:
        session = (await post(emulator, "/v1/sessions", {"avatar": "avat_1", "room": OWN_ROOM}))["session"]
        async with websockets.connect(emulator.gateway_url, proxy=None) as socket:
            caller = Caller(emulator, session, socket)
            if first:
                assert (await caller.init())["type"] == "connection.established"
            else:
                await caller.send_init()
            await socket.send(json.dumps(speech(16)))
            await until(lambda: avatars[0].commands)
            if first:
                assert (await caller.hear())["audio_samples"] == 16
            avatars[0].tell({"event": "ready", "pid": 1})
            if not first:
                assert (await caller.hear())["type"] == "connection.established"
                assert (await caller.hear())["audio_samples"] == 16


@pytest.mark.parametrize("first", [False, True])
async def test_avatar_that_cannot_start(first: bool, avatars: list[FakeAvatar]):
    """In both orders the caller is told that no avatar will come, and shut out."""
    async with Emulator(media=False, sweep=False, established_first=first) as emulator:
        session = (await post(emulator, "/v1/sessions", {"avatar": "avat_1", "room": OWN_ROOM}))["session"]
        async with websockets.connect(emulator.gateway_url, proxy=None) as socket:
            caller = Caller(emulator, session, socket)
            await caller.send_init()
            if first:
                assert (await caller.hear())["type"] == "connection.established"
            avatars[0].tell({"event": "avatar_failed", "message": "no room"})
            assert await caller.hear() == {"type": "error", "error": "The avatar could not start"}
            async with asyncio.timeout(LIMIT_S):
                await socket.wait_closed()


async def test_ended_session_closes_the_connection(caller: Caller):
    """When the session is ended otherwise, the connection is closed in order."""
    await caller.init()
    await post(caller.emulator, f"/v1/sessions/{caller.session['session_id']}/end", {})
    async with asyncio.timeout(LIMIT_S):
        await caller.socket.wait_closed()
    assert (caller.socket.close_code, caller.ended_by()) == (1000, "caller")


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (speech(1), "First message must be session.init"),
        ([1], "First message must be session.init"),
        ("{", "Message is not valid JSON"),
        ({"type": "session.init"}, "session_id and token are required"),
        ({"type": "session.init", "session_id": "sess_1", "session_token": "t"}, "Session not found"),
    ],
)
async def test_wrong_first_message(message: Any, error: str, caller: Caller):
    """Without a valid first message the caller is told why, and shut out; no session ends."""
    assert await caller.ask(message) == {"type": "error", "error": error}
    async with asyncio.timeout(LIMIT_S):
        await caller.socket.wait_closed()
    assert caller.ended_by() is None


async def test_wrong_token(caller: Caller):
    """The token of the session is checked, and not repeated."""
    caller.session["session_token"] = "wrong-4711"
    refused = await caller.init()
    assert refused == {"type": "error", "error": "Invalid session token"}


async def test_token_is_not_logged(caplog: pytest.LogCaptureFixture):
    """No part of a session's token is logged, however talkative the program's logging is."""
    caplog.set_level(logging.CRITICAL, logger="websockets.client")  # the caller's own
    caplog.set_level(1)
    async with Emulator(media=False) as emulator:
        session = (await post(emulator, "/v1/sessions", {"avatar": "avat_1", "room": OWN_ROOM}))["session"]
        async with websockets.connect(emulator.gateway_url, proxy=None) as socket:
            assert (await Caller(emulator, session, socket).init())["type"] == "connection.established"
    assert "connection open" in caplog.text  # the capture works
    assert session["session_token"][-8:] not in caplog.text


async def test_second_connection_is_refused(caller: Caller):
    """One connection for each session; a second one neither gets in nor ends the first."""
    await caller.init()
    async with websockets.connect(caller.emulator.gateway_url, proxy=None) as second:
        other = Caller(caller.emulator, caller.session, second)
        assert (await other.init())["error"] == "Session is already connected"
    assert (await caller.ask(speech(16)))["audio_samples"] == 16


@pytest.mark.parametrize(
    "message",
    [
        "{",
        {"type": "agent.dance"},
        {"audio": ""},
        {"type": "agent.speak"},
        {"type": "agent.speak", "audio": "?"},
        {"type": "agent.speak", "audio": "AAAA"},  # three bytes
        {"type": "agent.speak", "audio": "AAA=", "sample_rate": "16000"},
        {"type": "agent.speak", "audio": "AAA=", "sample_rate": 1},
        {"type": "session.init"},
    ],
)
async def test_wrong_command(message: Any, caller: Caller):
    """A wrong command is an error message, and the connection goes on."""
    await caller.init()
    refused = await caller.ask(message)
    assert (refused["type"], isinstance(refused["error"], str)) == ("error", True)
    assert (await caller.ask(speech(16)))["audio_samples"] == 16


@pytest.mark.media
@pytest.mark.parametrize(
    ("fault", "first"),
    [(None, False), (None, True), ("avatar_crash", False), ("room_loss", False), ("avatar_silent", False)],
)
async def test_daily_avatar_plays_without_a_room(fault: str | None, first: bool):
    """A Daily session's speech, early or not, is played by a real worker at its own pace, as its timeline shows."""
    async with Emulator(room_server="embedded", sweep=False, established_first=first) as emulator:
        if fault:
            emulator.fail(fault)
        session = (await post(emulator, "/v1/sessions", {"avatar": "avat_1", "room": DAILY}))["session"]

        def seen() -> list[str]:
            return [entry["event"] for entry in emulator.sessions()[0]["timeline"]]

        async with websockets.connect(emulator.gateway_url, proxy=None) as socket:
            caller = Caller(emulator, session, socket)
            assert (await caller.init())["type"] == "connection.established"
            assert (await caller.ask(speech(32_000, rate=48_000)))["audio_samples"] == 10_666
            last = {None: "utterance_finished", "avatar_silent": "clear"}.get(fault, "exit")
            if fault == "avatar_silent":
                assert (await caller.ask({"type": "agent.interrupt"}))["type"] == "agent.interrupt.confirmed"
            await until(lambda: last in seen())
        timeline = emulator.sessions()[0]["timeline"]
    assert ("utterance_started" in seen()) == (fault != "avatar_silent")
    if fault is None:
        finished = next(entry for entry in timeline if entry["event"] == "utterance_finished")
        assert finished["interrupted"] is False
        assert 0.6 <= finished["position_s"] <= 0.7  # two thirds of a second, in blocks of 40 ms
