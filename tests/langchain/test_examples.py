"""The LangChain examples, run as they stand."""

import asyncio
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import AsyncAgentHuman, Session
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import media_interface
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import ROOM, FakeService
from tests.langchain.conftest import Caller, ScriptedModel, call
from tests.langchain.toolbox import CREATE, SAY, speak_in_process, told

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LISTING = ROOT / "distributions" / "langchain-agenthuman" / "docs" / "agenthuman.mdx"
NAMES = sorted(path.stem for path in EXAMPLES.glob("langchain_*.py"))
ASK = {"messages": [HumanMessage("Show yourself.")]}
WAIT_S = 20.0  # hang limit

Run = Callable[[str], dict[str, Any]]


@pytest.mark.media
@pytest.mark.skipif(media_interface() is None, reason="no network interface besides loopback")
@pytest.mark.parametrize("name", ["langchain_agent", "langchain_speech", "langchain_workers"])
def test_avatar_speaks_without_a_key(name: str) -> None:
    """On a machine with no key the example opens an avatar, which speaks to the end, and ends it."""
    services = ("AGENTHUMAN_", "OPENAI_", "LIVEKIT_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(services)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"Watch and listen: http://127\.0\.0\.1:\d+/watch\n", done.stdout)
    assert "press Enter" not in done.stdout
    assert "tool: Spoken: " in done.stdout
    assert "has ended and is no longer billed" in done.stdout


async def test_in_a_terminal_an_example_waits_for_enter(
    example: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scripted run is over in seconds, so it begins when the user has opened the page; a pipe is not waited for."""
    enter = example("_offline")["enter"]
    keyboard, terminal = os.openpty()
    with os.fdopen(keyboard, "wb", buffering=0) as keys, os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        waiting = asyncio.create_task(enter("Press Enter."))
        await asyncio.sleep(0)
        assert capsys.readouterr().out == "Press Enter.\n"
        assert not waiting.done()
        keys.write(b"\n")
        async with asyncio.timeout(WAIT_S):
            await waiting


async def test_nobody_is_waited_for_without_a_terminal(
    example: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe, as in a test, the example runs through."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    await example("_offline")["enter"]("Press Enter.")
    assert capsys.readouterr().out == ""


def test_every_example_is_shown() -> None:
    """Each example stands in a page of the documentation."""
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    assert [name for name in NAMES if f"<!-- code: examples/{name}.py" not in pages] == []


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """The service of the environment, where nobody but the example ends a session."""
    async with Emulator(media=False, sweep=False, expiry=False, plan="explorer") as emulator:
        monkeypatch.setenv("AGENTHUMAN_API_KEY", emulator.api_key)
        monkeypatch.setenv("AGENTHUMAN_BASE_URL", emulator.url)
        yield emulator


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Loads an example, and returns its names."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))


def ended_by(emulator: Emulator) -> list[str | None]:
    return [session["ended_by"] for session in emulator.sessions()]


@pytest.mark.parametrize(
    ("answer", "opened"),
    [
        pytest.param("y", 1, id="approved"),
        pytest.param("", 0, id="rejected"),
        pytest.param(EOFError(), 0, id="nobody-there"),
        pytest.param(OSError(9, "Bad file descriptor"), 0, id="nohup"),
        pytest.param(RuntimeError("input(): lost sys.stdin"), 0, id="no-stdin"),
    ],
)
async def test_no_session_without_approval(
    answer: str | Exception,
    opened: int,
    example: Run,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A session is opened only after the person at the terminal said yes to it."""
    before: list[int] = []

    def ask(question: str) -> str:
        assert CREATE in question
        before.append(len(emulator.sessions()))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("builtins.input", ask)
    await example("langchain_approval")["main"]()
    assert before == [0]
    assert ended_by(emulator) == ["caller"] * opened
    assert ("does not want" in capsys.readouterr().out) is (not opened)


async def test_second_session_is_refused(
    example: Run, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit keeps the second create from the service, and the model is told."""
    await example("langchain_limits")["main"]()
    assert ended_by(emulator) == ["caller"]
    assert "That did not work. Tool call limit exceeded." in capsys.readouterr().out


async def test_each_user_gets_a_room(
    example: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two users at once: two rooms, two sessions, both ended, and no secret printed."""
    monkeypatch.setenv("LIVEKIT_URL", "wss://livekit.example.com")
    monkeypatch.setenv("LIVEKIT_API_KEY", "API1")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "a-secret-of-thirty-two-characters")
    await example("langchain_rooms")["main"]()
    printed = capsys.readouterr().out
    for user in ("ada", "bob"):
        assert f"The avatar is sent to support-{user} at wss://livekit.example.com." in printed
    assert ended_by(emulator) == ["caller"] * 2
    assert "a-secret" not in printed
    assert "eyJ" not in printed  # how every token begins


async def test_sessions_last_as_long_as_conversations(
    example: Run, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both users' sessions still run at the second message, and are ended with the conversation."""
    await example("langchain_many_users")["main"]()
    printed = capsys.readouterr().out
    assert printed.count(" is running for ") == len(emulator.sessions()) == 2
    assert ended_by(emulator) == ["caller"] * 2


async def test_rooms_go_to_the_page_of_their_user(example: Run, emulator: Emulator) -> None:
    """Each page gets the room of its own user's session, and the service is told whose it is."""
    names = example("langchain_many_users")
    await names["main"]()
    pages: dict[str, asyncio.Queue[Session]] = names["pages"]
    routed = {user: page.get_nowait().session_id for user, page in pages.items()}
    async with AsyncAgentHuman() as client:
        for user, session_id in routed.items():
            session = await client.sessions.get(session_id)
            assert session.metadata is not None
            assert (session.metadata["app"], session.metadata["user"]) == ("support-bot", user)
    assert len(set(routed.values())) == len(emulator.sessions()) == 2


async def test_agents_share_an_avatar(
    example: Run, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The caller of a subagent sees and ends its session, and so does the agent that takes over."""
    await example("langchain_subagents")["main"]()
    printed = capsys.readouterr().out
    assert "1 running session, newest first: sess_" in printed
    assert printed.count("has ended and is no longer billed") == len(emulator.sessions()) == 2


async def test_end_of_a_conversation_ends_its_sessions_alone(example: Run, emulator: Emulator) -> None:
    """Whoever leaves ends their own session at once; that of another user goes on."""
    names = example("langchain_many_users")
    async with AgentHumanToolkit() as toolkit:
        agent = create_agent(names["MODEL"], toolkit.get_tools(), checkpointer=InMemorySaver())
        await agent.ainvoke(ASK, {"configurable": {"thread_id": "bob"}})
        await names["converse"](agent, toolkit, "ada")
        assert ended_by(emulator) == ["caller", None]  # the newest first


async def test_graph_ends_what_a_run_opened(
    example: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's factory ends the session of a run, also of one that fails after its create."""
    make_graph = example("langchain_graph")["make_graph"]
    script = [call(CREATE), AIMessage("There I was."), call(CREATE, "call_2")]
    monkeypatch.setitem(make_graph.__wrapped__.__globals__, "MODEL", ScriptedModel(script=script))
    async with make_graph() as graph:
        state = await graph.ainvoke(ASK)
    assert "Opened session sess_" in state["messages"][2].content
    assert ended_by(emulator) == ["caller"]
    with pytest.raises(IndexError):
        async with make_graph() as graph:
            await graph.ainvoke(ASK)
    assert ended_by(emulator) == ["caller"] * 2


async def test_listing_runs_as_it_stands(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page for LangChain's list of integrations run one after the other, and leave no session."""
    monkeypatch.syspath_prepend(str(LISTING.parent.parent))
    blocks = re.findall(r"^```python[^\n]*\n(.*?)^```$", LISTING.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    script = ScriptedModel(script=[call(CREATE), AIMessage("Done.")])
    names: dict[str, Any] = {"__name__": "page", "script": script}
    program = "\n".join(blocks).replace('"openai:gpt-5-mini"', "script")
    await asyncio.to_thread(exec, program, names)
    assert ended_by(emulator) == ["caller"] * 3


class SpeechServer:
    """Speaks OpenAI's protocol: half of the speech at once, the other half when it is asked to go on."""

    PCM = b"\x00\x20\x00\xe0" * 1_200  # 0.1 s at 24 kHz

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.requests: list[tuple[str, str | None, Any]] = []
        self.go_on = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, request.headers.get("Authorization"), await request.json()))
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status)
        answer = web.StreamResponse()
        await answer.prepare(request)
        half = len(self.PCM) // 2 + 1  # in the middle of a sample
        await answer.write(self.PCM[:half])
        await self.go_on.wait()
        await answer.write(self.PCM[half:])
        return answer


async def test_speech_is_passed_on_while_it_arrives(example: Run) -> None:
    """The adapter orders bare samples as the protocol has it, and yields the first before the last are made."""
    server = SpeechServer()
    async with asyncio.timeout(WAIT_S), server.running() as url:
        speak = example("langchain_speech")["OpenAISpeech"]("sk-test", f"{url}/", voice="nova")
        pieces = speak("Hello.")
        first = await anext(pieces)
        server.go_on.set()
        rest = [piece async for piece in pieces]
    assert b"".join([first, *rest]) == SpeechServer.PCM
    order = {"model": "gpt-4o-mini-tts", "voice": "nova", "response_format": "pcm", "input": "Hello."}
    assert server.requests == [("/v1/audio/speech", "Bearer sk-test", order)]


@pytest.mark.parametrize(("status", "outcome"), [(200, "Spoken: 0.1 s."), (401, "error")])
async def test_say_speaks_with_the_server(
    status: int, outcome: str, example: Run, async_client: AsyncAgentHuman
) -> None:
    """The say tool speaks what the server made at its own rate; its refusal is told without the key."""
    server = SpeechServer(status)
    server.go_on.set()
    async with asyncio.timeout(WAIT_S), server.running() as url:
        tts = example("langchain_speech")["OpenAISpeech"]("sk-test", url)
        toolkit = speak_in_process(AgentHumanToolkit(async_client=async_client, tts=tts, room=ROOM))
        async with toolkit:
            use = Caller("async").of(toolkit)
            session_id = (await use(CREATE)).artifact["session_id"]
            said = await use(SAY, session_id=session_id, text="Hello.")
    assert outcome in (said.content, said.status)
    assert "sk-test" not in str(said)


@pytest.mark.parametrize(
    ("failing", "thread", "opened"),
    [
        pytest.param("room", "ada", 1, id="room"),
        pytest.param("room", None, 1, id="room-without-a-thread"),
        pytest.param("on_session", "ada", 2, id="on-session"),
        pytest.param("on_session", None, 2, id="on-session-without-a-thread"),
    ],
)
async def test_retries_are_safe(
    failing: str,
    thread: str | None,
    opened: int,
    service: FakeService,
    async_client: AsyncAgentHuman,
) -> None:
    """When LangChain repeats a create that the application made fail, one session runs."""
    failures = [OSError("not reachable")]

    def fail_once(*_: object) -> Any:
        if failures:
            raise failures.pop()
        return ROOM

    toolkit = AgentHumanToolkit(async_client=async_client, **{"room": ROOM, failing: fail_once})
    retries = ToolRetryMiddleware(initial_delay=0, jitter=False)
    model = ScriptedModel(script=[call(CREATE), AIMessage("Done.")])
    async with toolkit:
        agent = create_agent(model, toolkit.get_tools(), middleware=[retries])
        state = await agent.ainvoke(ASK, {"configurable": {"thread_id": thread} if thread else {}})
        running = len(service.running)
    [message] = told(state["messages"])
    assert message.status == "success"
    assert "Opened session" in message.text
    assert len(service.sessions) == opened
    assert running == 1
