"""One session for each tool call, however often the call is made, and by whichever process."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._origin import Origin, References
from tests.client.conftest import ROOM, FakeService, Lost, Reply
from tests.langchain.conftest import Caller, Use, runtime
from tests.langchain.toolbox import by_name

CREATE, END = "agent_human_create_session", "agent_human_end_session"
LIMIT_S = 30.0  # hang limit only
KEPT = runtime("thread-1", "call_1", checkpointer=object())

NewProcess = Callable[[], Use]


@pytest.fixture
def new_process(caller: Caller, client: AgentHuman, async_client: AsyncAgentHuman) -> NewProcess:
    """Make the tools that another process would have: the same settings, and no memory."""
    return lambda: caller.of(AgentHumanToolkit(client=client, async_client=async_client, room=ROOM))


def creates(service: FakeService) -> int:
    return service.log.count("POST /v1/sessions")


async def test_replayed_call_returns_its_first_session(use: Use, service: FakeService) -> None:
    """The same call of the same thread opens one session, however often a checkpoint is resumed."""
    first = await use(CREATE, context=runtime("thread-1", "call_1"))
    again = await use(CREATE, context=runtime("thread-1", "call_1"))
    assert first.artifact["session_id"] == again.artifact["session_id"] == "sess_1"
    assert "still running" in again.content
    assert len(service.sessions) == 1


async def test_session_that_has_ended_is_opened_anew(use: Use, service: FakeService) -> None:
    """If the first session of a call has ended meanwhile, the call is carried out again."""
    await use(CREATE, context=runtime("thread-1", "call_1"))
    await use(END, session_id="sess_1", context=runtime("thread-1", "call_2"))
    for answer in ("Opened session sess_2", "Session sess_2 was opened by this call before"):
        again = await use(CREATE, context=runtime("thread-1", "call_1"))
        assert again.content.startswith(answer)
    assert service.running == ["sess_2"]


async def test_other_threads_get_sessions_of_their_own(use: Use, service: FakeService) -> None:
    """Two conversations with the same call id neither share a session nor end each other's."""
    await use(CREATE, context=runtime("thread-1", "call_1"))
    await use(CREATE, context=runtime("thread-2", "call_1"))
    assert service.running == ["sess_1", "sess_2"]
    refused = await use(END, session_id="sess_1", context=runtime("thread-2", "call_2"))
    assert refused.status == "error"
    assert "sess_1" not in refused.content.split("Running:")[1]
    assert service.running == ["sess_1", "sess_2"]


async def test_calls_without_a_thread_are_told_apart_by_their_task(use: Use, service: FakeService) -> None:
    """Without a conversation, what is tried again in one run is one call, and the next run's are others."""
    for task in ("tools:run-1", "tools:run-1", "tools:run-2"):
        await use(CREATE, context=runtime(None, "call_1", task=task))
    assert service.running == ["sess_1", "sess_2"]
    refs = {body["metadata"]["client_ref"] for body in service.bodies("POST", "/v1/sessions")}
    assert len(refs) == 2


async def test_calls_outside_of_a_graph_are_all_different(use: Use, service: FakeService) -> None:
    """Where nothing tells one call from the next, each opens a session, whatever ids a program gives them."""
    for _ in range(2):
        await use(CREATE)
        await use(CREATE, context=runtime("thread-1", "call_1", task=""))
    assert len(service.running) == 4


async def test_failed_call_may_be_made_again(use: Use, service: FakeService) -> None:
    """A create that failed leaves nothing behind that blocks the next."""
    service.faults.append(Reply(403, {"error": "No"}))
    assert (await use(CREATE, context=runtime("thread-1", "call_1"))).status == "error"
    assert (await use(CREATE, context=runtime("thread-1", "call_1"))).status == "success"


async def test_same_call_at_the_same_time_waits(
    caller: Caller, client: AgentHuman, async_client: AsyncAgentHuman, service: FakeService
) -> None:
    """The same call, made again while it is under way, waits and returns the same session."""
    opening, go_on = threading.Event(), threading.Event()

    def note(*_: Any) -> None:
        opening.set()
        assert go_on.wait(LIMIT_S)

    toolkit = AgentHumanToolkit(client=client, async_client=async_client, on_session=note)
    create = by_name(toolkit)[CREATE]

    async def make() -> Any:
        wish = {"name": CREATE, "args": {"runtime": runtime("thread-1")}, "id": "call_1", "type": "tool_call"}
        return await (
            create.ainvoke(wish) if caller.kind == "async" else asyncio.to_thread(create.invoke, wish)
        )

    async with asyncio.timeout(LIMIT_S):
        first = asyncio.create_task(make())
        await asyncio.to_thread(opening.wait, LIMIT_S)
        second = asyncio.create_task(make())
        done, _ = await asyncio.wait({second}, timeout=0.1)
        assert not done
        go_on.set()
        answers = await asyncio.gather(first, second)
    assert [answer.artifact["session_id"] for answer in answers] == ["sess_1", "sess_1"]
    assert answers[0].content.startswith("Opened session sess_1")
    assert "was opened by this call before" in answers[1].content
    assert service.running == ["sess_1"]


