"""The sync client's promise, with real threads and a real server: what nobody waits for any more is ended."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, Session, _driver
from agenthuman_plugins.client._answers import Answer
from agenthuman_plugins.client._calls.account import start_session_by_link
from agenthuman_plugins.client._config import Clock
from agenthuman_plugins.client._opening import Opening, log_left
from tests.client.conftest import API_KEY, ROOM, FakeService, Time
from tests.client.wires import KINDS, Request, Wire, reply, wire

LIMIT_S = 30.0  # hang limit only
SESSION = {"session_id": "sess_1", "status": "started"}
END = "POST /v1/sessions/sess_1/end"


class Holding:
    """A service that holds the answer to a billed call until it is told to go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, request: Request, _: Any) -> bytes:
        if request.line.startswith(("POST /v1/sessions HTTP", "POST /v1/links")):
            self.reached.set()
            self.go_on.wait(LIMIT_S)
        metadata = json.loads(request.body or b"{}").get("metadata", {})
        return reply(
            {"success": True, "session": {**SESSION, "metadata": metadata}, "sessions": [], **SESSION}
        )


@pytest.fixture
def holding() -> Iterator[Holding]:
    holding = Holding()
    yield holding
    holding.go_on.set()


@pytest.fixture
def server(holding: Holding) -> Iterator[Wire]:
    with wire(holding) as server:
        yield server


class CtrlC:
    """Waits as the client does, and interrupts the waits of the main thread of which the number is given."""

    def __init__(self, holding: Holding, *numbers: int) -> None:
        self.waiting = threading.Event()  # set at the first wait that is not interrupted
        self._holding = holding
        self._numbers = numbers
        self._waits = 0
        self._main = threading.main_thread()

    def __call__(self, event: threading.Event, seconds: float) -> bool:
        if threading.current_thread() is self._main:
            self._waits += 1
            if self._waits in self._numbers:
                assert self._holding.reached.wait(LIMIT_S)
                raise KeyboardInterrupt
        elif threading.current_thread().name == "closer":
            self.waiting.set()
        return event.wait(seconds)


BILLED = {
    "create": lambda c: c.sessions.create(room=ROOM),
    "start-by-link": lambda c: c.links.start_session("lnk_1"),
}


@pytest.mark.parametrize("call", BILLED)
def test_interrupted_call_returns_at_once_and_closing_ends_its_session(
    call: str, holding: Holding, server: Wire
) -> None:
    """Ctrl-C leaves while the service still works on the call; `close` waits for its answer, and the session ends."""
    ctrl_c = CtrlC(holding, 1)
    client = AgentHuman(
        api_key=API_KEY, base_url=server.url, _clock=Clock(wait=ctrl_c, new_ref=lambda: "ref-1")
    )
    with pytest.raises(KeyboardInterrupt):
        BILLED[call](client)
    assert not holding.go_on.is_set()
    closer = threading.Thread(target=client.close, name="closer")
    closer.start()
    assert ctrl_c.waiting.wait(LIMIT_S)
    assert closer.is_alive()
    holding.go_on.set()
    closer.join(LIMIT_S)
    assert not closer.is_alive()
    assert server.log[-1] == END
    assert len(server.log) == 2


