"""The tools: what the model sees, sends, and is told."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from blockbuster import blockbuster_ctx
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from agenthuman_plugins.client import AsyncAgentHuman, ConfigurationError, LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest
from tests.client.conftest import API_KEY, ROOM, FakeService, Lost, Reply
from tests.langchain.conftest import Caller, Use, runtime
from tests.langchain.toolbox import AVATARS, CREATE, END, GET, LIST, SAY, USAGE, all_tools

LIMIT_S = 30.0  # hang limit only


async def test_create_then_end(use: Use, service: FakeService, toolkit: AgentHumanToolkit) -> None:
    """A session is opened in the application's room, told in a few lines, and ended."""
    opened = await use(CREATE, avatar="avat_1", aspect_ratio="1:1")
    assert opened.status == "success"
    assert "Opened session sess_1" in opened.content
    assert END in opened.content
    assert len(opened.content.splitlines()) <= 5
    (body,) = service.bodies("POST", "/v1/sessions")
    assert (body["avatar"], body["aspect_ratio"]) == ("avat_1", "1:1")
    assert body["room"] == {"platform": "livekit", "url": ROOM.url, "token": ROOM.avatar_token}
    assert list(toolkit.sessions) == ["sess_1"]

    ended = await use(END, session_id="sess_1")
    assert "has ended" in ended.content
    assert service.ended == ["sess_1"]
    assert toolkit.sessions["sess_1"].has_ended


async def test_artifact_is_plain_json_without_secrets(use: Use) -> None:
    """The artifact lands in traces and checkpoints in clear, so it is JSON and holds no token."""
    opened = await use(CREATE)
    assert opened.artifact == {
        "session_id": "sess_1",
        "status": "started",
        "aspect_ratio": "4:3",
        "started_at": "2024-01-15T10:30:00Z",
    }
    assert "seeded" not in json.dumps(opened.model_dump(), default=repr)


async def test_ending_twice_is_harmless(use: Use, service: FakeService) -> None:
    """A second end of the same session succeeds as well."""
    await use(CREATE)
    await use(END, session_id="sess_1")
    assert (await use(END, session_id="sess_1")).status == "success"


@pytest.mark.parametrize(
    ("fault", "sentences"),
    [
        pytest.param(
            Reply(429, {"error": {"code": "INSUFFICIENT_MINUTES", "message": "No minutes remaining."}}),
            ("No minutes remaining", "Do not retry", "Only its operator can change that"),
            id="minutes",
        ),
        pytest.param(
            Reply(401, {"error": "Invalid API key"}),
            ("Invalid API key", "Do not retry", "operator"),
            id="key",
        ),
        pytest.param(Reply(403, {"error": "Access denied"}), ("Access denied", "Do not retry"), id="avatar"),
        pytest.param(
            Reply(400, {"error": {"message": "Avatar unknown", "suggestion": "Use another"}}),
            ("Avatar unknown", "Use another", "change what is named"),
            id="argument",
        ),
        pytest.param(httpx.ReadTimeout, ("may still appear", "Do not retry", "billed"), id="unknown-outcome"),
    ],
)
async def test_failure_is_told_with_advice(
    fault: Any, sentences: tuple[str, ...], use: Use, service: FakeService
) -> None:
    """The model reads what failed, whether to try again, and what to change; the run goes on."""
    service.faults.append(fault)
    told = await use(CREATE)
    assert told.status == "error"
    for sentence in sentences:
        assert sentence in told.content
    for only_for_programmers in (API_KEY, "api_key", "AGENTHUMAN", "sessions.list", "metadata."):
        assert only_for_programmers not in told.content


async def test_passing_failure_is_told_as_one(use: Use, service: FakeService) -> None:
    """What may pass is called so, after our own attempts."""
    service.faults.extend([httpx.ConnectError] * 3)
    assert "Trying again later may help" in (await use(CREATE)).content


async def test_lost_answer_is_found_again(use: Use, service: FakeService) -> None:
    """A create whose answer is lost still gives the model its one session."""
    service.faults.append(Lost(httpx.ReadTimeout))
    assert "Opened session sess_1" in (await use(CREATE)).content
    assert service.running == ["sess_1"]


async def test_programming_error_propagates(use: Use, service: FakeService) -> None:
    """A defect is not dressed up as something that the model could cure."""
    service.faults.append(LookupError("a defect"))
    with pytest.raises(LookupError, match="a defect"):
        await use(CREATE)


async def test_unknown_session_is_not_asked_for(use: Use, service: FakeService) -> None:
    """An id that this toolkit did not open makes no request; the model is shown the right ones."""
    service.sessions["sess_foreign"] = {"session_id": "sess_foreign", "status": "started"}
    told = await use(END, session_id="sess_foreign")
    assert told.status == "error"
    assert "sess_foreign is not known here as a session of this conversation" in told.content
    assert service.requests == []
    await use(CREATE)
    assert "Running: sess_2" in (await use(END, session_id="sess_7")).content
    assert service.running == ["sess_foreign", "sess_2"]


