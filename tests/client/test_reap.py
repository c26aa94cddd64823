"""`sessions.reap` ends what dead processes left open, and nothing else."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agenthuman_plugins.client import BadRequestError, ConfigurationError, ServerError, _owner
from agenthuman_plugins.client._owner import Owner, this_process
from tests.client.conftest import ROOM, FakeService, Handle, Reply, Time

DEAD = "gone-host:0123456789ab:4242:1"


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Which marked processes are dead; one that is not listed cannot be asked about."""
    known: dict[str, bool] = {}
    monkeypatch.setattr(Owner, "is_dead", lambda owner: known[str(owner)])
    return known


def session(service: FakeService, key: str, owner: object = None, status: str = "started") -> None:
    metadata = {} if owner is None else {"client_owner": owner}
    service.sessions[key] = {"session_id": key, "status": status, "metadata": metadata}


def ids(sessions: list[Any]) -> list[str]:
    return [each.session_id for each in sessions]


def test_create_is_marked_with_its_process(client: Handle, service: FakeService, time: Time) -> None:
    """Every create carries the mark of this process beside the reference and the caller's metadata."""
    time.owner = "host:machine:7:1"
    client(lambda c: c.sessions.create(room=ROOM, metadata={"user": "Ada"}))
    (body,) = service.bodies("POST", "/v1/sessions")
    assert body["metadata"] == {"user": "Ada", "client_ref": "ref-1", "client_owner": "host:machine:7:1"}


def test_open_is_marked_with_its_process(client: Handle, service: FakeService, time: Time) -> None:
    """A session for a block is marked like any other."""
    time.owner = "host:machine:7:1"

    def use(c: Any) -> Any:
        if client.kind == "sync":
            with c.sessions.open(room=ROOM) as opened:
                return opened

        async def run() -> Any:
            async with c.sessions.open(room=ROOM) as opened:
                return opened

        return run()

    assert client(use).metadata["client_owner"] == "host:machine:7:1"


def test_mark_can_be_switched_off(client: Handle, service: FakeService, time: Time) -> None:
    """`track_owner=False` tells the service nothing about this machine."""
    time.owner = "host:machine:7:1"
    client.with_options(track_owner=False)(lambda c: c.sessions.create(room=ROOM))
    assert service.sessions["sess_1"]["metadata"] == {"client_ref": "ref-1"}


def test_owner_of_the_caller_replaces_the_mark(client: Handle, service: FakeService, time: Time) -> None:
    """A caller may name the owner itself, and reap by that name."""
    time.owner = "host:machine:7:1"

    def use(c: Any) -> Any:
        if client.kind == "sync":
            c.sessions.create(room=ROOM, metadata={"client_owner": "tenant-7"})
            return c.sessions.reap(owner="tenant-7")

        async def run() -> Any:
            await c.sessions.create(room=ROOM, metadata={"client_owner": "tenant-7"})
            return await c.sessions.reap(owner="tenant-7")

        return run()

    assert ids(client(use)) == service.ended == ["sess_1"]


@pytest.mark.parametrize("list_omits_metadata", [False, True])
def test_only_sessions_of_dead_processes_are_ended(
    client: Handle, service: FakeService, marks: dict[str, bool], *, list_omits_metadata: bool
) -> None:
    """Sessions of the living, of nobody, of names that are no process, and ended ones stay as they are."""
    marks |= {DEAD: True, "host:machine:7:1": False}
    service.list_omits_metadata = list_omits_metadata
    session(service, "sess_dead", DEAD)
    session(service, "sess_alive", "host:machine:7:1")
    session(service, "sess_nobody")
    session(service, "sess_named", "tenant-7")
    session(service, "sess_odd", {"pid": 7})
    session(service, "sess_ended", DEAD, status="ended")
    assert ids(client(lambda c: c.sessions.reap())) == service.ended == ["sess_dead"]


def test_own_sessions_are_not_reaped(client: Handle, service: FakeService) -> None:
    """The real proof, without a fake: this process lives."""
    session(service, "sess_1", this_process())
    assert client(lambda c: c.sessions.reap()) == []
    assert service.ended == []


