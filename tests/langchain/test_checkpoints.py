"""A run that is kept and resumed: one session for each create, also after a crash, and no secret in what is kept."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import API_KEY, ROOM, FakeService
from tests.langchain.conftest import Caller, CrashError, DiesOnce, ScriptedModel, call
from tests.langchain.toolbox import CREATE, END, GET, LIST, SAY, all_tools, told
from tests.vcr_support import emulators

LIMIT_S = 60.0  # hang limit only
ASK: Any = {"messages": [HumanMessage("Show me your face.")]}
THREAD: Any = {"configurable": {"thread_id": "thread-1"}}


class Resumable:
    """An agent whose runs are kept; each call of `run` is a new process over the same checkpoints."""

    def __init__(self, kind: str) -> None:
        self.saver = InMemorySaver()
        self._kind = kind

    async def run(
        self, toolkit: AgentHumanToolkit, script: list[Any], ask: Any = ASK, at: Any = THREAD, *more: Any
    ) -> Any:
        """Run or, with `ask=None`, go on from where a run died."""
        agent = create_agent(
            ScriptedModel(script=script), toolkit.get_tools(), checkpointer=self.saver, middleware=more
        )
        return await agent.ainvoke(ask, at) if self._kind == "async" else agent.invoke(ask, at)

    async def die(self, toolkit: AgentHumanToolkit) -> None:
        """Open a session, and die before the checkpoint has it."""
        with pytest.raises(CrashError):
            await self.run(toolkit, [call(CREATE)], ASK, THREAD, DiesOnce())

    async def resume(self, toolkit: AgentHumanToolkit) -> ToolMessage:
        """Carry the create out again; what the model is told."""
        state = await self.run(toolkit, [AIMessage("Done.")], None)
        (answer,) = told(state["messages"])
        return answer


@pytest.fixture
def resumable(caller: Caller) -> Resumable:
    return Resumable(caller.kind)


async def test_replayed_call_gives_the_first_session_back(resumable: Resumable) -> None:
    """A run that died after its create carries the same call out again: it opens nothing."""
    service = FakeService()
    toolkit = all_tools(service)
    await resumable.die(toolkit)
    answer = await resumable.resume(toolkit)
    assert answer.artifact["session_id"] == "sess_1"
    assert "was opened by this call before and is still running" in answer.content
    assert service.running == ["sess_1"]
    assert service.log.count("POST /v1/sessions") == 1


async def test_a_new_toolkit_finds_it_by_its_reference(resumable: Resumable) -> None:
    """Without the memory of the first toolkit the session is found at the service; its end is the new one's."""
    service = FakeService()
    await resumable.die(all_tools(service))
    before = len(service.log)
    with all_tools(service) as toolkit:
        answer = await resumable.resume(toolkit)
        assert answer.artifact["session_id"] == "sess_1"
        assert [request.url.params["status"] for request in service.requests[before:]] == ["started"]
        assert service.running == ["sess_1"]
    assert service.running == []


@pytest.mark.parametrize("same_toolkit", [True, False], ids=["same-toolkit", "new-toolkit"])
async def test_a_session_that_ended_meanwhile_is_opened_anew(
    same_toolkit: bool, resumable: Resumable
) -> None:
    """The call of a run that died is not done as long as nothing came of it: its session has ended, so it opens one."""
    service = FakeService()
    toolkit = all_tools(service)
    await resumable.die(toolkit)
    service.sessions["sess_1"]["status"] = "ended"
    answer = await resumable.resume(toolkit if same_toolkit else all_tools(service))
    assert answer.content.startswith("Opened session sess_2")
    assert service.running == ["sess_2"]


async def test_a_fork_opens_a_session_of_its_own(resumable: Resumable) -> None:
    """Whoever goes back to an older checkpoint wants another course of events, and another session."""
    service = FakeService()
    toolkit = all_tools(service)
    await resumable.run(toolkit, [call(CREATE), AIMessage("Done.")])
    agent = create_agent(ScriptedModel(script=[]), toolkit.get_tools(), checkpointer=resumable.saver)
    (before,) = [state for state in agent.get_state_history(THREAD) if state.next == ("tools",)]
    state = await resumable.run(toolkit, [AIMessage("Done.")], None, before.config)
    assert told(state["messages"])[0].content.startswith("Opened session sess_2")
    assert service.running == ["sess_1", "sess_2"]


async def test_another_thread_with_the_same_call_opens_its_own(resumable: Resumable) -> None:
    """Ids of calls repeat across conversations; what one kept is not found by the other."""
    service = FakeService()
    other: Any = {"configurable": {"thread_id": "thread-2"}}
    await resumable.run(all_tools(service), [call(CREATE), AIMessage("Done.")])
    await resumable.run(all_tools(service), [call(CREATE), AIMessage("Done.")], ASK, other)
    assert service.running == ["sess_1", "sess_2"]


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_approval_opens_one_session_or_none(decision: str, caller: Caller) -> None:
    """While a human is asked nothing is open; the answer, given to a new agent, opens one session or none."""
    service, saver = FakeService(), InMemorySaver()

    async def run(ask: Any, *script: Any) -> Any:
        agent = create_agent(
            ScriptedModel(script=list(script)),
            all_tools(service).get_tools(),
            middleware=[HumanInTheLoopMiddleware(interrupt_on={CREATE: True})],
            checkpointer=saver,
        )
        return await agent.ainvoke(ask, THREAD) if caller.kind == "async" else agent.invoke(ask, THREAD)

    paused = await run(ASK, call(CREATE))
    assert paused["__interrupt__"]
    assert service.requests == []
    await run(Command(resume={"decisions": [{"type": decision}]}), AIMessage("Done."))
    assert service.running == (["sess_1"] if decision == "approve" else [])