async def test_failure_leaves_the_call_to_who_waits_for_it(
    caller: Caller, client: AgentHuman, async_client: AsyncAgentHuman, service: FakeService
) -> None:
    """If the first of two same calls fails, the other one is carried out: it does not repeat the failure."""
    opening, go_on = threading.Event(), threading.Event()

    def fail_once(*_: Any) -> None:
        if not opening.is_set():
            opening.set()
            assert go_on.wait(LIMIT_S)
            raise LookupError

    toolkit = AgentHumanToolkit(client=client, async_client=async_client, on_session=fail_once)
    create = by_name(toolkit)[CREATE]

    async def make() -> Any:
        arguments = {"runtime": runtime("thread-1")}
        return await (
            create.ainvoke(arguments)
            if caller.kind == "async"
            else asyncio.to_thread(create.invoke, arguments)
        )

    async with asyncio.timeout(LIMIT_S):
        first = asyncio.create_task(make())
        await asyncio.to_thread(opening.wait, LIMIT_S)
        second = asyncio.create_task(make())
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(LookupError):
            await first
        assert (await second).startswith("Opened session sess_2")
    assert service.running == ["sess_2"]


async def test_new_process_finds_the_session_of_a_replayed_call(
    new_process: NewProcess, service: FakeService
) -> None:
    """A checkpoint that another process resumes gets its first session back, and may end it."""
    await new_process()(CREATE, context=KEPT)
    use = new_process()
    again = await use(CREATE, context=KEPT)
    assert again.content == "Session sess_1 was opened by this call before and is still running."
    assert again.artifact["session_id"] == "sess_1"
    assert creates(service) == 1
    assert (await use(END, session_id="sess_1", context=runtime("thread-1", "call_2"))).status == "success"


async def test_new_process_opens_one_if_the_session_has_ended(
    new_process: NewProcess, service: FakeService
) -> None:
    """If the session of a replayed call has ended meanwhile, another process opens a new one as well."""
    await new_process()(CREATE, context=KEPT)
    service.sessions["sess_1"]["status"] = "ended"
    again = await new_process()(CREATE, context=KEPT)
    assert again.content.startswith("Opened session sess_2")
    assert service.running == ["sess_2"]


async def test_call_that_may_be_a_replay_asks_once(new_process: NewProcess, service: FakeService) -> None:
    """Where another process may have made the call, one list of the running sessions tells."""
    service.sessions["sess_old"] = {"session_id": "sess_old", "status": "ended"}
    await new_process()(CREATE, context=KEPT)
    assert service.log == ["GET /v1/sessions", "POST /v1/sessions"]
    assert service.requests[0].url.params["status"] == "started"


async def test_adopted_session_is_ended_with_the_block(
    caller: Caller,
    new_process: NewProcess,
    client: AgentHuman,
    async_client: AsyncAgentHuman,
    service: FakeService,
) -> None:
    """A session that was found again belongs to the block of the process that found it."""
    await new_process()(CREATE, context=KEPT)
    async with AgentHumanToolkit(client=client, async_client=async_client, room=ROOM) as toolkit:
        await caller.of(toolkit)(CREATE, context=KEPT)
        assert list(toolkit.sessions) == ["sess_1"]
    assert service.ended == ["sess_1"]


async def test_session_that_is_found_after_the_block_is_ended(
    caller: Caller,
    new_process: NewProcess,
    client: AgentHuman,
    async_client: AsyncAgentHuman,
    service: FakeService,
) -> None:
    """A session that a replayed call finds too late has nobody else to end it."""
    await new_process()(CREATE, context=KEPT)
    toolkit = AgentHumanToolkit(client=client, async_client=async_client, room=ROOM)
    process = service._process

    def close_first(request: httpx.Request) -> httpx.Response:
        toolkit._ledger.close()
        return process(request)

    service._process = close_first  # type: ignore[method-assign]
    told = await caller.of(toolkit)(CREATE, context=KEPT)
    assert told.status == "error"
    assert service.ended == ["sess_1"]


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(None, id="plain-call"),
        pytest.param(runtime("thread-1", "call_1"), id="no-checkpointer"),
        pytest.param(runtime(None, "call_1", checkpointer=object()), id="no-thread"),
    ],
)
async def test_call_that_cannot_be_a_replay_asks_for_nothing_more(
    context: object | None, use: Use, service: FakeService
) -> None:
    """Only a run that is kept can be resumed elsewhere; any other opens its session with one request."""
    await use(CREATE, context=context)
    assert service.log == ["POST /v1/sessions"]


