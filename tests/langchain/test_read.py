"""Get and list: what the model learns about sessions, and which ones it may see."""

import json

import pytest
from langchain_core.messages import ToolMessage

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import FakeService, Reply
from tests.langchain.conftest import Caller, Use, runtime

CREATE, END = "agent_human_create_session", "agent_human_end_session"
GET, LIST = "agent_human_get_session", "agent_human_list_sessions"


def foreign(service: FakeService, count: int = 1, status: str = "started") -> None:
    """Put sessions of somebody else into the account."""
    for number in range(1, count + 1):
        key = f"sess_foreign_{number}"
        begin = f"2024-01-15T10:{number:02}:00Z"
        service.sessions[key] = {"session_id": key, "status": status, "started_at": begin, "duration": 60.0}


def listed(message: ToolMessage) -> list[str]:
    return [session["session_id"] for session in message.artifact["sessions"]]


@pytest.fixture
def wide(caller: Caller, client: AgentHuman, async_client: AsyncAgentHuman) -> Use:
    """The tools for the whole account."""
    return caller.of(AgentHumanToolkit(client=client, async_client=async_client, scope="account"))


async def test_get_tells_whether_it_runs(use: Use, service: FakeService, toolkit: AgentHumanToolkit) -> None:
    """A session is told in a few lines; that it has ended elsewhere is noted."""
    await use(CREATE)
    service.sessions["sess_1"]["duration"] = 35.2
    running = await use(GET, session_id="sess_1")
    assert running.content.splitlines()[0] == "Session sess_1 is running for 35 s."
    assert running.artifact["status"] == "started"
    service.sessions["sess_1"] |= {
        "status": "ended",
        "ended_at": "2024-01-15T10:35:00Z",
        "billing": {"minutes_billed": 5},
    }
    ended = await use(GET, session_id="sess_1")
    assert ended.content == "Session sess_1 has ended after 35 s.\nUsed: 5 min."
    assert toolkit.sessions["sess_1"].has_ended


async def test_tools_see_what_this_toolkit_opened(use: Use, service: FakeService) -> None:
    """Sessions of others are neither listed nor told, and are not even asked for."""
    foreign(service)
    assert (
        await use(LIST)
    ).content == "There are no running sessions in this conversation that are known here."
    assert (await use(GET, session_id="sess_foreign_1")).status == "error"
    assert service.requests == []
    opened = await use(CREATE)
    assert listed(await use(LIST)) == [opened.artifact["session_id"]]


async def test_tools_see_their_own_thread(use: Use) -> None:
    """Two conversations of one toolkit do not see each other's sessions."""
    await use(CREATE, context=runtime("thread-1"))
    await use(CREATE, context=runtime("thread-2"))
    assert listed(await use(LIST, context=runtime("thread-1", "call_2"))) == ["sess_1"]
    refused = await use(GET, session_id="sess_2", context=runtime("thread-1", "call_3"))
    assert refused.status == "error"
    assert "sess_1" in refused.content


async def test_list_by_status(use: Use) -> None:
    """Running, ended, or all of them."""
    await use(CREATE)
    await use(CREATE)
    await use(END, session_id="sess_1")
    assert listed(await use(LIST)) == ["sess_2"]
    assert listed(await use(LIST, status="ended")) == ["sess_1"]
    assert set(listed(await use(LIST, status="all"))) == {"sess_1", "sess_2"}


async def test_account_scope_sees_and_ends_every_session(wide: Use, service: FakeService) -> None:
    """With the whole account in reach, sessions of others are listed, told and ended."""
    foreign(service)
    assert listed(await wide(LIST)) == ["sess_foreign_1"]
    assert "is running" in (await wide(GET, session_id="sess_foreign_1")).content
    assert (await wide(END, session_id="sess_foreign_1")).status == "success"
    assert service.running == []


async def test_unknown_session_of_the_account(wide: Use) -> None:
    """An id that the account does not have is an error of the model, told with advice."""
    told = await wide(GET, session_id="sess_nowhere")
    assert told.status == "error"
    assert "Session not found" in told.content
    assert "Do not retry with the same arguments" in told.content


async def test_list_is_capped_and_says_so(wide: Use, service: FakeService) -> None:
    """The newest ten are told, and how many older ones are not; content stays short."""
    foreign(service, 25)
    told = await wide(LIST)
    assert listed(told) == [f"sess_foreign_{number}" for number in range(25, 15, -1)]
    assert told.artifact["left_out"] == 15
    assert told.content.startswith("25 running sessions, newest first: sess_foreign_25 is running for 60 s;")
    assert told.content.endswith("15 older ones are left out.")
    assert "sess_foreign_15 " not in told.content
    assert len(told.content.splitlines()) <= 5
    assert len(told.content) < 700


async def test_nothing_secret_is_told(wide: Use, service: FakeService) -> None:
    """Tokens that the service sends along reach neither content nor artifact."""
    foreign(service)
    service.sessions["sess_foreign_1"] |= {
        "room": {"roomURL": "wss://r.example", "participantToken": "seeded-viewer-token"},
        "metadata": {"note": "seeded-note"},
    }
    for told in (await wide(LIST), await wide(GET, session_id="sess_foreign_1")):
        assert "seeded" not in json.dumps(told.model_dump(), default=repr)


async def test_session_that_is_gone_is_not_ended_again(
    use: Use, service: FakeService, toolkit: AgentHumanToolkit
) -> None:
    """A 404 on a session of ours means that nothing is left to end."""
    await use(CREATE)
    service.faults.append(Reply(404, {"success": False, "error": {"message": "Session not found"}}))
    assert (await use(END, session_id="sess_1")).status == "error"
    assert toolkit.sessions["sess_1"].has_ended


@pytest.mark.parametrize("tool", [GET, LIST])
async def test_failure_is_told_with_its_request_id(tool: str, wide: Use, service: FakeService) -> None:
    """The model reads what failed and whether to retry; the request id is there for support."""
    service.faults.append(Reply(403, {"error": "Access denied"}, {"x-request-id": "req_42"}))
    told = await wide(tool, **({} if tool == LIST else {"session_id": "sess_1"}))
    assert told.status == "error"
    for words in ("Access denied", "Do not retry", "req_42"):
        assert told.content.count(words) == 1
