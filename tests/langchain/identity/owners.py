"""Who opened a session and who names it, and whether that is allowed; in this process, and in real ones."""

import asyncio
import inspect
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._origin import SessionRequest
from agenthuman_plugins.testing._emulator import RunningEmulator
from tests.client.conftest import FakeService
from tests.langchain.identity.ways import Scene, Way
from tests.langchain.toolbox import CREATE, END, GET, LIST, SAY, all_tools

# Told to the tools since LangChain 1.1: what tells apart two subagents that tools of one agent run.
HAS_NAMES = "lc_agent_name" in inspect.getsource(create_agent)
OPERATIONS = (LIST, GET, SAY, END)
LIMIT_S = 60.0  # hang limit only: a process has to import LangChain


@dataclass(frozen=True)
class Place:
    """Where an agent runs.

    Attributes:
        worker: Number of the process, or of the toolkit where processes are played.
        thread: Its conversation.
        agent: The subagent; `None` for the agent of the conversation.
        namespace: That of the toolkit.
        scope: That of the toolkit.
    """

    worker: int = 1
    thread: str = "ada"
    agent: str | None = None
    namespace: str | None = "shop"
    scope: str = "agent"


@dataclass(frozen=True)
class Pair:
    """One opens a session, the other one names it.

    Attributes:
        name: What the other one is to the first.
        owner: Who opens it.
        other: Who names it.
        allowed: Whether that is the other's session, too.
        needs_names: Whether only names tell the two apart where a tool runs the subagent, which old versions lack.
    """

    name: str
    owner: Place
    other: Place
    allowed: bool
    needs_names: bool = False

    @property
    def has_agents(self) -> bool:
        return self.owner.agent is not None or self.other.agent is not None


HERE = Place()
ALICE, BOB = Place(agent="alice"), Place(agent="bob")
LONELY = Place(namespace=None)

PAIRS = {
    pair.name: pair
    for pair in (
        Pair("the same agent", HERE, HERE, True),
        Pair("the same agent, without a namespace", LONELY, LONELY, True),
        Pair("the same agent on another worker", HERE, replace(HERE, worker=2), True),
        Pair("the same subagent", ALICE, ALICE, True),
        Pair("the same subagent on another worker", ALICE, replace(ALICE, worker=2), True),
        Pair("the agent above the subagent", ALICE, HERE, True),
        Pair("the agent above it, on another worker", ALICE, replace(HERE, worker=2), True),
        Pair(
            "another subagent, scope='thread'",
            replace(ALICE, scope="thread"),
            replace(BOB, scope="thread"),
            True,
        ),
        Pair("another user", HERE, replace(HERE, thread="bob"), False),
        Pair("another user, without a namespace", LONELY, replace(LONELY, thread="bob"), False),
        Pair("another user on another worker", HERE, replace(HERE, thread="bob", worker=2), False),
        Pair("another application, same thread", HERE, replace(HERE, namespace="desk", worker=3), False),
        Pair("another process without a namespace", LONELY, replace(LONELY, worker=4), False),
        Pair("another subagent", ALICE, BOB, False, needs_names=True),
        Pair("another subagent on another worker", ALICE, replace(BOB, worker=2), False, needs_names=True),
        Pair("a subagent, of the agent above it", HERE, ALICE, False),
        Pair("a subagent, of it, on another worker", HERE, replace(ALICE, worker=2), False),
    )
}
IN_PROCESSES = [name for name, pair in PAIRS.items() if (pair.owner.worker, pair.other.worker) != (1, 1)]


@dataclass(frozen=True)
class Told:
    """What a tool said."""

    status: str
    content: str
    artifact: Any = None


class World(Protocol):
    """Where places are."""

    async def call(self, place: Place, way: Way, name: str, call_id: str, /, **arguments: Any) -> Told:
        """Call a tool as the agent at a place."""

    async def running(self) -> list[str]:
        """Sessions that run."""


def own_room(request: SessionRequest) -> LiveKitRoom:
    """A room of the application's; for a session that another worker opened, a token for the same room."""
    return LiveKitRoom.mint(
        "wss://rooms.example.com",
        "key",
        "seeded-secret-of-32-characters-00",
        request.room_name or f"room-{next(_rooms)}",
        agent_identity=request.agent_identity,
    )


_rooms = itertools.count(1)


