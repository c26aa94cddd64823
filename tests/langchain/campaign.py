"""One agent run against a service that fails, made from a seed, with one of three guards around it.

The service is the emulator with its sweep and expiry off, over real sockets. What is counted in the end: sessions
that the run opened, and those that nobody has ended.
"""

import asyncio
import logging
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool

from agenthuman_plugins import langchain
from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.client._config import Clock
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator._store import Metadata
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import ROOM
from tests.langchain.conftest import ScriptedModel

LIMIT_S = 60.0  # hang limit of one run
ASK = {"messages": [HumanMessage("Show me your face, then go.")]}

HURRY = 10  # the client's waits between attempts are this much shorter
# How long a create is waited for, instead of 30 s. Nothing else is ever answered late.
ANSWER_LIMIT = httpx.Timeout(0.5, connect=5.0)
LATE_S = 1.0
TLS = ssl.create_default_context()  # made once: it costs more than the rest of a client

PREFIX = "agent_human_"
LOGGER = logging.getLogger("agenthuman_plugins")
LOSS = re.compile(r"answer to a create was lost, and|create was given up, and its session, if any")
LOST_ANSWERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cut_after", {}),
    ("cut_body", {}),
    ("malformed_body", {}),
    ("status", {"status": 500, "processed": True}),
    ("delay", {"delay_s": LATE_S, "processed": True}),
)
# Nothing was done, so nothing is lost.
REFUSALS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {"status": 429}),
    ("status", {"status": 500}),
    ("status", {"status": 401}),
    ("status", {"status": 400}),
    ("cut_before", {}),
)
PASSING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {"status": 429}),
    ("status", {"status": 503}),
    ("cut_before", {}),
    ("cut_after", {}),
    ("malformed_body", {}),
)

TURNS = ("create", "create", "create twice", "get", "list", "end", "unknown tool", "bad arguments")
ENDINGS = (
    "done",
    "tool error",
    "tool error beside a create",
    "model error",
    "Ctrl-C in the model",
    "recursion limit",
    "interrupted",
    "interrupted",
)
MOMENTS = ("before", "during", "after")

Fault = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """One scenario.

    Attributes:
        native: Whether the agent is async.
        turns: What the model wants, one after the other.
        ending: How the run comes to its end.
        at_request: Which request an interruption strikes, and `moment` where.
        metadata: What the service does with metadata.
        creates: Faults of the creates, in order.
        reads: Faults of get and list; two at most, so that three attempts overcome them.
        ends: The same of end.
    """

    seed: int
    native: bool
    threaded: bool
    turns: tuple[str, ...]
    ending: str
    at_request: int
    moment: str
    metadata: str
    creates: tuple[Fault, ...]
    reads: tuple[Fault, ...]
    ends: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int, *, metadata_is_kept: bool) -> "Plan":
        chance = random.Random(seed)
        return cls(
            seed=seed,
            native=chance.random() < 0.5,
            threaded=chance.random() < 0.5,
            turns=("create", *chance.choices(TURNS, k=chance.randint(0, 4))),
            ending=chance.choice(ENDINGS),
            at_request=chance.randint(1, 6),
            moment=chance.choice(MOMENTS),
            metadata="kept" if metadata_is_kept else chance.choice(("dropped", "refused")),
            **faults(chance),
        )


def faults(chance: random.Random) -> dict[str, tuple[Fault, ...]]:
    """What fails in a scenario: creates in order, and at most two reads and ends, which three attempts overcome."""
    return {
        "creates": tuple(
            chance.choice(chance.choice((LOST_ANSWERS, REFUSALS))) for _ in range(chance.choice((0, 0, 1, 2)))
        ),
        "reads": tuple(chance.choices(PASSING, k=chance.choice((0, 0, 1, 2)))),
        "ends": tuple(chance.choices(PASSING, k=chance.choice((0, 0, 1, 2)))),
    }


@dataclass
class Outcome:
    """What became of a scenario.

    Attributes:
        ending: What came out of the agent.
        opened: Sessions that were opened.
        left: Those that nobody has ended.
        told: Whether the model or the log was told of a session that may run and cannot be found.
    """

    plan: Plan
    guard: str
    ending: str
    opened: int
    left: int
    told: bool


@tool
def broken() -> str:
    """Fail."""
    raise RuntimeError("a defect of another tool")


class _Told(BaseCallbackHandler):
    """Notes whether the model or the log is told of a lost session."""

    def __init__(self) -> None:
        self.of_loss = False

    def on_tool_end(self, output: Any, **_: Any) -> None:
        self.read(str(output.content if isinstance(output, ToolMessage) else output))

    def read(self, text: str) -> None:
        self.of_loss = self.of_loss or LOSS.search(text) is not None


_TOLD: ContextVar[_Told] = ContextVar("what the run that logs is told")