@pytest.mark.parametrize("body", [b'{"success": tru', b"<html>", b""], ids=["cut", "page", "nothing"])
async def test_end_that_says_nothing_is_looked_at(body: bytes, use: Use, service: FakeService) -> None:
    """A success that does not tell of the session may be a proxy's: the tool asks, and says what is true."""
    await use(CREATE)
    service.faults.append(Reply(200, body))
    told = await use(END, session_id="sess_1")
    assert (told.status, service.running) == ("error", ["sess_1"])
    assert "still running" in told.content
    ended = await use(END, session_id="sess_1")
    assert (ended.status, service.ended) == ("success", ["sess_1"])


class Account(FakeService):
    """A service that tells of avatars and of what is left, too."""

    def __init__(self, **bodies: Any) -> None:
        super().__init__()
        self._bodies = {f"/v1/{name}": {"success": True, **body} for name, body in bodies.items()}

    def _process(self, request: httpx.Request) -> httpx.Response:
        if (body := self._bodies.get(request.url.path)) is not None:
            return httpx.Response(200, json=body)
        return super()._process(request)


async def test_avatars_are_listed(caller: Caller) -> None:
    """The account's own come first, ids with tags, thirty at most; their pictures, whose addresses are signed, do not."""
    public = [{"avatar_id": f"PUBLIC/Avatars/{n}", "image_url": "https://seeded"} for n in range(40)]
    own = [{"avatar_id": "avat_mine", "tags": ["user_exclusive", "female"], "preview_url": "https://seeded"}]
    service = Account(avatars={"public_avatars": public, "my_avatars": own})
    told = await caller.of(all_tools(service, tools=[CREATE, SAY, AVATARS]))(AVATARS)
    assert told.content.startswith(
        "Avatars: avat_mine (user_exclusive, female); PUBLIC/Avatars/0; PUBLIC/Avatars/1"
    )
    assert told.content.endswith("PUBLIC/Avatars/28.\n11 more are left out.")
    assert told.artifact["avatars"][0] == {"avatar_id": "avat_mine", "tags": ["user_exclusive", "female"]}
    assert "seeded" not in str(told.model_dump())
    assert service.log == ["GET /v1/avatars"]
    none = await caller.of(
        all_tools(Account(avatars={"public_avatars": [], "my_avatars": []}), tools=[CREATE, SAY, AVATARS])
    )(AVATARS)
    assert none.content == "There are no avatars."


async def test_usage_is_told(caller: Caller) -> None:
    """Minutes and places that are left, as far as the service says."""
    usage = {"total_remaining": 12.5, "concurrency": {"max": 3, "current": 1, "available": 2}}
    for body, sentence in (
        (usage, "12.5 minutes are left; 2 of 3 concurrent sessions are free."),
        ({"total_remaining": 0}, "0 minutes are left."),
        ({}, "The service did not say what is left."),
    ):
        service = Account(usage={"usage": body})
        told = await caller.of(all_tools(service, tools=[CREATE, SAY, USAGE]))(USAGE)
        assert (told.status, told.content) == ("success", sentence)
        assert service.log == ["GET /v1/usage"]


@pytest.mark.parametrize("name", [AVATARS, USAGE])
async def test_failed_look_is_told(name: str, caller: Caller) -> None:
    """What the service refuses is told to the model, here as well."""
    service = Account()
    service.faults.append(Reply(401, {"error": "Invalid API key"}))
    told = await caller.of(all_tools(service, tools=[CREATE, SAY, name]))(name)
    assert told.status == "error"
    assert "operator" in told.content


def test_schema_hides_what_is_injected(toolkit: AgentHumanToolkit) -> None:
    """No tool shows the model a room, a token or the runtime."""
    for tool in toolkit.get_tools():
        schema = json.dumps(convert_to_openai_tool(tool))
        for hidden in ("runtime", "token", "room"):
            assert f'"{hidden}"' not in schema


def test_tools_are_built_once(toolkit: AgentHumanToolkit) -> None:
    """A tool computes its schema once, so the toolkit hands out the same ones."""
    assert toolkit.get_tools()[0] is toolkit.get_tools()[0]
    assert [tool.name for tool in toolkit.get_tools()] == [CREATE, GET, LIST, END]


async def test_plain_call_needs_no_agent(toolkit: AgentHumanToolkit, service: FakeService) -> None:
    """A dict of arguments, as in a script, works on both paths and returns the text."""
    create, *_, end = toolkit.get_tools()
    assert "sess_1" in create.invoke({})
    assert "sess_2" in await create.ainvoke({})
    assert "has ended" in end.invoke({"session_id": "sess_1"})
    assert "has ended" in await end.ainvoke({"session_id": "sess_2"})
    assert service.running == []


