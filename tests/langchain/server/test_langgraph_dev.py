"""Agents on LangGraph servers: a session is its thread's, whichever server runs it."""

import json
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(plan="explorer", sweep=False, expiry=False) as emulator:
        await emulator.wait_ready()
        yield emulator


@pytest.fixture
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


@pytest.fixture
async def serve(tmp_path: Path, settings: dict[str, str]) -> AsyncIterator[Any]:
    """Starts a server of the example's project in a folder of its own, as on a machine of its own."""
    async with AsyncExitStack() as servers:

        async def start(name: str, *, share_store: bool = False) -> Server:
            folder = tmp_path / name
            shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", ".langgraph_api"))
            if share_store:
                shutil.copy(Path(__file__).with_name("shared_store.py"), folder)
                config = json.loads((folder / "langgraph.json").read_text())
                config["checkpointer"] = {"path": "./shared_store.py:saver"}
                (folder / "langgraph.json").write_text(json.dumps(config))
            store = {"SHARED_STORE": str(tmp_path / "store.sqlite")}
            return await servers.enter_async_context(langgraph_dev(folder, settings | store))

        yield start


def spoken(emulator: Emulator) -> list[float]:
    """Seconds of each utterance that the avatar has played."""
    [session] = emulator.sessions()
    return [event["position_s"] for event in session["timeline"] if event["event"] == "utterance_finished"]


def states(emulator: Emulator) -> list[tuple[str, str | None]]:
    return [(session["status"], session["ended_by"]) for session in emulator.sessions()]


def session_id(emulator: Emulator) -> str:
    [session] = emulator.sessions()
    return str(session["session_id"])


@pytest.mark.media
async def test_session_is_its_threads_on_every_server(emulator: Emulator, serve: Any) -> None:
    """What one server opened another one lists, speaks through and ends, in turns with the first.

    Each has a store of its own, so the other model learns the id from its user.
    """
    one, two = await serve("one"), await serve("two")
    thread = str(uuid.uuid4())
    await one.ask(thread, "open")
    its = session_id(emulator)
    assert its in await two.ask(thread, f"list {its}")
    for server in (two, one, two):
        assert await server.ask(thread, "say Hello!") == f"Spoken: {SPEECH_S} s."
    assert spoken(emulator) == pytest.approx([SPEECH_S] * 3, abs=0.15)
    assert "has ended" in await two.ask(thread, "end")
    assert states(emulator) == [("ended", "caller")]
    assert its not in await one.ask(thread, "list")


@pytest.mark.media
async def test_conversation_goes_on_after_a_crash(emulator: Emulator, serve: Any) -> None:
    """With one store, another server answers for one that was killed, and the avatar stays."""
    one, two = await serve("one", share_store=True), await serve("two", share_store=True)
    thread = str(uuid.uuid4())
    await one.ask(thread, "open")
    await one.kill()
    assert await two.ask(thread, "say Still here.") == f"Spoken: {SPEECH_S} s."
    assert "has ended" in await two.ask(thread, "end")
    assert states(emulator) == [("ended", "caller")]


async def test_another_thread_neither_sees_nor_ends_it(emulator: Emulator, serve: Any) -> None:
    """A session is nobody else's, on another server neither."""
    one, two = await serve("one"), await serve("two")
    await one.ask(str(uuid.uuid4()), "open")
    its, stranger = session_id(emulator), str(uuid.uuid4())
    assert its not in await two.ask(stranger, "list")
    for wish in ("say", "end"):
        assert "Nothing was done" in await two.ask(stranger, f"{wish} {its}")
    assert states(emulator) == [("started", None)]


async def test_route_of_another_server_ends_what_the_user_left(emulator: Emulator, serve: Any) -> None:
    """A custom route ends the sessions of a thread that another server ran, and of no other."""
    one, two = await serve("one"), await serve("two")
    left, stays = str(uuid.uuid4()), str(uuid.uuid4())
    await one.ask(left, "open")
    await one.ask(stays, "open")
    assert (await two.http.post(f"/left/{left}")).status_code == 204
    assert sorted(states(emulator)) == [("ended", "caller"), ("started", None)]


async def test_factory_ends_the_session_of_its_run(
    emulator: Emulator, settings: dict[str, str], tmp_path: Path
) -> None:
    """The factory of the example needs no other file, and what its run leaves open is ended after it."""
    shutil.copy(EXAMPLES / "langchain_graph.py", tmp_path)
    config = {"dependencies": ["."], "graphs": {"agent": "./langchain_graph.py:make_graph"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    async with langgraph_dev(tmp_path, settings) as server:
        assert "Opened session" in await server.ask(str(uuid.uuid4()), "open")
        assert states(emulator) == [("ended", "caller")]