class _Log(logging.Handler):
    """Gives what is logged to the run that it belongs to, on whatever thread that is."""

    def emit(self, record: logging.LogRecord) -> None:
        if told := _TOLD.get(None):
            told.read(record.getMessage())


def _script(plan: Plan) -> list[Any]:
    turns: list[Any] = [_turn(kind, number) for number, kind in enumerate(plan.turns)]
    match plan.ending:
        case "tool error":
            turns.append(AIMessage("", tool_calls=[_call("broken", "last")]))
        case "tool error beside a create":
            beside = [_call(f"{PREFIX}create_session", "last"), _call("broken", "broken")]
            turns.append(AIMessage("", tool_calls=beside))
        case "model error":
            turns.append(ConnectionError("the model is down"))
        case "Ctrl-C in the model":
            turns.append(KeyboardInterrupt())
        case "recursion limit":
            turns += [_turn("get", number) for number in range(10, 40)]
    return [*turns, AIMessage("Done.")]


def _turn(kind: str, number: int) -> Callable[[Sequence[BaseMessage]], AIMessage]:
    def answer(messages: Sequence[BaseMessage]) -> AIMessage:
        known = [
            str(message.artifact["session_id"])
            for message in messages
            if isinstance(message, ToolMessage) and message.artifact and "session_id" in message.artifact
        ]
        session = {"session_id": known[-1] if known else "sess_unknown"}
        create, key = f"{PREFIX}create_session", f"call_{number}"
        calls = {
            "create": [_call(create, key)],
            "create twice": [_call(create, key), _call(create, f"{key}_more")],
            "get": [_call(f"{PREFIX}get_session", key, **session)],
            "list": [_call(f"{PREFIX}list_sessions", key)],
            "end": [_call(f"{PREFIX}end_session", key, **session)],
            "unknown tool": [_call("send_mail", key)],
            "bad arguments": [
                _call(create, key, aspect_ratio=7),
                _call(f"{PREFIX}end_session", f"{key}_more"),
            ],
        }
        return AIMessage("", tool_calls=calls[kind])

    return answer


def _call(name: str, call_id: str, /, **arguments: Any) -> Any:
    return {"name": name, "args": arguments, "id": call_id, "type": "tool_call"}


class _Stop:
    """Interrupts a run at one of its requests, once."""

    def __init__(self, plan: Plan) -> None:
        self._at = plan.at_request if plan.ending == "interrupted" else None
        self._moment = plan.moment
        self._count = 0
        self.run: asyncio.Task[Any] | None = None  # of an async run; a sync one gets a KeyboardInterrupt

    def before(self) -> None:
        self._count += 1
        if self._count != self._at:
            return
        if self._moment == "before":
            self._strike()
        elif self._moment == "during" and self.run is not None:
            asyncio.get_running_loop().call_later(0.001, self._strike)

    def after(self) -> None:
        if self._count == self._at and (self._moment == "after" or self.run is None):
            self._strike()

    def _strike(self) -> None:
        self._at = None
        if self.run is None:
            raise KeyboardInterrupt
        self.run.cancel()


def _in_time(request: httpx.Request) -> httpx.Request:
    if request.method == "POST" and request.url.path == "/v1/sessions":
        request.extensions["timeout"] = ANSWER_LIMIT.as_dict()
    return request


class _Wire(httpx.Client):
    stop: _Stop

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        self.stop.before()
        response = super().send(_in_time(request), **options)
        self.stop.after()
        return response


class _AsyncWire(httpx.AsyncClient):
    stop: _Stop

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        self.stop.before()
        response = await super().send(_in_time(request), **options)
        self.stop.after()
        return response


def _clock(seed: int) -> Clock:
    return Clock(
        random=random.Random(seed).random,
        sleep=lambda seconds: time.sleep(seconds / HURRY),
        asleep=lambda seconds: asyncio.sleep(seconds / HURRY),
    )


def _agent(plan: Plan, guard: str, toolkit: AgentHumanToolkit, told: _Told) -> tuple[Any, Any]:
    """The agent and the configuration of its run."""
    tools: list[BaseTool] = [*toolkit.get_tools(), broken]
    middleware = [langchain.SessionCleanupMiddleware(toolkit)] if guard == "middleware" else []
    agent = create_agent(ScriptedModel(script=_script(plan)), tools, middleware=middleware)
    config: dict[str, Any] = {
        "callbacks": [told],
        "recursion_limit": 14 if plan.ending == "recursion limit" else 100,
    }
    if plan.threaded:
        config["configurable"] = {"thread_id": f"thread-{plan.seed}"}
    return agent, config


