"""What a process is to a session: every row of the table, and what follows from it for block, `reap` and owner."""

from typing import Any

import pytest

from agenthuman_plugins.client import AgentHuman, LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest
from agenthuman_plugins.langchain._holding import DUTIES, TABLE, Change, Holding, after, duties, markdown
from tests.client.conftest import FakeService, Time
from tests.langchain.conftest import Caller, runtime
from tests.langchain.toolbox import CREATE, END, GET, LIST, SAY, all_tools

STATES = (None, *Holding)
ROWS = [
    (None, Change.OPENED, Holding.OWNER),
    (None, Change.FOUND, Holding.GUEST),
    (Holding.GUEST, Change.OPENED, Holding.OWNER),
    (Holding.GUEST, Change.SPOKE, Holding.OWNER),
    (Holding.OWNER, Change.REPLACED, Holding.GUEST),
    (Holding.OWNER, Change.ENDED, Holding.ENDED),
    (Holding.GUEST, Change.ENDED, Holding.ENDED),
]
KEPT = runtime("ada", checkpointer=object())


@pytest.mark.parametrize(("holding", "change", "expected"), ROWS)
def test_what_changes(holding: Holding | None, change: Change, expected: Holding) -> None:
    """Who opens or speaks owns, who only sees is a guest, and what has ended is nobody's."""
    assert after(holding, change) is expected


def test_all_else_changes_nothing() -> None:
    """Every other pair leaves it as it is, so an ended session is never owned again."""
    changing = {(holding, change) for holding, change, _ in ROWS}
    assert set(TABLE) == changing
    for holding in STATES:
        for change in Change:
            if (holding, change) not in changing:
                assert after(holding, change) is holding


def test_tables_of_the_documentation_hold_every_row() -> None:
    """The tables that the documentation shows have a row for each change, and one for each duty."""
    assert set(DUTIES) == set(Holding)
    assert len(duties().splitlines()) == 2 + len(Holding)
    rows = markdown().splitlines()[2:]
    assert len(rows) == len(Change)
    for row, change in zip(rows, Change, strict=True):
        name, *cells, _ = row.removeprefix("| ").split("|")
        assert name.strip() == change.value
        assert [cell.strip() for cell in cells] == [
            to.value if (to := TABLE.get((holding, change))) else "" for holding in STATES
        ]


def room(request: SessionRequest) -> LiveKitRoom:
    """A room for each thread, where whoever asks speaks as the same agent."""
    return LiveKitRoom.mint(
        "wss://rooms.example.com",
        "key",
        "s" * 32,
        f"room-{request.thread_id}",
        agent_identity=request.agent_identity,
    )


class Workers:
    """Two processes of one application over one service."""

    def __init__(self, caller: Caller, service: FakeService) -> None:
        self.first, self.second = (all_tools(service, room=room, namespace="shop") for _ in range(2))
        self._caller = caller

    async def call(
        self, toolkit: AgentHumanToolkit, name: str, call_id: str = "call_2", **arguments: Any
    ) -> Any:
        context = runtime("ada", call_id, task=f"tools:{call_id}")
        return await self._caller.of(toolkit)(name, context=context, **arguments)

    async def open(self) -> None:
        assert (await self.call(self.first, CREATE, "call_1")).status == "success"

    def held_by(self, toolkit: AgentHumanToolkit) -> Holding | None:
        entry = toolkit._ledger.get("sess_1")
        return entry and entry.holding


@pytest.fixture
def workers(caller: Caller, service: FakeService) -> Workers:
    return Workers(caller, service)


@pytest.mark.parametrize("name", [GET, LIST])
async def test_guest_leaves_it_running(name: str, workers: Workers, service: FakeService) -> None:
    """Whoever only looks at another worker's session leaves it running at the block's end; its owner ends it."""
    with workers.first:
        await workers.open()
        with workers.second:
            told = await workers.call(
                workers.second, name, **({"session_id": "sess_1"} if name == GET else {})
            )
            assert "sess_1 is running" in told.content
            assert workers.held_by(workers.second) is Holding.GUEST
        assert service.running == ["sess_1"]
        assert workers.held_by(workers.first) is Holding.OWNER
    assert service.ended == ["sess_1"]


async def test_guest_may_end_it_by_its_tool(workers: Workers, service: FakeService) -> None:
    """A session belongs to its thread, so the end tool works on every worker, and the owner then has nothing to end."""
    with workers.first:
        await workers.open()
        with workers.second:
            await workers.call(workers.second, END, session_id="sess_1")
        assert workers.held_by(workers.second) is Holding.ENDED
        assert "has ended" in (await workers.call(workers.first, GET, session_id="sess_1")).content
        assert workers.held_by(workers.first) is Holding.ENDED
    assert service.ended == ["sess_1"]


async def test_who_speaks_last_owns_it(workers: Workers, service: FakeService) -> None:
    """The worker that speaks ends the session with its block; the one whose place was taken leaves it running."""
    with workers.second:
        with workers.first:
            await workers.open()
            said = await workers.call(workers.second, SAY, session_id="sess_1", text="Hi.")
            assert said.content.startswith("Spoken"), said.content
            assert workers.held_by(workers.second) is Holding.OWNER
            workers.first._handed_over("sess_1")
            assert workers.held_by(workers.first) is Holding.GUEST
        assert service.running == ["sess_1"]
    assert service.ended == ["sess_1"]


async def test_who_speaks_again_owns_it_again(workers: Workers, service: FakeService) -> None:
    """A conversation that comes back to its first worker is that one's to end."""
    with workers.first:
        await workers.open()
        workers.first._handed_over("sess_1")
        said = await workers.call(workers.first, SAY, session_id="sess_1", text="Hi.")
        assert said.content.startswith("Spoken"), said.content
        assert workers.held_by(workers.first) is Holding.OWNER
    assert service.ended == ["sess_1"]


async def test_replay_owns_what_it_finds(caller: Caller, service: FakeService) -> None:
    """The worker that carries a dead worker's call out again ends the session in its place."""
    await caller.of(all_tools(service, namespace="shop"))(CREATE, context=KEPT)
    with all_tools(service, namespace="shop") as toolkit:
        again = await caller.of(toolkit)(CREATE, context=KEPT)
        assert "was opened by this call before" in again.content
    assert service.ended == ["sess_1"]


def test_reap_spares_the_sessions_of_an_application(
    client: AgentHuman, service: FakeService, time: Time
) -> None:
    """A dead worker's session may be in use by another, so it carries the application's mark, not the process's."""
    time.owner = "somebody:0123456789ab:4711:1"
    AgentHumanToolkit(client=client, namespace="shop").get_tools()[0].invoke({})
    AgentHumanToolkit(client=client).get_tools()[0].invoke({})
    marks = [session["metadata"]["client_owner"] for session in service.sessions.values()]
    assert marks == ["langchain:shop", time.owner]
    assert list(client.sessions.reap()) == []
    assert [session.session_id for session in client.sessions.reap(owner="langchain:shop")] == ["sess_1"]
    assert service.running == ["sess_2"]


@pytest.mark.parametrize("namespace", ["shop", "a:b:4711:1", "0123456789ab:4711:1"])
def test_mark_of_an_application_is_never_that_of_a_dead_process(namespace: str, client: AgentHuman) -> None:
    """However an application is called, `reap()` proves nobody dead by its mark."""
    create = AgentHumanToolkit(client=client, namespace=namespace).get_tools()[0]
    create.invoke({})
    assert list(client.sessions.reap(dry_run=True)) == []
