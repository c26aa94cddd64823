"""A session that another process opened: what is asked for it, who ends it, and who may speak."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agenthuman_plugins.client.rooms import DailyRoom, LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit, _texts
from agenthuman_plugins.langchain._holding import Holding
from agenthuman_plugins.langchain._ledger import Entry
from agenthuman_plugins.langchain._origin import SessionRequest
from tests.client.conftest import ROOM, FakeService
from tests.langchain.conftest import Caller, Use, runtime
from tests.langchain.identity.owners import own_room
from tests.langchain.links import LIMIT_S, Link
from tests.langchain.toolbox import CREATE, END, GET, LIST, OF_ONE_SESSION, SAY, TOOLS, all_tools

ADA, BOB = runtime("ada", task="tools:1"), runtime("bob", task="tools:1")


class Worker:
    """A process of an application: a toolkit, its links, and what calls its tools."""

    def __init__(self, caller: Caller, service: FakeService, **options: Any) -> None:
        self.service = service
        self.links: list[Link] = []
        self.asked: list[SessionRequest] = []
        self._made = threading.Condition()

        def room(request: SessionRequest) -> Any:
            self.asked.append(request)
            return own_room(request)

        self.toolkit: AgentHumanToolkit = all_tools(service, **{"namespace": "shop", "room": room, **options})
        self.toolkit._made.make_link = self._make_link
        self.use: Use = caller.of(self.toolkit)

    def _make_link(self, entry: Entry, room: object) -> Link:
        with self._made:
            self.links.append(Link([]))
            self._made.notify_all()
        return self.links[-1]

    def connected(self, number: int = 0) -> Link:
        """The link with this number, as soon as it is there."""
        with self._made:
            assert self._made.wait_for(lambda: len(self.links) > number, LIMIT_S)
        assert self.links[number].connecting.wait(LIMIT_S)
        return self.links[number]

    async def replaced(self, number: int = 0) -> None:
        """Another worker connects with the same identity."""
        link = await asyncio.to_thread(self.connected, number)
        await asyncio.to_thread(link.lose, "Another participant joined with this identity.", replaced=True)

    def holding(self, session_id: str = "sess_1") -> Holding | None:
        entry = self.toolkit._ledger.get(session_id)
        return None if entry is None else entry.holding

    async def leave(self) -> None:
        """Come to the end of a block."""
        async with self.toolkit:
            pass


NewWorker = Callable[..., Worker]


@pytest.fixture
async def worker(caller: Caller, service: FakeService) -> AsyncIterator[NewWorker]:
    workers: list[Worker] = []

    def new(**options: Any) -> Worker:
        workers.append(Worker(caller, service, **options))
        return workers[-1]

    yield new
    for each in workers:
        assert each.toolkit._speech is not None
        await each.toolkit._speech.aclose()
        await each.toolkit._loop.aclose()


def since(service: FakeService, number: int) -> list[str]:
    return service.log[number:]


# --- what is asked


@pytest.mark.parametrize("tool", [GET, END, SAY])
async def test_session_of_another_worker_is_asked_for_once(
    tool: str, worker: NewWorker, service: FakeService
) -> None:
    """The first call that names it asks whose it is; later ones cost what they cost where it was opened."""
    await worker().use(CREATE, context=ADA)
    other, before = worker(), len(service.requests)
    arguments = {"session_id": "sess_1", **OF_ONE_SESSION[tool]}
    assert (await other.use(tool, context=ADA, **arguments)).status == "success"
    asked = since(service, before)
    assert asked == ["GET /v1/sessions/sess_1", *(["POST /v1/sessions/sess_1/end"] if tool == END else [])]
    before = len(service.requests)
    assert (await other.use(GET, context=ADA, session_id="sess_1")).status == "success"
    assert since(service, before) == ["GET /v1/sessions/sess_1"]


@pytest.mark.parametrize("tool", OF_ONE_SESSION)
async def test_session_of_somebody_else_is_asked_for_once(
    tool: str, worker: NewWorker, service: FakeService
) -> None:
    """It is refused every time, but read once; nothing else happens to it."""
    await worker().use(CREATE, context=ADA)
    other, before = worker(), len(service.requests)
    for _ in range(3):
        told = await other.use(tool, context=BOB, session_id="sess_1", **OF_ONE_SESSION[tool])
        assert told.status == "error"
        assert "not known here as a session of this conversation" in told.content
    assert since(service, before) == ["GET /v1/sessions/sess_1"]
    assert (service.running, other.links, other.holding()) == (["sess_1"], [], None)


async def test_session_that_nobody_has_is_asked_for_once(worker: NewWorker, service: FakeService) -> None:
    """An id that a model made up costs one request, however often it is named."""
    one = worker()
    for _ in range(3):
        assert (await one.use(GET, context=ADA, session_id="sess_made_up")).status == "error"
    assert service.log == ["GET /v1/sessions/sess_made_up"]


async def test_owner_is_not_shut_out_by_a_stranger(worker: NewWorker, service: FakeService) -> None:
    """A worker that refused somebody else's session gives it to its own conversation, without forgetting whose it is."""
    await worker().use(CREATE, context=ADA)
    other = worker()
    assert (await other.use(GET, context=BOB, session_id="sess_1")).status == "error"
    assert (await other.use(GET, context=ADA, session_id="sess_1")).status == "success"
    assert (await other.use(GET, context=BOB, session_id="sess_1")).status == "error"