def test_second_ctrl_c_gives_up_and_names_what_is_left(
    holding: Holding, server: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C while closing leaves at once, with the reference of what may still run in the log, once."""
    ctrl_c = CtrlC(holding, 1, 2)
    client = AgentHuman(
        api_key=API_KEY, base_url=server.url, _clock=Clock(wait=ctrl_c, new_ref=lambda: "ref-1")
    )
    with pytest.raises(KeyboardInterrupt):
        client.sessions.create(room=ROOM)
    with pytest.raises(KeyboardInterrupt):
        client.close()
    named = [each for each in caplog.records if "'ref-1'" in each.getMessage()]
    assert [each.levelno for each in named] == [logging.ERROR]


def test_closing_waits_no_longer_than_told(
    holding: Holding, server: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that does not come in the time given is named in the log."""
    clock = Clock(wait=CtrlC(holding, 1), new_ref=lambda: "ref-1")
    client = AgentHuman(api_key=API_KEY, base_url=server.url, _clock=clock)
    with pytest.raises(KeyboardInterrupt):
        client.sessions.create(room=ROOM)
    begin = time.monotonic()
    client.close(timeout=0.05)
    assert time.monotonic() - begin < 1
    assert "'ref-1'" in caplog.text


def test_block_that_is_interrupted_while_it_opens_ends_its_session(holding: Holding, server: Wire) -> None:
    """Ctrl-C in the `with` line of `open` is no different."""
    clock = Clock(wait=CtrlC(holding, 1))
    client = AgentHuman(api_key=API_KEY, base_url=server.url, _clock=clock)
    with pytest.raises(KeyboardInterrupt), client.sessions.open(room=ROOM):
        raise AssertionError
    holding.go_on.set()
    client.close()
    assert server.log[-1] == END


def test_exit_waits_for_all_clients_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients left something, the end of a program waits for them within one bound."""
    given: list[float] = []

    class Left:
        def settle(self, timeout_s: float) -> None:
            given.append(timeout_s)
            threading.Event().wait(0.02)

        def abandon_all(self) -> None:
            """Have nothing under way."""

        def give_up(self) -> None:
            """Have nothing to name."""

    monkeypatch.setattr(_driver, "_drivers", [Left(), Left(), Left()])
    monkeypatch.setattr(_driver, "CLOSE_S", 0.03)
    _driver._settle_at_exit()
    assert given[0] > given[1] > given[2]


def test_end_of_the_program_ends_a_block_that_was_interrupted_while_it_ended(service: FakeService) -> None:
    """Ctrl-C during a block's end leaves that to the background, which the end of the program waits for, and begins."""
    interrupted = [KeyboardInterrupt]
    held_back = {"agenthuman clean-up"}  # a second Ctrl-C strikes before that begins
    time = Time()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/end") and interrupted:
            raise interrupted.pop()
        return service.handle(request)

    def start(work: Callable[[], None], name: str) -> None:
        if name not in held_back:
            time.start(work, name)

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        client = AgentHuman(api_key=API_KEY, http_client=http, _clock=replace(time.clock(), start=start))
        with pytest.raises(KeyboardInterrupt), client.sessions.open(room=ROOM):
            pass
        assert service.ended == []
        held_back.clear()
        _driver._settle_at_exit()
    assert service.ended == ["sess_1"]


def test_end_of_the_program_ends_what_a_daemon_thread_is_about_to_open(service: FakeService) -> None:
    """Threads that end with the program take their callers with them; what they open is ended."""
    reached, go_on = threading.Event(), threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path == "/v1/sessions":
            reached.set()
            assert go_on.wait(LIMIT_S)
        return service.handle(request)

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        client = AgentHuman(api_key=API_KEY, http_client=http)
        caller = threading.Thread(target=lambda: client.sessions.create(room=ROOM), daemon=True)
        caller.start()
        assert reached.wait(LIMIT_S)
        threading.Timer(0.01, go_on.set).start()
        _driver._settle_at_exit()
        caller.join(LIMIT_S)
    assert service.ended == ["sess_1"]


def test_answer_that_came_when_the_caller_was_leaving_is_read(service: FakeService) -> None:
    """A start by a link has no reference: the answer at hand is all that names its session."""
    service.sessions["sess_1"] = {"session_id": "sess_1", "status": "started"}
    answer = Answer(200, {}, b'{"success": true, "session_id": "sess_1"}')
    opening = Opening(start_session_by_link("lnk_1", aspect_ratio="4:3"), may_exist=True, answer=answer)
    with httpx.Client(transport=httpx.MockTransport(service.handle)) as http:
        driver = AgentHuman(api_key=API_KEY, http_client=http, _clock=Time().clock())._driver
        driver.run(driver._openings.abandon(opening), opening)
    assert service.ended == ["sess_1"]


PROGRAM = """
import asyncio, sys
from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, LiveKitRoom, _background, _driver
kind, url, bound = sys.argv[1:]
_background.CLOSE_S = _driver.CLOSE_S = float(bound)
room = LiveKitRoom("wss://rooms.example.com", "seeded-room-token")

def sync():
    AgentHuman(api_key="seeded-key", base_url=url).sessions.create(room=room, metadata={"client_ref": "mine"})

async def main():
    client = AsyncAgentHuman(api_key="seeded-key", base_url=url)
    await client.sessions.create(room=room, metadata={"client_ref": "mine"})

try:
    sync() if kind == "sync" else asyncio.run(main())
except KeyboardInterrupt:
    print("left", flush=True)
"""


def started(kind: str, server: Wire, *, bound_s: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, server.url, str(bound_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_program_that_just_ends_ends_its_session(kind: str, holding: Holding, server: Wire) -> None:
    """A program that is interrupted in a create and ends without closing anything still ends the session."""
    with started(kind, server, bound_s=LIMIT_S) as program:
        assert holding.reached.wait(LIMIT_S)
        program.send_signal(signal.SIGINT)
        if kind == "sync":
            assert program.stdout is not None
            assert program.stdout.readline() == "left\n"
        assert program.poll() is None
        holding.go_on.set()
        _, errors = program.communicate(timeout=LIMIT_S)
    assert server.log == ["POST /v1/sessions", END]
    assert (program.returncode, errors) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_program_ends_within_the_bound(kind: str, holding: Holding, server: Wire) -> None:
    """A service that never answers keeps no program from its end; the reference of what is left is logged."""
    with started(kind, server, bound_s=0.05) as program:
        assert holding.reached.wait(LIMIT_S)
        program.send_signal(signal.SIGINT)
        said, errors = program.communicate(timeout=LIMIT_S)
    assert said == "left\n"
    assert "'mine'" in errors
    assert program.returncode == 0


@pytest.mark.parametrize(
    ("opened", "client_ref", "error", "said"),
    [
        pytest.param("sess_1", "ref-1", None, "Session sess_1 could not be ended. What", id="known"),
        pytest.param(None, "ref-1", None, "metadata.client_ref 'ref-1', by which", id="by-reference"),
        pytest.param(None, None, None, "A start by a link was given up", id="by-link"),
        pytest.param(
            "sess_1", "ref-1", OSError("no network"), "ended. (OSError: no network)", id="with-error"
        ),
    ],
)
def test_what_is_left_is_named_once(
    opened: str | None,
    client_ref: str | None,
    error: OSError | None,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names what may still be billed, and why, once; what cannot run is not named."""
    opening = Opening(start_session_by_link("link_1", aspect_ratio="4:3"), client_ref, may_exist=True)
    opening.opened = None if opened is None else Session(session_id=opened)
    log_left(opening, error)
    log_left(opening, error)
    (line,) = [record.getMessage() for record in caplog.records]
    assert said in line
    assert line.endswith(")") is (error is not None)