def test_dry_run_only_tells(client: Handle, service: FakeService, marks: dict[str, bool]) -> None:
    """A dry run returns what would be ended, and ends nothing."""
    marks[DEAD] = True
    session(service, "sess_1", DEAD)
    assert ids(client(lambda c: c.sessions.reap(dry_run=True))) == ["sess_1"]
    assert service.running == ["sess_1"]


def test_named_owner_is_taken_at_its_word(
    client: Handle, service: FakeService, marks: dict[str, bool]
) -> None:
    """Sessions of a named owner are ended without any proof, and no others."""
    session(service, "sess_1", DEAD)
    session(service, "sess_2", f"{DEAD}0")
    assert ids(client(lambda c: c.sessions.reap(owner=DEAD))) == service.ended == ["sess_1"]
    assert marks == {}


@pytest.mark.parametrize("owner", ["", "  ", 7])
def test_empty_owner_is_not_everybody(client: Handle, service: FakeService, owner: Any) -> None:
    """An owner that names nobody is refused before anything is asked."""
    with pytest.raises(ConfigurationError, match="client_owner"):
        client(lambda c: c.sessions.reap(owner=owner))
    assert service.requests == []


def test_one_failure_does_not_keep_the_rest_open(
    client: Handle, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that cannot be ended is logged and raised, after all others were ended."""
    for key in ("sess_1", "sess_2", "sess_3"):
        session(service, key, "tenant-7")
    service.faults.extend([None, Reply(400), Reply(501)])
    with pytest.raises(BadRequestError):
        client(lambda c: c.sessions.reap(owner="tenant-7"))
    assert service.ended == ["sess_3"]
    assert "sess_1 could not be ended" in caplog.text
    assert "sess_2 could not be ended" in caplog.text


def test_session_that_vanished_meanwhile_is_no_failure(client: Handle, service: FakeService) -> None:
    """A 404 while ending, or while reading what the list left out, means that nothing is left to end."""
    service.list_omits_metadata = True
    session(service, "sess_1", "tenant-7")
    session(service, "sess_2", "tenant-7")
    gone = Reply(404, {"success": False, "error": {"message": "Session not found"}})
    service.faults.extend([None, gone, None, gone])
    assert ids(client(lambda c: c.sessions.reap(owner="tenant-7"))) == ["sess_2"]


def test_list_that_fails_ends_nothing(client: Handle, service: FakeService) -> None:
    """Without a list nothing is known, and the failure says so."""
    service.faults.extend([Reply(500)] * 3)
    with pytest.raises(ServerError):
        client(lambda c: c.sessions.reap())


def test_proof_is_not_sought_on_the_event_loop(
    client: Handle, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking the system about processes may start a program, so the async client does it in a thread."""
    threads: list[threading.Thread] = []
    find: Callable[..., Any] = _owner.left_open

    def spy(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return find(*arguments)

    for module in ("_sync", "_async"):
        monkeypatch.setattr(f"agenthuman_plugins.client.{module}.sessions.left_open", spy)
    client(lambda c: c.sessions.reap())
    assert (threads[0] is threading.main_thread()) is (client.kind == "sync")


def test_refused_metadata_takes_both_marks_out(
    client: Handle, service: FakeService, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """A 400 that names metadata anywhere sends the create once more with the caller's metadata alone."""
    caplog.set_level(logging.WARNING)
    time.owner = "host:machine:7:1"
    details = {
        "success": False,
        "error": {"message": "Invalid request", "details": [{"path": "metadata.client_owner"}]},
    }
    service.faults.append(Reply(400, details))
    client(lambda c: c.sessions.create(room=ROOM, metadata={"user": "Ada"}))
    assert [set(body["metadata"]) for body in service.bodies("POST", "/v1/sessions")] == [
        {"user", "client_ref", "client_owner"},
        {"user"},
    ]
    assert len(caplog.records) == 1