@pytest.mark.parametrize("tool", [LIST, *OF_ONE_SESSION])
async def test_nothing_is_asked_without_a_namespace(
    tool: str, worker: NewWorker, service: FakeService
) -> None:
    """Then other processes' sessions cannot be told from a stranger's, and no request is made for them."""
    await worker(namespace=None).use(CREATE, context=ADA)
    other, before = worker(namespace=None), len(service.requests)
    arguments = {} if tool == LIST else {"session_id": "sess_1", **OF_ONE_SESSION[tool]}
    told = await other.use(tool, context=ADA, **arguments)
    assert since(service, before) == []
    assert "known here" in told.content if tool == LIST else told.status == "error"


async def test_lists_are_read_with_one_request(worker: NewWorker, service: FakeService) -> None:
    """Where a list holds the metadata, it tells whose the sessions are; a listed one may be named for nothing."""
    await worker().use(CREATE, context=ADA)
    await worker().use(CREATE, context=BOB)
    other, before = worker(), len(service.requests)
    told = await other.use(LIST, context=ADA)
    assert [item["session_id"] for item in told.artifact["sessions"]] == ["sess_1"]
    await other.use(END, context=ADA, session_id="sess_1")
    assert since(service, before) == ["GET /v1/sessions", "POST /v1/sessions/sess_1/end"]


async def test_list_that_leaves_metadata_out(worker: NewWorker, service: FakeService) -> None:
    """One request for each session that is not known yet, 20 for a list; the model is told how many are left."""
    crowd = worker()
    for number in range(25):
        await crowd.use(CREATE, context=runtime(f"user-{number}", f"call_{number}"))
    service.list_omits_metadata = True
    other, before = worker(), len(service.requests)
    told = await other.use(LIST, context=runtime("user-3"))
    assert [item["session_id"] for item in told.artifact["sessions"]] == ["sess_4"]
    assert told.content.endswith("5 more sessions of the account could not be checked.")
    assert len(since(service, before)) == 1 + 20
    before = len(service.requests)
    told = await other.use(LIST, context=runtime("user-24"))
    assert [item["session_id"] for item in told.artifact["sessions"]] == ["sess_25"]
    assert "could not be checked" not in told.content
    assert len(since(service, before)) == 1 + 5  # the others are known by now
    before = len(service.requests)
    await other.use(LIST, context=runtime("user-3"))
    assert since(service, before) == ["GET /v1/sessions"]


