"""Agents on LangGraph servers: a session is its thread's, whichever server runs it."""

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import RoomServer, media_interface
from tests.langchain.server.langgraph_dev import PROGRAM, ROOT, Server, langgraph_dev
from tests.langchain.server.openai_stand_in import SPEECH_S, openai_stand_in

EXAMPLES = ROOT / "examples"
PROJECT = EXAMPLES / "langchain_server"

pytestmark = [
    pytest.mark.chain,
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="no LangGraph server (make .venv-langchain-newest/.installed)"
    ),
    pytest.mark.skipif(media_interface() is None, reason="no network interface besides loopback"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(plan="explorer", sweep=False, expiry=False) as emulator:
        await emulator.wait_ready()
        yield emulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(emulator: Emulator) -> AsyncIterator[dict[str, str]]:
    """The services of a deployment, as its environment names them."""
    async with await RoomServer.start("embedded") as rooms, openai_stand_in() as openai:
        yield {
            "AGENTHUMAN_API_KEY": emulator.api_key,
            "AGENTHUMAN_BASE_URL": emulator.url,
            "LIVEKIT_URL": rooms.url,
            "LIVEKIT_API_KEY": rooms._api_key,
            "LIVEKIT_API_SECRET": rooms._api_secret,
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": openai,
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]
) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers of the example's project, each with a store of its own, for all tests that leave them running."""
    async with two_servers(tmp_path_factory.mktemp("servers"), settings) as both:
        yield both


@asynccontextmanager
async def two_servers(
    folder: Path, settings: dict[str, str], *, share_store: bool = False
) -> AsyncIterator[tuple[Server, Server]]:
    """Each in a folder of its own, as on a machine of its own."""
    store = {"SHARED_STORE": str(folder / "store.sqlite")}
    async with AsyncExitStack() as servers:
        starting = []
        for place in (folder / "one", folder / "two"):
            shutil.copytree(PROJECT, place, ignore=shutil.ignore_patterns("__pycache__", ".langgraph_api"))
            if share_store:
                shutil.copy(Path(__file__).with_name("shared_store.py"), place)
                config = json.loads((place / "langgraph.json").read_text())
                config["checkpointer"] = {"path": "./shared_store.py:saver"}
                (place / "langgraph.json").write_text(json.dumps(config))
            starting.append(servers.enter_async_context(langgraph_dev(place, settings | store)))
        one, two = await asyncio.gather(*starting)
        yield one, two


class Sessions:
    """The sessions that were opened since the test began."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._before = [session["session_id"] for session in emulator.sessions()]

    def all(self) -> list[dict[str, Any]]:
        return [each for each in self._emulator.sessions() if each["session_id"] not in self._before]

    def states(self) -> list[tuple[str, str | None]]:
        return [(session["status"], session["ended_by"]) for session in self.all()]

    def id(self) -> str:
        """The id of the only one."""
        [session] = self.all()
        return str(session["session_id"])

    def spoken(self) -> list[float]:
        """Seconds of each utterance that the avatar of the only one has played."""
        [session] = self.all()
        events = [event for event in session["timeline"] if event["event"] == "utterance_finished"]
        return [event["position_s"] for event in events]


@pytest.fixture
def sessions(emulator: Emulator) -> Sessions:
    return Sessions(emulator)


@pytest.mark.media
@pytest.mark.asyncio(loop_scope="module")
async def test_session_is_its_threads_on_every_server(
    sessions: Sessions, servers: tuple[Server, Server]
) -> None:
    """What one server opened another one lists, speaks through and ends, in turns with the first.

    Each has a store of its own, so the other model learns the id from its user.
    """
    one, two = servers
    thread = str(uuid.uuid4())
    await one.ask(thread, "open")
    its = sessions.id()
    assert its in await two.ask(thread, f"list {its}")
    for server in (two, one, two):
        assert await server.ask(thread, "say Hello!") == f"Spoken: {SPEECH_S} s."
    assert sessions.spoken() == pytest.approx([SPEECH_S] * 3, abs=0.15)
    assert "has ended" in await two.ask(thread, "end")
    assert sessions.states() == [("ended", "caller")]
    assert its not in await one.ask(thread, "list")


@pytest.mark.media
@pytest.mark.asyncio(loop_scope="module")
async def test_conversation_goes_on_after_a_crash(
    sessions: Sessions, settings: dict[str, str], tmp_path: Path
) -> None:
    """With one store, another server answers for one that was killed, and the avatar stays."""
    async with two_servers(tmp_path, settings, share_store=True) as (one, two):
        thread = str(uuid.uuid4())
        await one.ask(thread, "open")
        await one.kill()
        assert await two.ask(thread, "say Still here.") == f"Spoken: {SPEECH_S} s."
        assert "has ended" in await two.ask(thread, "end")
        assert sessions.states() == [("ended", "caller")]


@pytest.mark.asyncio(loop_scope="module")
async def test_another_thread_neither_sees_nor_ends_it(
    sessions: Sessions, servers: tuple[Server, Server]
) -> None:
    """A session is nobody else's, on another server neither."""
    one, two = servers
    owner, stranger = str(uuid.uuid4()), str(uuid.uuid4())
    await one.ask(owner, "open")
    its = sessions.id()
    assert its not in await two.ask(stranger, "list")
    for wish in ("say", "end"):
        assert "Nothing was done" in await two.ask(stranger, f"{wish} {its}")
    assert sessions.states() == [("started", None)]
    assert "has ended" in await one.ask(owner, "end")


@pytest.mark.asyncio(loop_scope="module")
async def test_route_of_another_server_ends_what_the_user_left(
    sessions: Sessions, servers: tuple[Server, Server]
) -> None:
    """A custom route ends the sessions of a thread that another server ran, and of no other."""
    one, two = servers
    left, stays = str(uuid.uuid4()), str(uuid.uuid4())
    await one.ask(left, "open")
    await one.ask(stays, "open")
    assert (await two.http.post(f"/left/{left}")).status_code == 204
    assert sorted(sessions.states()) == [("ended", "caller"), ("started", None)]
    assert "has ended" in await one.ask(stays, "end")


@pytest.mark.asyncio(loop_scope="module")
async def test_factory_ends_the_session_of_its_run(
    sessions: Sessions, settings: dict[str, str], tmp_path: Path
) -> None:
    """The factory of the example needs no other file, and what its run leaves open is ended after it."""
    shutil.copy(EXAMPLES / "langchain_graph.py", tmp_path)
    config = {"dependencies": ["."], "graphs": {"agent": "./langchain_graph.py:make_graph"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    async with langgraph_dev(tmp_path, settings) as server:
        assert "Opened session" in await server.ask(str(uuid.uuid4()), "open")
        assert sessions.states() == [("ended", "caller")]
