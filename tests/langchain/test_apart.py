"""Users of one account, in threads and in processes: nobody sees, gets or ends another's session."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.testing._emulator import RunningEmulator, running
from tests.langchain.conftest import runtime

CREATE, END = "agent_human_create_session", "agent_human_end_session"
GET, LIST = "agent_human_get_session", "agent_human_list_sessions"
LIMIT_S = 60.0  # hang limit only: a process has to import LangChain
USERS = 8  # fewer than the plan has sessions at once


@pytest.fixture
def emulator() -> Iterator[RunningEmulator]:
    """A service where nobody but a caller ends a session."""
    with running(media=False, sweep=False, expiry=False, plan="growth") as emulator:
        yield emulator


class User:
    """A process with a toolkit of its own."""

    def __init__(self, process: "subprocess.Popen[str]", thread: str) -> None:
        self.process = process
        self._thread = thread

    def call(self, name: str, call_id: str = "call_1", **arguments: Any) -> dict[str, Any]:
        """Call a tool in this user's conversation."""
        call = {"name": name, "arguments": arguments, "thread": self._thread, "call_id": call_id}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(call)}\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def leave(self) -> None:
        """Leave the block, and wait for the end of the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(LIMIT_S) == 0

    def kill(self) -> None:
        """End the process at once; its block is never left."""
        self.process.kill()
        self.process.wait(LIMIT_S)


@contextlib.contextmanager
def users(emulator: RunningEmulator, *threads: str) -> Iterator[list[User]]:
    """Start a process for each of these conversations."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTHUMAN_")}
    env |= {"AGENTHUMAN_API_KEY": emulator.api_key, "AGENTHUMAN_BASE_URL": emulator.url}
    with contextlib.ExitStack() as stack:
        started = []
        for thread in threads:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.langchain.a_user"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=env,
                )
            )
            watchdog = threading.Timer(LIMIT_S, process.kill)
            watchdog.start()
            stack.callback(watchdog.cancel)
            stack.callback(process.kill)
            assert process.stdin is not None
            process.stdin.write("{}\n")
            started.append(User(process, thread))
        yield started


def left(emulator: RunningEmulator) -> list[str]:
    return [session["session_id"] for session in emulator.sessions() if session["ended_by"] is None]


def test_two_processes_with_the_same_call_id(emulator: RunningEmulator) -> None:
    """Each user gets a session of their own, sees it alone, and can neither get nor end the other's."""
    with users(emulator, "ada", "bob") as (ada, bob):
        hers, his = (user.call(CREATE)["artifact"]["session_id"] for user in (ada, bob))
        assert hers != his
        assert [s["session_id"] for s in bob.call(LIST, "call_2")["artifact"]["sessions"]] == [his]
        for tool in (GET, END):
            told = bob.call(tool, "call_3", session_id=hers)
            assert told["status"] == "error"
            assert his in told["content"]
        bob.leave()
        assert left(emulator) == [hers]
        ada.leave()
        assert left(emulator) == []


def test_process_that_is_killed_is_replaced(emulator: RunningEmulator) -> None:
    """Another process that resumes the conversation gets the same session, and ends it."""
    with users(emulator, "ada", "ada", "bob") as (ada, again, bob):
        first = ada.call(CREATE)["artifact"]["session_id"]
        ada.kill()
        assert left(emulator) == [first]
        assert bob.call(CREATE)["artifact"]["session_id"] != first
        told = again.call(CREATE)
        assert told["artifact"]["session_id"] == first
        assert "was opened by this call before and is still running" in told["content"]
        again.leave()
        bob.leave()
    assert left(emulator) == []


def test_process_that_ended_its_session_is_replaced(emulator: RunningEmulator) -> None:
    """If the first process left its block, the replayed call opens a session anew, which the second one ends."""
    with users(emulator, "ada", "ada") as (ada, again):
        first = ada.call(CREATE)["artifact"]["session_id"]
        ada.leave()
        told = again.call(CREATE)
        assert told["content"].startswith("Opened session ")
        assert left(emulator) == [told["artifact"]["session_id"]] != [first]
        again.leave()
    assert left(emulator) == []


def test_many_users_of_one_toolkit(emulator: RunningEmulator) -> None:
    """Threads of one process with one toolkit and the same call id: each sees and ends its own session alone."""
    with AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url) as toolkit:
        tools = {tool.name: tool for tool in toolkit.get_tools()}
        together = threading.Barrier(USERS, timeout=LIMIT_S)

        def call(name: str, user: int, call_id: str, **arguments: Any) -> Any:
            wish = {"name": name, "id": call_id, "type": "tool_call"}
            context = runtime(f"user-{user}", call_id)
            return tools[name].invoke({**wish, "args": {**arguments, "runtime": context}})

        def use(user: int) -> tuple[str, list[str]]:
            together.wait()
            mine = call(CREATE, user, "call_1").artifact["session_id"]
            together.wait()
            seen = [item["session_id"] for item in call(LIST, user, "call_2").artifact["sessions"]]
            together.wait()
            if user:
                call(END, user, "call_3", session_id=mine)
            return mine, seen

        with ThreadPoolExecutor(USERS) as pool:
            results = list(pool.map(use, range(USERS)))
        assert len({mine for mine, _ in results}) == USERS
        assert all(seen == [mine] for mine, seen in results)
        assert left(emulator) == [results[0][0]]
    assert left(emulator) == []


def test_conversation_is_ended_alone(emulator: RunningEmulator) -> None:
    """`end_sessions` ends what one conversation opened, and leaves the others."""
    toolkit = AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url)
    create = toolkit.get_tools()[0]
    with toolkit:
        for thread in ("ada", "bob"):
            create.invoke({"runtime": runtime(thread)})
        hers, his = toolkit.sessions
        toolkit.end_sessions("ada")
        assert left(emulator) == [his]
        assert toolkit.sessions[hers].has_ended
        assert not toolkit.sessions[his].has_ended