async def test_replay_elsewhere_where_lists_leave_metadata_out(
    worker: NewWorker, service: FakeService
) -> None:
    """The session of a call that is replayed is found there, too."""
    kept = runtime("ada", checkpointer=object(), task="tools:1")
    await worker().use(CREATE, context=kept)
    service.list_omits_metadata = True
    other, before = worker(), len(service.requests)
    told = await other.use(CREATE, context=kept)
    assert told.artifact["session_id"] == "sess_1"
    assert since(service, before) == ["GET /v1/sessions", "GET /v1/sessions/sess_1"]


# --- who ends it


@pytest.mark.parametrize("tool", [LIST, GET])
async def test_who_only_looked_does_not_end_it(tool: str, worker: NewWorker, service: FakeService) -> None:
    """The end of a block ends what the process opened or spoke through, not what it looked at."""
    owner, guest = worker(), worker()
    await owner.use(CREATE, context=ADA)
    async with guest.toolkit:
        await guest.use(tool, context=ADA, **({} if tool == LIST else {"session_id": "sess_1"}))
        assert guest.holding() is Holding.GUEST
    assert service.running == ["sess_1"]
    await owner.leave()
    assert service.ended == ["sess_1"]


async def test_who_speaks_takes_over(worker: NewWorker, service: FakeService) -> None:
    """The worker that spoke last ends it with its block; the one whose place it took leaves it alone."""
    first, second = worker(), worker()
    await first.use(CREATE, context=ADA)
    async with second.toolkit:
        told = await second.use(SAY, context=ADA, session_id="sess_1", text="Hi.")
        assert told.status == "success", told.content
        await first.replaced()
        assert (first.holding(), second.holding()) == (Holding.GUEST, Holding.OWNER)
        await first.leave()
        assert service.running == ["sess_1"]
    assert service.ended == ["sess_1"]
    assert len(first.links) == 1  # it did not come back by itself


async def test_who_has_said_nothing_yet_learns_of_it_too(worker: NewWorker, service: FakeService) -> None:
    """A worker connects when it opens a session that may move: else it would end it under another one's words."""
    first = worker()
    await first.use(CREATE, context=ADA)
    await first.replaced()
    assert first.holding() is Holding.GUEST
    await first.leave()
    assert service.running == ["sess_1"]


async def test_timers_stop_with_the_hand_over(worker: NewWorker, service: FakeService) -> None:
    """What the first worker would have ended after a while, it leaves to the one that speaks now."""
    first = worker(max_idle_secs=0.3, max_session_secs=0.6)
    await first.use(CREATE, context=ADA)
    await first.replaced()
    watches = first.toolkit._made._limits._watches
    async with asyncio.timeout(LIMIT_S):
        while any(watch.running for watch in watches.values()):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    assert (service.running, service.ended) == (["sess_1"], [])


async def test_it_comes_back_when_it_is_spoken_through_here_again(
    worker: NewWorker, service: FakeService
) -> None:
    """After a hand-over the next `say` connects anew, in the room that it has the token of, and ends it again."""
    first, second = worker(), worker()
    await first.use(CREATE, context=ADA)
    await first.replaced()
    assert (await second.use(SAY, context=ADA, session_id="sess_1", text="Hi.")).status == "success"
    assert (await first.use(SAY, context=ADA, session_id="sess_1", text="Hi.")).status == "success"
    await second.replaced()
    assert (first.holding(), second.holding()) == (Holding.OWNER, Holding.GUEST)
    assert (len(first.links), len(second.links)) == (2, 1)
    await second.leave()
    assert service.running == ["sess_1"]
    await first.leave()
    assert service.ended == ["sess_1"]


