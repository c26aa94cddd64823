"""Settings, sender and reports."""

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from agenthuman_plugins.emulator.worker import _notifier
from agenthuman_plugins.emulator.worker._notifier import FINISHED, STARTED, PlaybackNotifier
from agenthuman_plugins.emulator.worker._sender import Sender
from agenthuman_plugins.emulator.worker._settings import WorkerSettings
from tests.emulator.worker.fakes import HANG_LIMIT_S

SETTINGS = {"url": "ws://127.0.0.1:1", "token": "secret-token", "avatar": "avat_1"}


def test_worker_starts_light() -> None:
    """An avatar is a process for each session, and its start is waited for: it loads nothing of the HTTP side."""
    code = "import sys, agenthuman_plugins.emulator.worker._avatar; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert not {"aiohttp", "fastapi", "httpx", "jwt", "pydantic"} & set(loaded.split())


def test_settings_show_no_token() -> None:
    """The token is in no repr."""
    assert "secret-token" not in repr(WorkerSettings.from_json(SETTINGS))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 641}, "641x480"),
        ({"height": 10}, "640x10"),
        ({"fps": 30}, "fps 30"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    """A wrong setting is an error that names it, without the token."""
    with pytest.raises(ValueError, match=message) as caught:
        WorkerSettings.from_json(SETTINGS | wrong)
    assert "secret-token" not in str(caught.value)


def participant(identity: str, *, agent: bool = False) -> Any:
    kind = (
        rtc.ParticipantKind.PARTICIPANT_KIND_AGENT if agent else rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD
    )
    return SimpleNamespace(identity=identity, kind=kind)


def test_settings_name_the_sender_first() -> None:
    """Settings win over the avatar's attribute, and both over whoever is there."""
    sender = Sender("a")
    sender.name("b")
    sender.look_among([participant("c", agent=True)])
    assert sender.identity == "a"
    attributed = Sender(None)
    attributed.name("b")
    attributed.look_among([participant("c", agent=True)])
    assert attributed.identity == "b"
    assert not attributed.accepts("c")


def test_agent_is_the_sender_when_nobody_is_named() -> None:
    """The first agent is listened to, until it leaves."""
    sender = Sender(None)
    sender.look_among([participant("user"), participant("bot", agent=True)])
    assert sender.identity == "bot"
    assert not sender.accepts("user")
    assert not sender.left("user")
    assert sender.left("bot")
    assert sender.identity is None


def test_first_to_speak_is_the_sender_when_there_is_no_agent() -> None:
    """Without an agent, the first stream decides."""
    sender = Sender(None)
    sender.look_among([participant("user")])
    assert sender.accepts("user")
    assert not sender.accepts("other")


def test_named_sender_may_come_back() -> None:
    """A sender that was named stays the sender after it left; meanwhile there is nobody to report to."""
    sender = Sender("bot")
    assert sender.reachable == "bot"
    assert sender.left("bot")
    assert sender.reachable is None
    assert not sender.accepts("other")
    assert sender.reachable is None
    assert sender.accepts("bot")
    assert sender.reachable == "bot"


class Peer:
    """The other side of the reports."""

    def __init__(self, *failures: int) -> None:
        self.calls: list[tuple[str, str]] = []
        self.failures = list(failures)
        self.hold: asyncio.Event | None = None

    async def call(self, identity: str, method: str, payload: str) -> None:
        assert identity == "bot"
        self.calls.append((method, payload))
        if self.hold and method == STARTED:
            await self.hold.wait()
        if self.failures:
            raise rtc.RpcError(self.failures.pop(0), "no")


async def settle(notifier: PlaybackNotifier) -> None:
    async with asyncio.timeout(HANG_LIMIT_S):
        await asyncio.gather(*notifier._tasks)


async def test_reports_come_in_order() -> None:
    """Started, then finished with position and interruption."""
    peer = Peer()
    notifier = PlaybackNotifier(peer.call)
    notifier.started("bot")
    notifier.finished("bot", 1.25, interrupted=True)
    await settle(notifier)
    (first, _), (second, payload) = peer.calls
    assert (first, second) == (STARTED, FINISHED)
    assert json.loads(payload) == {
        "playback_position": 1.25,
        "interrupted": True,
        "synchronized_transcript": None,
    }


async def test_failed_report_is_sent_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is tried three times and then given up, without an exception."""
    monkeypatch.setattr(_notifier, "_RETRY_DELAY_S", 0)
    peer = Peer(1502, 1502, 1502, 1502)
    notifier = PlaybackNotifier(peer.call)
    notifier.finished("bot", 1.0, interrupted=False)
    await settle(notifier)
    assert len(peer.calls) == 3


async def test_sender_without_a_handler_for_the_start_is_not_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`lk.playback_started` is optional: no retry, no warning."""
    peer = Peer(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD)
    notifier = PlaybackNotifier(peer.call)
    notifier.started("bot")
    await settle(notifier)
    assert len(peer.calls) == 1
    assert not caplog.records


async def test_report_that_hangs_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is reported even if the report of the start is never answered."""
    monkeypatch.setattr(_notifier, "_ORDER_LIMIT_S", 0.01)
    peer = Peer()
    peer.hold = asyncio.Event()
    notifier = PlaybackNotifier(peer.call)
    notifier.started("bot")
    notifier.finished("bot", 1.0, interrupted=False)
    async with asyncio.timeout(HANG_LIMIT_S):
        while len(peer.calls) < 2:
            await asyncio.wait(notifier._tasks, return_when=asyncio.FIRST_COMPLETED)
        await notifier.aclose()
    assert not notifier._tasks