class Rooms:
    """Room providers of every kind, and the thread that they ran in."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.requests: list[SessionRequest] = []

    def plain(self, request: SessionRequest) -> LiveKitRoom:
        self.threads.append(threading.get_ident())
        self.requests.append(request)
        return LiveKitRoom("wss://rooms.example.com", f"token-of-room-{len(self.threads)}")

    async def native(self, request: SessionRequest) -> LiveKitRoom:
        return self.plain(request)


def _create(toolkit: AgentHumanToolkit) -> BaseTool:
    return toolkit.get_tools()[0]


async def test_room_provider_makes_a_room_for_each_session(
    client: Any, async_client: Any, service: FakeService
) -> None:
    """A function gives every session its own room; a blocking one runs beside the event loop."""
    rooms = Rooms()
    toolkit = AgentHumanToolkit(client=client, async_client=async_client, room=rooms.plain)
    _create(toolkit).invoke({})
    await _create(toolkit).ainvoke({})
    tokens = [body["room"]["token"] for body in service.bodies("POST", "/v1/sessions")]
    assert tokens == ["token-of-room-1", "token-of-room-2"]
    assert rooms.requests == [SessionRequest(), SessionRequest()]
    assert rooms.threads[0] == threading.get_ident() != rooms.threads[1]


async def test_async_room_provider(client: Any, async_client: Any, service: FakeService) -> None:
    """An async function is awaited in async calls; a sync call says what is wrong to the application."""
    toolkit = AgentHumanToolkit(client=client, async_client=async_client, room=Rooms().native)
    await _create(toolkit).ainvoke({})
    assert service.bodies("POST", "/v1/sessions")[0]["room"]["token"] == "token-of-room-1"
    with pytest.raises(ConfigurationError, match="use ainvoke"):
        _create(toolkit).invoke({})


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_failing_room_provider_is_the_applications(
    native: bool, client: Any, async_client: Any, service: FakeService
) -> None:
    """A room that cannot be made is raised to the application: no model can mend its settings."""
    toolkit = AgentHumanToolkit(
        client=client,
        async_client=async_client,
        room=lambda _: LiveKitRoom.mint("wss://r", "key", "", "room"),
    )
    with pytest.raises(ConfigurationError, match="api_secret"):
        await _create(toolkit).ainvoke({}) if native else _create(toolkit).invoke({})
    assert service.requests == []
    assert not toolkit._ledger.opens.busy


async def test_cancelled_tool_call_leaves_nothing_open(service: FakeService, time: Any) -> None:
    """Cancelling an async create on the wire ends the session that it opened."""
    reached, answer = asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        response = service.handle(request)
        if request.method == "POST" and request.url.path == "/v1/sessions":
            reached.set()
            await answer.wait()
        return response

    async with asyncio.timeout(LIMIT_S), httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        toolkit = AgentHumanToolkit(
            async_client=AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        )
        task = asyncio.ensure_future(_create(toolkit).ainvoke({}))
        await reached.wait()
        task.cancel()
        asyncio.get_running_loop().call_soon(answer.set)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.running == []
    assert not toolkit._ledger.opens.busy


@pytest.mark.parametrize("steps", range(30))
async def test_call_cancelled_at_any_step_loses_no_session(
    steps: int, service: FakeService, time: Any
) -> None:
    """However far a create has come: cancelling it ends its session, or the toolkit knows it and will.

    The second happens when the tool is through and LangChain has not taken its result yet.
    """

    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return service.handle(request)

    async def note(*_: Any) -> None:
        await asyncio.sleep(0)

    async with asyncio.timeout(LIMIT_S), httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock())
        async with AgentHumanToolkit(async_client=client, on_session=note) as toolkit:
            task = asyncio.ensure_future(_create(toolkit).ainvoke({}))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            known = [key for key, session in toolkit.sessions.items() if not session.has_ended]
            assert service.running == known
        assert service.running == []


async def test_async_calls_do_not_block_the_loop(toolkit: AgentHumanToolkit) -> None:
    """Nothing on the async path blocks the event loop, the end of the block included."""
    create, get, listing, end = toolkit.get_tools()
    await create.ainvoke({})  # imports and caches of the libraries
    context = runtime("thread-1", checkpointer=object())
    with blockbuster_ctx():
        async with toolkit:
            await create.ainvoke({"runtime": context})
            await create.ainvoke({})
            await get.ainvoke({"session_id": "sess_1"})
            await listing.ainvoke({})
            await end.ainvoke({"session_id": "sess_3"})
