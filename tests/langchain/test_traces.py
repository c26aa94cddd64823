"""What leaves the program with a trace: every run's inputs and outputs, and the bytes that go to LangSmith."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool
from langchain_core.tracers import BaseTracer, LangChainTracer
from langchain_core.tracers.schemas import Run
from langsmith import Client
from langsmith._internal._serde import dumps_json

from agenthuman_plugins.client import LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import API_KEY, FakeService, Reply
from tests.langchain.conftest import Caller, ScriptedModel, call
from tests.langchain.toolbox import CREATE, END, GET, LIST, SAY, TOOLS, all_tools, by_name

ROOM = LiveKitRoom("wss://rooms.example.com", "seeded-room-token", "seeded-agent-token")
SECRETS = (API_KEY, "seeded")
ASK: Any = {"messages": [HumanMessage("Show me your face.")]}

Seen = Callable[[], str]


class Wire(requests.Session):
    """LangSmith's end of the line: keeps what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def request(self, *args: Any, **options: Any) -> requests.Response:
        self.sent.append(
            repr((args, {name: options[name] for name in options if name != "headers"})).encode()
        )
        response = requests.Response()
        response.status_code = 200
        response._content = b"{}"
        return response


class Recorder(BaseTracer):
    """Keeps every run, as it is and as LangSmith writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.tools: list[str] = []
        self.seen: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self._keep(run)

    def _keep(self, run: Run) -> None:
        if run.run_type == "tool":
            self.tools.append(run.name)
        plain = (run.inputs, run.outputs, run.serialized, run.extra, run.error, run.events, run.tags)
        self.seen += [repr(plain), *(dumps_json(part).decode() for part in plain)]
        for child in run.child_runs:
            self._keep(child)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def langsmith() -> Iterator[tuple[LangChainTracer, Wire]]:
    """LangChain's own tracer, with its real client and serialiser on a line that keeps everything."""
    wire = Wire()
    client = Client(
        api_url="https://langsmith.example",
        api_key="lsv2_test",
        session=wire,
        auto_batch_tracing=False,
        info={},  # type: ignore[arg-type] - so that it does not ask for it
    )
    yield LangChainTracer(client=client, project_name="test"), wire
    client.cleanup()


def every_tool() -> list[Any]:
    """The script of a model that uses each tool, and each once more in vain."""
    return [
        call(CREATE, "c1"),
        call(GET, "c2", session_id="sess_1"),
        call(SAY, "c3", session_id="sess_1", text="Hi."),
        call(LIST, "c4"),
        call(END, "c5", session_id="sess_1"),
        call(CREATE, "c6", aspect_ratio="16:9"),
        call(GET, "c7", session_id="sess_7"),
        call(SAY, "c8", session_id="sess_1", text="Hi."),
        call(LIST, "c9", status="running"),
        call(END, "c10", session_id="sess_7"),
        AIMessage("Done."),
    ]


async def run(caller: Caller, toolkit: AgentHumanToolkit, script: list[Any], tracer: Any) -> Any:
    agent = create_agent(ScriptedModel(script=script), toolkit.get_tools())
    config: Any = {"callbacks": [tracer], "configurable": {"thread_id": "thread-1"}}
    return await agent.ainvoke(ASK, config) if caller.kind == "async" else agent.invoke(ASK, config)


def assert_clean(text: str) -> None:
    assert "sess_1" in text
    for secret in SECRETS:
        assert secret not in text


async def test_every_run_of_every_tool_is_clean(caller: Caller, recorder: Recorder) -> None:
    """Neither what a tool was given nor what it said, in content or artifact, holds a key or a token."""
    with all_tools(FakeService(), room=ROOM) as toolkit:
        await run(caller, toolkit, every_tool(), recorder)
    assert set(recorder.tools) == set(TOOLS)
    assert len(recorder.tools) == 2 * len(TOOLS)
    assert_clean("".join(recorder.seen))


async def test_what_langsmith_is_sent_is_clean(
    caller: Caller, langsmith: tuple[LangChainTracer, Wire]
) -> None:
    """The bytes that LangChain's tracer sends hold no key and no token, artifacts included."""
    tracer, wire = langsmith
    with all_tools(FakeService(), room=ROOM) as toolkit:
        await run(caller, toolkit, every_tool(), tracer)
    tracer.wait_for_futures()
    sent = b"".join(wire.sent).decode()
    assert "artifact" in sent
    for name in TOOLS:
        assert name in sent
    assert_clean(sent)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Reply(401, {"error": f"Invalid API key {API_KEY}"}), id="key-in-the-answer"),
        pytest.param(
            Reply(200, b'{"success": true, "session": {"session_token": "seeded-x"'), id="malformed"
        ),
        pytest.param(Reply(200, {"session": {"session_token": "seeded-y", "status": 7}}), id="unfit"),
        pytest.param(LookupError("a defect"), id="defect"),
    ],
)
async def test_failures_are_traced_clean(fault: Any, caller: Caller, recorder: Recorder) -> None:
    """An error, its causes and its traceback carry no secret into a trace, whatever the service answered."""
    service = FakeService()
    service.faults.extend([fault] * 4)
    toolkit = all_tools(service, room=ROOM)
    try:
        await run(caller, toolkit, [call(CREATE), AIMessage("Done.")], recorder)
    except LookupError:
        assert isinstance(fault, LookupError)
    seen = "".join(recorder.seen)
    assert CREATE in recorder.tools
    for secret in SECRETS:
        assert secret not in seen


@pytest.mark.xfail(
    not hasattr(BaseTool, "_filter_injected_args"), reason="older LangChain traces what it injects"
)
async def test_injected_runtime_is_not_traced(caller: Caller, recorder: Recorder) -> None:
    """What an agent injects, its whole state, is no input of the tool's run."""
    await run(caller, all_tools(FakeService()), [call(CREATE), AIMessage("Done.")], recorder)
    assert "ToolRuntime" not in "".join(recorder.seen)


def test_the_toolkit_itself_is_clean_where_it_is_written() -> None:
    """A toolkit or a tool in metadata, in a config or in a log of a trace shows nothing."""
    toolkit = all_tools(FakeService(), room=ROOM)
    toolkit.get_tools()[0].invoke({})
    tools = by_name(toolkit)
    for thing in (toolkit, tools, toolkit.sessions):
        for text in (repr(thing), str(thing), dumps_json({"it": thing}).decode()):
            for secret in SECRETS:
                assert secret not in text
    assert "seeded" not in json.dumps([tool.metadata for tool in tools.values()])


def test_the_search_finds_a_leak(recorder: Recorder) -> None:
    """The same search sees an artifact with a token in it."""
    toolkit = all_tools(FakeService(), room=ROOM)
    create = by_name(toolkit)[CREATE]
    create.func = lambda **_: ("sess_1", {"token": ROOM.avatar_token})  # type: ignore[attr-defined]
    create.invoke({"name": CREATE, "args": {}, "id": "c1", "type": "tool_call"}, {"callbacks": [recorder]})
    assert "seeded" in "".join(recorder.seen)
