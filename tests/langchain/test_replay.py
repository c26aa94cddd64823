"""One session for each tool call, however often the call is made, and by whichever process."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._ledger import Origin
from tests.client.conftest import ROOM, FakeService, Lost, Reply
from tests.langchain.conftest import Caller, Use, runtime

CREATE, END = "agent_human_create_session", "agent_human_end_session"
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


async def test_replayed_call_opens_no_second_session_after_the_end(use: Use, service: FakeService) -> None:
    """If the first session has ended meanwhile, the tool says so and opens none."""
    await use(CREATE, context=runtime("thread-1", "call_1"))
    await use(END, session_id="sess_1", context=runtime("thread-1", "call_2"))
    again = await use(CREATE, context=runtime("thread-1", "call_1"))
    assert "has ended. No new one was opened" in again.content
    assert len(service.sessions) == 1


async def test_other_threads_get_sessions_of_their_own(use: Use, service: FakeService) -> None:
    """Two conversations with the same call id neither share a session nor end each other's."""
    await use(CREATE, context=runtime("thread-1", "call_1"))
    await use(CREATE, context=runtime("thread-2", "call_1"))
    assert service.running == ["sess_1", "sess_2"]
    refused = await use(END, session_id="sess_1", context=runtime("thread-2", "call_2"))
    assert refused.status == "error"
    assert "sess_1" not in refused.content.split("Running:")[1]
    assert service.running == ["sess_1", "sess_2"]


async def test_calls_without_a_thread_are_all_different(use: Use, service: FakeService) -> None:
    """Without a conversation the ids of calls may repeat, and mean nothing."""
    for _ in range(2):
        await use(CREATE, context=runtime(None, "call_1"))
    refs = {body["metadata"]["client_ref"] for body in service.bodies("POST", "/v1/sessions")}
    assert len(refs) == 2


async def test_failed_call_may_be_made_again(use: Use, service: FakeService) -> None:
    """A create that failed leaves nothing behind that blocks the next."""
    service.faults.append(Reply(403, {"error": "No"}))
    assert (await use(CREATE, context=runtime("thread-1", "call_1"))).status == "error"
    assert (await use(CREATE, context=runtime("thread-1", "call_1"))).status == "success"


async def test_same_call_at_the_same_time_is_refused(
    use: Use, toolkit: AgentHumanToolkit, service: FakeService
) -> None:
    """Two runs of one call do not both open a session."""
    context = runtime("thread-1", "call_1")
    origin = Origin.of(context)
    toolkit._ledger.claim(origin.create_key())
    told = await use(CREATE, context=context)
    assert told.status == "error"
    assert "already opening" in told.content
    assert service.requests == []


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


async def test_new_process_opens_none_if_the_session_has_ended(
    new_process: NewProcess, service: FakeService
) -> None:
    """If the session of a replayed call has ended meanwhile, the tool says so and opens none."""
    await new_process()(CREATE, context=KEPT)
    service.sessions["sess_1"]["status"] = "ended"
    again = await new_process()(CREATE, context=KEPT)
    assert "has ended. No new one was opened" in again.content
    assert creates(service) == 1


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
    """A replayed call whose session the service has forgotten is told that it has ended."""
    await use(CREATE, context=runtime("thread-1"))
    del service.sessions["sess_1"]
    again = await use(CREATE, context=runtime("thread-1"))
    assert again.status == "success"
    assert "has ended. No new one was opened" in again.content


def test_keys_tell_conversations_apart() -> None:
    """Thread and call id are not simply joined; ids that UTF-8 cannot hold have keys, too."""
    keys = [
        Origin.of(runtime(thread, call_id)).create_key()
        for thread, call_id in [("a", "bc"), ("ab", "c"), ("1:a", "b"), ("a", "\ud800")]
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("lc-") and len(key) == 35 for key in keys)


async def test_ended_sessions_are_not_kept_for_ever(toolkit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that serves for months remembers the newest ended sessions alone."""
    monkeypatch.setattr("agenthuman_plugins.langchain._ledger._KEPT_ENDED", 2)
    create, *_, end = toolkit.get_tools()
    create.invoke({})
    for number in range(2, 6):
        create.invoke({})
        end.invoke({"session_id": f"sess_{number}"})
    assert list(toolkit.sessions) == ["sess_1", "sess_4", "sess_5"]