async def test_sessions_of_other_threads_are_not_found(new_process: NewProcess, service: FakeService) -> None:
    """The same call id in another thread is another call, in another process as well."""
    await new_process()(CREATE, context=KEPT)
    other = await new_process()(CREATE, context=runtime("thread-2", "call_1", checkpointer=object()))
    assert other.artifact["session_id"] == "sess_2"


async def test_search_that_fails_opens_nothing(new_process: NewProcess, service: FakeService) -> None:
    """As long as it is unknown whether the session exists, none is opened; the model may try again."""
    await new_process()(CREATE, context=KEPT)
    use = new_process()
    service.faults.extend([httpx.ConnectError] * 3)
    told = await use(CREATE, context=KEPT)
    assert told.status == "error"
    assert "Trying again later may help" in told.content
    assert (await use(CREATE, context=KEPT)).artifact["session_id"] == "sess_1"
    assert creates(service) == 1


async def test_unknown_outcome_is_looked_up_before_the_next_try(use: Use, service: FakeService) -> None:
    """A create whose answer and look-ups were lost is found by the same call's next try, not made again."""
    service.faults.extend([Lost(httpx.ReadTimeout), *[Reply(500)] * 9])
    told = await use(CREATE, context=runtime("thread-1"))
    assert told.status == "error"
    assert "a session may be running and billed" in told.content
    again = await use(CREATE, context=runtime("thread-1"))
    assert again.content == "Session sess_1 was opened by this call before and is still running."
    assert creates(service) == 1


async def test_doubt_remains_until_the_session_was_looked_for(use: Use, service: FakeService) -> None:
    """A failed look-up does not end the doubt: the try after it looks again, too."""
    service.faults.extend([Lost(httpx.ReadTimeout), *[Reply(500)] * 9])
    await use(CREATE, context=runtime("thread-1"))
    service.faults.extend([Reply(500)] * 3)
    assert (await use(CREATE, context=runtime("thread-1"))).status == "error"
    assert (await use(CREATE, context=runtime("thread-1"))).artifact["session_id"] == "sess_1"
    assert creates(service) == 1


async def test_create_that_was_never_processed_is_made_by_the_next_try(
    use: Use, service: FakeService
) -> None:
    """If no session of the unclear create turns up, the same call may open it."""
    service.faults.append(httpx.ReadTimeout)
    assert (await use(CREATE, context=runtime("thread-1"))).status == "error"
    assert (await use(CREATE, context=runtime("thread-1"))).status == "success"
    assert service.running == ["sess_1"]


async def test_session_that_vanished_counts_as_ended(use: Use, service: FakeService) -> None:
    """A session that the service has forgotten does not run: the replayed call opens one."""
    await use(CREATE, context=runtime("thread-1"))
    service.sessions["sess_other"] = service.sessions.pop("sess_1") | {"metadata": {}}
    again = await use(CREATE, context=runtime("thread-1"))
    assert again.content.startswith("Opened session sess_2")


def test_keys_tell_calls_apart() -> None:
    """Thread, task and call id are not simply joined; ids that UTF-8 cannot hold have keys, too."""
    calls = [
        ("a", "n", "bc"),
        ("ab", "n", "c"),
        ("a", "nb", "c"),
        ("1:a", "n", "b"),
        ("a", "n", "\ud800"),
        (None, "n", "b"),
    ]
    keys = [Origin.of(runtime(thread, call, task=task)).key for thread, task, call in calls]
    assert None not in keys
    assert len(set(keys)) == len(calls)
    assert Origin.of(runtime("a", "b", task="")).key is None
    assert Origin.of(runtime("a", "", task="n")).key is None


def test_references_name_thread_agent_and_call() -> None:
    """A reference says whose it is to every process with the same namespace, and to no other application."""
    ours, theirs = References("shop"), References("bank")
    root = Origin("1", tool_call_id="c", checkpoint_ns="tools:1")
    sub = Origin("1", "researcher", tool_call_id="c", checkpoint_ns="tools:1|tools:2")
    assert ours.new(root) == References("shop").new(root) != theirs.new(root)
    assert ours.new(root).startswith(ours.begin(root))
    assert ours.new(sub).startswith(ours.begin(root))  # the agent of the conversation sees its subagents'
    assert ours.new(sub).startswith(ours.begin(sub))
    assert not ours.new(root).startswith(ours.begin(sub))
    for other in (ours.begin(Origin("2")), theirs.begin(root), References(None).begin(root)):
        assert not ours.new(root).startswith(other)
    assert References(None).begin(root) != References("own").begin(root)


async def test_ended_sessions_are_not_kept_for_ever(toolkit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that serves for months remembers the newest ended sessions alone."""
    monkeypatch.setattr("agenthuman_plugins.langchain._ledger._KEPT", 2)
    create, *_, end = toolkit.get_tools()
    create.invoke({})
    for number in range(2, 6):
        create.invoke({})
        end.invoke({"session_id": f"sess_{number}"})
    assert list(toolkit.sessions) == ["sess_1", "sess_4", "sess_5"]
