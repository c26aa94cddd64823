"""How the emulator handles the process of an avatar, with a child that only takes notes."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from agenthuman_plugins.emulator import _avatars
from agenthuman_plugins.emulator._avatars import AvatarJob, WorkerAvatar
from tests.emulator.conftest import until

JOB = AvatarJob("avat_1", "ws://rooms.local", "avatars-token", 640, 480)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Children of these tests are `an_avatar.py`; what they tell ends up here."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(_avatars, "WORKER", "tests.emulator.an_avatar")
    return []


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


async def test_avatar_is_told_to_leave(events: list[dict[str, Any]]):
    """Stopping tells the process why and lets it leave by itself."""
    avatar = WorkerAvatar(JOB, events.append)
    await until(lambda: "ready" in names(events))
    await avatar.stop("session_ended")
    assert names(events) == ["avatar_starting", "ready", "left", "exit"]
    assert (events[2]["reason"], events[3]["code"]) == ("session_ended", 0)


async def test_avatar_gets_its_job(events: list[dict[str, Any]]):
    """The process is told the room, the look and the size, and takes the speaker from its token."""
    avatar = WorkerAvatar(JOB, events.append)
    await until(lambda: "ready" in names(events))
    await avatar.stop("session_ended")
    assert events[1]["settings"] == {
        "url": "ws://rooms.local",
        "token": "avatars-token",
        "avatar": "avat_1",
        "width": 640,
        "height": 480,
        "fps": 25,
        "sender": None,
        "faults": [],
    }


async def test_stop_reaches_an_avatar_on_its_way(events: list[dict[str, Any]]):
    """Stopping while the process still starts ends it; stopping again is harmless."""
    avatar = WorkerAvatar(JOB, events.append)
    me = psutil.Process()
    await until(me.children)
    await avatar.stop("session_ended")
    await avatar.stop("session_ended")
    assert me.children() == []
    assert names(events) == ["avatar_starting"]


async def test_what_comes_early_waits_for_the_avatar(events: list[dict[str, Any]]):
    """Commands that are sent while the process starts reach it, in order, once it is there."""
    avatar = WorkerAvatar(JOB, events.append)
    for number in range(3):
        avatar.send({"command": "note", "number": number})
    await until(lambda: names(events).count("noted") == 3)
    await avatar.stop("session_ended")
    assert [event["number"] for event in events if event["event"] == "noted"] == [0, 1, 2]


async def test_avatar_that_fails_is_reported(events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch):
    """A process that cannot join is an event with its sentence, not an exception."""
    monkeypatch.setattr(_avatars, "WORKER", "tests.emulator.no_such_avatar")
    avatar = WorkerAvatar(JOB, events.append)
    await until(lambda: "avatar_failed" in names(events))
    assert "ended before it was ready" in events[1]["message"]
    await avatar.stop("session_ended")


async def test_avatar_that_does_not_leave_is_ended(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    """A process that ignores the word is ended after a time limit."""
    monkeypatch.setattr(_avatars, "_LEAVE_TIMEOUT_S", 0.1)
    avatar = WorkerAvatar(AvatarJob("avat_deaf", JOB.url, JOB.token, 640, 480), events.append)
    await until(lambda: "ready" in names(events))
    async with asyncio.timeout(20):
        await avatar.stop("session_ended")
    assert psutil.Process().children() == []