async def test_say_that_is_cut_by_a_hand_over_tells_the_model(
    worker: NewWorker, service: FakeService
) -> None:
    """Whoever was speaking is told that another worker speaks now, and not to try again."""
    first = worker()
    await first.use(CREATE, context=ADA)
    link = await asyncio.to_thread(first.connected)
    saying = asyncio.ensure_future(
        asyncio.to_thread(
            lambda: asyncio.run(first.use(SAY, context=ADA, session_id="sess_1", text="a" * 2000))
        )
    )
    assert await asyncio.to_thread(link.heard.wait, LIMIT_S)
    await first.replaced()
    told = await saying
    assert told.status == "error"
    assert told.content.endswith(
        "Another worker of this application speaks through this session now. Do not retry."
    )
    assert len(first.links) == 1


# --- who may speak


async def test_application_is_asked_for_a_token_once(worker: NewWorker, service: FakeService) -> None:
    """`room` is called with the session, the agent's identity and the room's name, for the first `say` there."""
    first, second = worker(), worker()
    await first.use(CREATE, context=ADA)
    for _ in range(2):
        told = await second.use(SAY, context=ADA, session_id="sess_1", text="Hi.")
        assert told.status == "success"
    (asked,) = second.asked
    metadata = service.sessions["sess_1"]["metadata"]
    assert asked.session is not None
    assert (asked.session.session_id, asked.thread_id) == ("sess_1", "ada")
    assert (asked.agent_identity, asked.room_name) == (metadata["client_agent"], metadata["client_room"])
    assert asked.agent_identity.startswith("agent-")
    (opened,) = first.asked
    assert (opened.session, opened.agent_identity, opened.room_name) == (None, None, None)


ELSEWHERE = _texts.only_where_it_was_opened("sess_1", TOOLS)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: None, id="none"),
        pytest.param(lambda _: DailyRoom("https://example.daily.co/room", "seeded-token"), id="daily"),
        pytest.param(lambda _: ROOM, id="no-agent-token"),
        pytest.param(
            lambda _: LiveKitRoom.mint("wss://rooms.example.com", "key", "seeded-secret", "room"),
            id="another-identity",
        ),
    ],
)
async def test_application_that_gives_no_such_token(
    answer: Any, worker: NewWorker, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """The model is told what runs and who can speak, the operator what the function must return."""
    await worker().use(CREATE, context=ADA)
    second = worker(room=answer)
    told = await second.use(SAY, context=ADA, session_id="sess_1", text="Hi.")
    assert told.status == "error"
    assert told.content == ELSEWHERE
    assert "request.agent_identity" in caplog.text
    assert (service.running, second.links, second.holding()) == (["sess_1"], [], Holding.GUEST)


@pytest.mark.parametrize(
    "room",
    [
        pytest.param(None, id="room-of-the-service"),
        pytest.param(ROOM, id="gateway"),
        pytest.param(DailyRoom("https://example.daily.co/room", "seeded-token"), id="daily"),
    ],
)
async def test_session_that_only_its_process_can_speak_through(
    room: Any, worker: NewWorker, service: FakeService
) -> None:
    """Over the gateway and in rooms that the service made, `say` elsewhere is refused with the reason."""
    first, second = worker(room=room), worker(room=room)
    await first.use(CREATE, context=ADA)
    assert (await first.use(SAY, context=ADA, session_id="sess_1", text="Hi.")).status == "success"
    told = await second.use(SAY, context=ADA, session_id="sess_1", text="Hi.")
    assert (told.status, second.links) == ("error", [])
    assert told.content == ELSEWHERE
    assert (await second.use(GET, context=ADA, session_id="sess_1")).status == "success"
    assert (await second.use(END, context=ADA, session_id="sess_1")).status == "success"


async def test_end_elsewhere_is_met_before_a_say(worker: NewWorker, service: FakeService) -> None:
    """A session that another worker ended is asked about before the first `say` waits for its avatar."""
    first, second = worker(room=ROOM), worker(room=ROOM)
    await first.use(CREATE, context=ADA)
    await second.use(END, context=ADA, session_id="sess_1")
    told = await first.use(SAY, context=ADA, session_id="sess_1", text="Hi.")
    assert "has ended" in told.content
    assert first.links == []