async def test_no_secret_is_kept(resumable: Resumable) -> None:
    """After a run through every tool, the bytes of the checkpoints hold neither key nor token."""
    service = FakeService()

    def of_the_session(name: str, **others: Any) -> Callable[[Any], AIMessage]:
        return lambda messages: call(name, name, session_id="sess_1", **others)

    script = [
        call(CREATE),
        of_the_session(GET),
        of_the_session(SAY, text="Hi."),
        call(LIST),
        of_the_session(END),
        call(CREATE, "refused", avatar="data:"),
        AIMessage("Done."),
    ]
    with all_tools(service) as toolkit:
        state = await resumable.run(toolkit, script)
    assert [message.status for message in told(state["messages"])] == ["success"] * 5 + ["error"]
    saver = resumable.saver
    everything = repr((dict(saver.storage), dict(saver.writes), saver.blobs))
    assert "sess_1" in everything
    for secret in (API_KEY, ROOM.avatar_token, "seeded"):
        assert secret not in everything


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A service that ends no session by itself."""
    with emulators() as start:
        yield start(sweep=False, expiry=False)


class Process:
    """A run in a process of its own; see `a_run`."""

    def __init__(self, emulator: Emulator, checkpoints: Path, **options: Any) -> None:
        self._options = {
            "base_url": emulator.url,
            "api_key": emulator.api_key,
            "checkpoints": str(checkpoints),
            **options,
        }

    async def run(self, kill_when: Callable[[], bool] = lambda: False) -> tuple[int, dict[str, Any]]:
        """Start it and wait for its end, or kill it when something is so; return its code and what it told."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.langchain.a_run"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(self._options).encode() + b"\n")
        try:
            async with asyncio.timeout(LIMIT_S):
                output = asyncio.ensure_future(process.stdout.read())
                while not output.done() and not kill_when():
                    await asyncio.wait([output], timeout=0.02)
                if not output.done():
                    process.kill()
                events = [json.loads(line) for line in (await output).splitlines()]
                return await process.wait(), {event.pop("event"): event for event in events}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(
    ("native", "own_room"),
    [
        pytest.param(False, True, id="sync-own-room"),
        pytest.param(True, False, id="async-room-of-the-service"),
    ],
)
async def test_killed_after_the_create_and_resumed(
    native: bool, own_room: bool, emulator: Emulator, tmp_path: Path
) -> None:
    """A process killed between the create's answer and its checkpoint: the next one has the same session."""
    kept = tmp_path / "checkpoints"
    options = {"native": native, "own_room": own_room}
    code, met = await Process(emulator, kept, die=True, **options).run()
    assert code != 0
    assert met.keys() == {"met"}
    (session,) = emulator.sessions()
    assert session["status"] == "started"

    code, done = await Process(emulator, kept, resume=True, **options).run()
    assert code == 0
    (answer,) = done["done"]["tools"]
    assert answer["artifact"]["session_id"] == session["session_id"]
    assert "was opened by this call before and is still running" in answer["content"]
    assert len(emulator.sessions()) == 1
    secrets = [emulator.api_key, *met["met"]["secrets"]]
    assert len(secrets) >= 2
    content = kept.read_bytes()
    assert session["session_id"].encode() in content
    for secret in secrets:
        assert secret.encode() not in content


async def test_killed_with_the_create_on_the_wire_and_resumed(emulator: Emulator, tmp_path: Path) -> None:
    """A process killed before the answer came knew no session; the next one finds it all the same."""
    kept = tmp_path / "checkpoints"
    emulator.fail("delay", method="POST", path="/v1/sessions", delay_s=20, processed=True)
    code, told_before = await Process(emulator, kept, native=True).run(
        kill_when=lambda: bool(emulator.sessions())
    )
    assert code != 0
    assert told_before == {}
    _, done = await Process(emulator, kept, native=True, resume=True).run()
    (answer,) = done["done"]["tools"]
    assert answer["artifact"]["session_id"] == emulator.sessions()[0]["session_id"]
    assert len(emulator.sessions()) == 1


async def test_killed_and_ended_before_it_is_resumed(emulator: Emulator, tmp_path: Path) -> None:
    """If somebody ended the session of the killed process, the next one opens another."""
    kept = tmp_path / "checkpoints"
    await Process(emulator, kept, native=False, die=True).run()
    toolkit = AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url, scope="account")
    async with toolkit:
        end = {tool.name: tool for tool in toolkit.get_tools()}[END]
        await end.ainvoke({"session_id": emulator.sessions()[0]["session_id"]})
    _, done = await Process(emulator, kept, native=False, resume=True).run()
    (answer,) = done["done"]["tools"]
    assert answer["content"].startswith("Opened session ")
    assert [session["status"] for session in emulator.sessions()] == ["started", "ended"]  # the newest first
