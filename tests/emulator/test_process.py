"""Child processes: their protocol, and that none outlives its parent."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from agenthuman_plugins.emulator.process import Child, ChildError
from tests.emulator.conftest import until
from tests.emulator.processes import still_alive

CHILD = "tests.emulator.a_child"
LIMIT_S = 20.0  # hang limit
SECRET = "seeded-secret-value-81f2"

# A parent in a process of its own, so that a test can kill it.
PARENT = f"""
import asyncio, json
from agenthuman_plugins.emulator.process import Child

async def main():
    busy = asyncio.Event()
    child = await Child.start({CHILD!r}, {{"do": DO}}, on_event=lambda event: busy.set())
    child.send({{}})
    await busy.wait()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Events:
    """Collects what a child tells; tests wait for it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def __call__(self, event: dict[str, Any]) -> None:
        self._queue.put_nowait(event)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT_S):
            return await self._queue.get()


@pytest.fixture(autouse=True)
def _children_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


async def test_messages_and_events_pass(capfd: pytest.CaptureFixture[str]):
    """Settings and messages reach the child, its events reach the parent, and noise on stdout does no harm."""
    events = Events()
    child = await Child.start(CHILD, {"do": "echo"}, on_event=events)
    child.send({"command": "leave", "text": "Grüße"})
    assert await events.next() == {"event": "echo", "message": {"command": "leave", "text": "Grüße"}}
    assert child.running
    await child.stop()
    assert await events.next() == {"event": "exit", "code": 0}
    assert not child.running
    assert "noise from a native library" in capfd.readouterr().err


async def test_stop_is_harmless_when_repeated():
    """Stopping and sending after the end do nothing."""
    child = await Child.start(CHILD, {"do": "echo"})
    await child.stop()
    await child.stop()
    child.send({"command": "late"})


async def test_child_that_ends_by_itself_is_reported():
    """The exit comes as the last event, after what the child still said."""
    events = Events()
    child = await Child.start(CHILD, {"do": "finish"}, on_event=events)
    assert await events.next() == {"event": "last words"}
    assert await events.next() == {"event": "exit", "code": 0}
    assert await child.wait(timeout_s=LIMIT_S)
    await child.stop()


async def test_event_before_ready_is_told_after_it():
    """What happens while a child starts neither ends it nor gets lost."""
    events = Events()
    child = await Child.start(CHILD, {"do": "hurry"}, on_event=events)
    assert child.ready["event"] == "ready"
    assert [await events.next() for _ in range(2)] == [{"event": "before ready"}, {"event": "last words"}]
    await child.stop()


async def test_refusal_is_told_without_secrets():
    """What the child raises becomes the error's text; the secrets of its settings are struck out."""
    with pytest.raises(ChildError, match="cannot open") as failure:
        await Child.start(CHILD, {"do": "refuse", "token": SECRET})
    assert SECRET not in str(failure.value)


async def test_child_that_dies_before_ready_is_an_error():
    """A child that ends without a word is reported by its module's name."""
    with pytest.raises(ChildError, match=f"{CHILD} ended before it was ready"):
        await Child.start(CHILD, {"do": "die"})


async def test_missing_module_is_an_error():
    """A module that does not exist is an error, not a hang."""
    with pytest.raises(ChildError, match="ended before it was ready"):
        await Child.start("tests.emulator.no_such_module", {})


async def test_late_child_is_ended(monkeypatch: pytest.MonkeyPatch):
    """A child that is not ready in time is an error and does not go on running."""
    started = seen_processes(monkeypatch)
    with pytest.raises(ChildError, match=r"not ready within 0\.2 s"):
        await Child.start(CHILD, {"do": "dawdle"}, timeout_s=0.2)
    assert started[0].returncode is not None


async def test_cancelled_start_leaves_no_child(monkeypatch: pytest.MonkeyPatch):
    """Cancelling a start ends the child that was on its way."""
    started = seen_processes(monkeypatch)
    starting = asyncio.create_task(Child.start(CHILD, {"do": "dawdle"}))
    await until(lambda: started)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert started[0].returncode is not None


def seen_processes(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.subprocess.Process]:
    processes = []
    create = asyncio.create_subprocess_exec

    async def recorded(*args, **kwargs):
        processes.append(await create(*args, **kwargs))
        return processes[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", recorded)
    return processes


async def test_failing_handler_does_not_stop_the_reading(caplog: pytest.LogCaptureFixture):
    """An exception in the parent's handler is logged, and later events still come."""
    events = Events()

    def handler(event: dict[str, Any]) -> None:
        if event.get("message") == {"n": 1}:
            raise RuntimeError("handler broke")
        events(event)

    child = await Child.start(CHILD, {"do": "echo"}, on_event=handler)
    child.send({"n": 1})
    child.send({"n": 2})
    assert (await events.next())["message"] == {"n": 2}
    assert "handler broke" in caplog.text
    await child.stop()


@pytest.mark.parametrize("behaviour", ["block", "cling"])
async def test_child_that_will_not_stop_is_ended(behaviour: str):
    """A child that blocks its loop or swallows its cancellation ends all the same."""
    events = Events()
    child = await Child.start(CHILD, {"do": behaviour}, on_event=events)
    child.send({})
    assert (await events.next())["event"] in ("blocking", "clinging")
    async with asyncio.timeout(LIMIT_S):
        await child.stop()
    assert not child.running


@pytest.mark.parametrize("behaviour", ["echo", "block", "cling"])
def test_child_dies_with_its_killed_parent(behaviour: str):
    """`kill -9` of the parent ends the child, whatever it is doing."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("DO", repr(behaviour))], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert still_alive([child]) == []


async def test_settings_are_in_no_process_list():
    """Secrets in the settings are neither in the command line nor in the environment of the child."""
    child = await Child.start(CHILD, {"do": "echo", "token": SECRET})
    process = psutil.Process(child.pid)
    assert SECRET not in json.dumps([process.cmdline(), process.environ()])
    await child.stop()


async def test_working_directory_does_not_shadow_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file named like a module in the user's working directory is not imported."""
    monkeypatch.chdir(tmp_path)
    child = await Child.start(CHILD, {"do": "echo"})
    assert not {"", str(tmp_path)} & set(child.ready["path"])
    await child.stop()