class OneProcess:
    """Workers that are toolkits, over a service in memory; an application's checkpoints are in one place."""

    def __init__(self, service: FakeService | None = None, **options: Any) -> None:
        self.service = service or FakeService()
        self._options = options
        self._toolkits: dict[object, AgentHumanToolkit] = {}
        self._savers: dict[str | None, InMemorySaver] = {}

    def toolkit(self, place: Place) -> AgentHumanToolkit:
        key = (place.worker, place.namespace, place.scope)
        if key not in self._toolkits:
            options = {"room": own_room, "namespace": place.namespace, "scope": place.scope}
            self._toolkits[key] = all_tools(self.service, **{**options, **self._options})
        return self._toolkits[key]

    def scene(self, place: Place) -> Scene:
        saver = self._savers.setdefault(place.namespace, InMemorySaver())
        return Scene(self.toolkit(place).get_tools(), place.thread, place.agent, saver)

    async def call(self, place: Place, way: Way, name: str, call_id: str, /, **arguments: Any) -> Told:
        wish = {"name": name, "args": arguments, "id": call_id}
        (message,) = await way.carry(self.scene(place), [wish])
        return Told(message.status, str(message.content), message.artifact)

    async def running(self) -> list[str]:
        return self.service.running

    async def aclose(self) -> None:
        for toolkit in self._toolkits.values():
            if toolkit._speech is not None:
                await toolkit._speech.aclose()
            await toolkit._loop.aclose()


class Processes:
    """Real processes over an emulator; each call is carried out in the one of its worker."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self._emulator = emulator
        self._processes: dict[object, asyncio.subprocess.Process] = {}

    async def call(self, place: Place, way: Way, name: str, call_id: str, /, **arguments: Any) -> Told:
        process = await self._process(place)
        wish = {"name": name, "args": arguments, "id": call_id}
        line = {"way": way.name, "thread": place.thread, "agent": place.agent, "wish": wish}
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps(line)}\n".encode())
        async with asyncio.timeout(LIMIT_S):
            return Told(**json.loads(await process.stdout.readline()))

    async def running(self) -> list[str]:
        return [item["session_id"] for item in self._emulator.sessions() if item["status"] == "started"]

    async def _process(self, place: Place) -> asyncio.subprocess.Process:
        key = (place.worker, place.namespace, place.scope)
        if key not in self._processes:
            env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTHUMAN_")}
            env |= {
                "AGENTHUMAN_API_KEY": self._emulator.api_key,
                "AGENTHUMAN_BASE_URL": self._emulator.url,
            }
            self._processes[key] = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.langchain.identity.a_worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=env,
            )
            assert process.stdin is not None
            settings = {"namespace": place.namespace, "scope": place.scope}
            process.stdin.write(f"{json.dumps(settings)}\n".encode())
        return self._processes[key]

    async def aclose(self) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(LIMIT_S):
                    await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@asynccontextmanager
async def one_process() -> AsyncIterator[OneProcess]:
    world = OneProcess()
    try:
        yield world
    finally:
        await world.aclose()


@asynccontextmanager
async def processes(emulator: RunningEmulator) -> AsyncIterator[Processes]:
    world = Processes(emulator)
    try:
        yield world
    finally:
        await world.aclose()


def fits(pair: Pair, way: Way, *, has_names: bool) -> bool:
    """Whether a way can tell the two apart at all."""
    if not pair.has_agents:
        return True
    by_a_tool = way.name.startswith("create_agent")
    return way.has_agents and (has_names or not (pair.needs_names and by_a_tool))


async def tried(world: World, pair: Pair, way: Way) -> dict[str, bool]:
    """What the other one achieved, by operation; afterwards nothing runs."""
    number = next(_cells)
    owner, other = (replace(place, thread=f"{place.thread}-{number}") for place in (pair.owner, pair.other))
    opened = await world.call(owner, way, CREATE, "call_1")
    assert opened.status == "success", opened
    session_id = opened.artifact["session_id"]
    listed = await world.call(other, way, LIST, "call_2")
    assert listed.status == "success", listed
    did = {LIST: session_id in [item["session_id"] for item in listed.artifact["sessions"]]}
    assert (session_id in listed.content) == did[LIST]
    for call_id, (name, arguments) in enumerate(((GET, {}), (SAY, {"text": "Hi."}), (END, {})), start=3):
        told = await world.call(other, way, name, f"call_{call_id}", session_id=session_id, **arguments)
        did[name] = told.status == "success"
    assert (session_id not in await world.running()) == did[END]
    if not did[END]:
        ended = await world.call(owner, way, END, "call_6", session_id=session_id)
        assert ended.status == "success", ended  # who opened it can, whatever others tried
    return did


_cells = itertools.count(1)