def _run_sync(plan: Plan, guard: str, key: str, url: str, told: _Told) -> None:
    with _Wire(verify=TLS, trust_env=False) as wire:
        wire.stop = _Stop(plan)
        client = AgentHuman(api_key=key, base_url=url, http_client=wire, _clock=_clock(plan.seed))
        toolkit = AgentHumanToolkit(client=client, room=ROOM)
        agent, config = _agent(plan, guard, toolkit, told)
        try:
            if guard == "with toolkit":
                with toolkit:
                    agent.invoke(ASK, config)
            else:
                agent.invoke(ASK, config)
        finally:
            client._driver.give_up()  # as at the end of a program: it names what may still run


async def _run_async(plan: Plan, guard: str, key: str, url: str, told: _Told) -> None:
    async with asyncio.timeout(LIMIT_S), _AsyncWire(verify=TLS, trust_env=False) as wire:
        wire.stop = _Stop(plan)
        wire.stop.run = asyncio.current_task()
        client = AsyncAgentHuman(api_key=key, base_url=url, http_client=wire, _clock=_clock(plan.seed))
        toolkit = AgentHumanToolkit(async_client=client, room=ROOM)
        agent, config = _agent(plan, guard, toolkit, told)
        if guard == "with toolkit":
            async with toolkit:
                await agent.ainvoke(ASK, config)
        else:
            await agent.ainvoke(ASK, config)


def _ending_of(plan: Plan, guard: str, key: str, url: str, told: _Told) -> str:
    """Carry a run out as a program does, on a loop of its own; how it ended."""
    try:
        if plan.native:
            asyncio.run(_run_async(plan, guard, key, url, told))
        else:
            _run_sync(plan, guard, key, url, told)
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001 - it is counted
        return type(error).__name__
    return "returned"


class Campaign:
    """A service for each way to treat metadata, which ends nothing by itself and has no rooms."""

    def __init__(self, emulators: Mapping[str, Emulator]) -> None:
        self._emulators = emulators

    async def run(self, plan: Plan, guard: str) -> Outcome:
        """Run a scenario, count, and end what it left."""
        emulator = self._emulators[plan.metadata]
        before = len(emulator.sessions())
        for method, path, faults in (
            (None, "/v1/sessions/*/end", plan.ends),
            ("POST", "/v1/sessions", plan.creates),
            ("GET", "/v1/sessions*", plan.reads),
        ):
            for kind, details in faults:
                emulator.fail(kind, path=path, method=method, **details)
        told = _Told()
        _TOLD.set(told)
        ending = await asyncio.to_thread(_ending_of, plan, guard, emulator.api_key, emulator.url, told)
        emulator.clear_faults()
        async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as broom:
            await broom.sessions.list()  # every request of the run was taken before this one
            left = [item["session_id"] for item in emulator.sessions() if item["status"] == "started"]
            for session_id in left:
                await broom.sessions.end(session_id)
        opened = len(emulator.sessions()) - before
        return Outcome(plan, guard, ending, opened, len(left), told.of_loss)


@asynccontextmanager
async def campaign() -> AsyncIterator[Campaign]:
    """Start the services."""
    kinds: tuple[Metadata, ...] = ("kept", "dropped", "refused")
    log = _Log(logging.WARNING)
    LOGGER.addHandler(log)
    async with AsyncExitStack() as stack:
        stack.callback(LOGGER.removeHandler, log)
        yield Campaign(
            {
                kind: await stack.enter_async_context(
                    Emulator(plan="pro", media=False, sweep=False, expiry=False, metadata=kind)
                )
                for kind in kinds
            }
        )


async def run_all(plans: Sequence[Plan], guard: str, *, lanes: int = 1) -> list[Outcome]:
    """Run scenarios, some side by side, each lane with a service of its own."""

    async def lane(number: int) -> list[Outcome]:
        async with campaign() as services:
            return [await services.run(plan, guard) for plan in plans[number::lanes]]

    return [outcome for part in await asyncio.gather(*map(lane, range(lanes))) for outcome in part]


def table(outcomes: list[Outcome]) -> list[str]:
    """What happened with one guard, for people."""
    left = [outcome for outcome in outcomes if outcome.left]
    runs = Counter(outcome.plan.ending for outcome in outcomes)
    leaving = Counter(outcome.plan.ending for outcome in left)
    endings = Counter(outcome.ending for outcome in outcomes)
    return [
        f"runs                                       {len(outcomes):>6}",
        f"sessions opened                            {sum(outcome.opened for outcome in outcomes):>6}",
        f"sessions left open                         {sum(outcome.left for outcome in left):>6}",
        f"  by so many runs                          {len(left):>6}",
        "runs by what happened in them, and those of them that left a session open:",
        *(f"  {ending:<40} {count:>6} {leaving[ending]:>6}" for ending, count in sorted(runs.items())),
        "what came out of the agent:",
        *(f"  {ending:<40} {count:>6}" for ending, count in sorted(endings.items())),
    ]
