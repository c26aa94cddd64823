"""One conversation over several turns, workers and restarts against a service that fails, made from a seed.

Two workers of an application, each with a toolkit of the same namespace, share the checkpoints of one thread. A turn
runs on either of them. A worker may die after any answer of a tool, before that is kept: then either worker goes on
from the checkpoints. It may be restarted between two turns, with its sessions ended or left running. A turn may be
a fork of an older one. Models name their calls once and for all, or number them anew in each turn or message. Sessions
may be ended by the toolkit itself after an idle or a whole time. Requests fail as in `campaign`, and the last turn
ends like a run there. The last thing is what an application does: it ends the conversation, `end_sessions(thread)`,
and leaves its blocks.

What is counted, by the service's own record and by watching every call of a tool: sessions that still run in the end,
sessions that one call opened while its first still ran, and answers that were not true before, during and after their
call (a session that ran all the time and is not listed, or is said to have ended or to be none; one that had ended
before and is said to run; one that another call opened and this one is said to have; another user's).

What it leaves out: speech, rooms and hand-overs (`identity/test_other_worker.py`), subagents and other ways of calling
(`identity/test_matrix.py`), an interruption of the clean-up itself (`campaign` has it), two turns of one thread at the
same time, and workers that die inside a request: a death waits for the calls beside it, which clean up after
themselves (`test_checkpoints.py` kills real processes). The sizes are not those of life: turns take milliseconds, and
limits 0.05 to 0.5 s.
"""

import asyncio
import gc
import itertools
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, Session
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain._origin import Origin, References, SessionRequest
from tests.client.conftest import ROOM
from tests.langchain.campaign import (
    LIMIT_S,
    PREFIX,
    TLS,
    Fault,
    _AsyncWire,
    _call,
    _clock,
    _Stop,
    _Wire,
    broken,
    faults,
)
from tests.langchain.conftest import ScriptedModel

NAMESPACE = "shop"
WISHES = ("create", "create", "create twice", "get", "get", "list", "list all", "end", "bad arguments")
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
NUMBERINGS = ("once and for all", "anew in each turn", "anew in each message")
LIMITS: tuple[dict[str, float], ...] = (
    {},
    {},
    {"max_idle_secs": 0.05},
    {"max_idle_secs": 0.5},
    {"max_session_secs": 0.1},
)
ONE = re.compile(r"(?:Session|Nothing was done:) (sess_\w+)")
NOTE = re.compile(r"Note: session (sess_\w+) was ended")


class Death(BaseException):
    """The process is gone."""


@dataclass(frozen=True)
class Act:
    """A turn, or a fork of an older one.

    Attributes:
        worker: Which one it runs on.
        wishes: What the model wants, one after the other.
        fork: Whether it goes on from an older checkpoint instead of from what a user says.
        dies_after: So many answers of tools, the process dies; `None` if it does not.
        resumed_by: The worker that then goes on.
        restarts: Whether the worker is replaced by a new process after it, in order.
    """

    worker: int
    wishes: tuple[str, ...]
    fork: bool
    dies_after: int | None
    resumed_by: int
    restarts: bool


@dataclass(frozen=True)
class Talk:
    """One scenario.

    Attributes:
        native: Whether the agents are async.
        acts: What happens, one after the other.
        ending: How the last one comes to its end.
        at_request: Which request of the last one an interruption strikes, and `moment` where.
        numbering: How the model names its calls.
        keeps: Whether sessions are left running when a worker is restarted in order.
        limits: Those of the toolkits.
        lists_metadata: Whether the service's lists carry metadata.
        creates: Faults of the creates, in order; `reads` and `ends` are passed by repeating.
    """

    seed: int
    native: bool
    acts: tuple[Act, ...]
    ending: str
    at_request: int
    moment: str
    numbering: str
    keeps: bool
    limits: Mapping[str, float]
    lists_metadata: bool
    creates: tuple[Fault, ...]
    reads: tuple[Fault, ...]
    ends: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int) -> "Talk":
        chance = random.Random(seed)
        limits = chance.choice(LIMITS)
        # A limit is reached in a thread of its own, where nothing may be interrupted.
        endings = [ending for ending in ENDINGS if not (limits and ending == "interrupted")]
        return cls(
            seed=seed,
            native=chance.random() < 0.5,
            acts=tuple(
                Act(
                    worker=chance.randint(0, 1),
                    wishes=("create",) * (number == 0)
                    + tuple(chance.choices(WISHES, k=chance.randint(1, 3))),
                    fork=number > 0 and chance.random() < 0.2,
                    dies_after=chance.choice((None, None, 1, 2)),
                    resumed_by=chance.randint(0, 1),
                    restarts=chance.random() < 0.3,
                )
                for number in range(chance.randint(2, 4))
            ),
            ending=chance.choice(endings),
            at_request=chance.randint(1, 4),
            moment=chance.choice(("before", "during", "after")),
            numbering=chance.choice(NUMBERINGS),
            keeps=chance.random() < 0.7,
            limits=limits,
            lists_metadata=chance.random() < 0.7,
            **faults(chance),
        )


@dataclass
class Outcome:
    """What became of a scenario.

    Attributes:
        opened: Sessions that were opened.
        left: Those that nobody has ended.
        twice: Sessions that a call opened while its first one ran.
        untrue: Answers that were not true.
        others: Whether another user's session was ended.
        happened: What happened in it, counted.
    """

    talk: Talk
    opened: int
    left: int
    twice: list[str]
    untrue: list[str]
    others: bool
    happened: Counter[str]


class Saver(InMemorySaver):
    """Checkpoints of the application; a process that is dead keeps nothing any more."""

    dead = False

    def put(self, config: Any, checkpoint: Any, *args: Any) -> Any:
        if not self.dead:
            return super().put(config, checkpoint, *args)
        return {"configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]}}

    def put_writes(self, *args: Any, **options: Any) -> None:
        if not self.dead:
            super().put_writes(*args, **options)


Record = dict[str, str]  # status by session id


class Judge(BaseCallbackHandler):
    """Watches every call of a tool, and compares what it says with the service's record.

    Args:
        record: The status of each session of this scenario.
        stranger: The session of another user.
    """

    run_inline = True

    def __init__(self, record: Callable[[], Record], stranger: str, saver: Saver) -> None:
        self.untrue: list[str] = []
        self.twice: list[str] = []
        self.happened: Counter[str] = Counter()
        self.dies_after: int | None = None
        self._record = record
        self._stranger = stranger
        self._saver = saver
        self._lock = threading.Lock()
        self._messages = 0
        self._before: dict[UUID, tuple[str, Record]] = {}
        self._opened: dict[tuple[int, str | None], list[str]] = {}

    def new_message(self) -> None:
        """A message of the model, or a fork: its calls are other calls from now on."""
        self._messages += 1

    def on_session(self, session: Session, request: SessionRequest) -> None:
        """A call has opened a session."""
        with self._lock:
            before = self._opened.setdefault((self._messages, request.tool_call_id), [])
            status = self._record()
            self.twice += [
                f"{session.session_id} beside {each}" for each in before if status[each] == "started"
            ]
            before.append(session.session_id)
            self.happened["sessions opened again, the first was over"] += len(before) > 1

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **_: Any) -> None:
        self._before[run_id] = (serialized["name"], self._record())

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._before.pop(run_id, None)

    def wait(self) -> None:
        """Wait until no call of a tool is under way on a thread: nothing can interrupt those."""
        until = time.monotonic() + LIMIT_S
        while self._before and time.monotonic() < until:
            time.sleep(0.01)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        name, before = self._before.pop(run_id)
        if isinstance(output, ToolMessage) and name.startswith(PREFIX):
            self._compare(name.removeprefix(PREFIX), output, before, self._record())
        if self.dies_after is not None and not self._saver.dead:
            self.dies_after -= 1
            if self.dies_after == 0:
                self._saver.dead = True
                raise Death

    def _compare(self, tool: str, told: ToolMessage, before: Record, after: Record) -> None:
        said = str(told.content)
        ran = {each for each, status in before.items() if status == after[each] == "started"}
        ran.discard(self._stranger)
        over = {each for each, status in before.items() if status == "ended"}
        about = [each for each in ONE.findall(said) if each in after]
        wrong = [each for each in NOTE.findall(said) if after[each] == "started"]
        said = said.partition("\nNote:")[0]
        if self._stranger in said:
            wrong.append(self._stranger)
        if tool == "list_sessions" and told.status == "success":
            shown = {item["session_id"]: item["status"] for item in told.artifact["sessions"]}
            if not told.artifact["left_out"]:
                wrong += ran - shown.keys()
            wrong += [each for each, status in shown.items() if status == "started" and each in over]
            wrong += [each for each, status in shown.items() if status == "ended" and each in ran]
            self.happened["lists of running sessions"] += bool(ran)
        if tool == "create_session" and "by this call before" in said:
            mine = self._opened.get((self._messages, told.tool_call_id), [])
            others = {each for opened in self._opened.values() for each in opened} - {*mine}
            wrong += [each for each in about if each in others]
        if "still running" in said or "is running" in said:
            wrong += [each for each in about if each in over]
            self.happened["sessions given back to a repeated call"] += "by this call before" in said
        if "has ended" in said or "not known here" in said:
            wrong += [each for each in about if each in ran]
        if "There are no" in said and ran and not (tool == "list_sessions" and told.artifact["sessions"]):
            wrong += ran
        if "none of them is yours" in said:
            wrong += ran
        self.untrue += [f"{each}: {tool}: {said}" for each in sorted(set(wrong))]


class Process:
    """A worker: its toolkit, its connections, and the block that it is in."""

    def __init__(self, conversation: "Conversation", *, end_on_exit: bool) -> None:
        talk, self.is_native = conversation.talk, conversation.talk.native
        self._judge = conversation.judge
        self.wire = (_AsyncWire if talk.native else _Wire)(verify=TLS, trust_env=False)
        self.wire.stop = _Stop(replace(talk, ending="done"))
        options: Any = {"api_key": conversation.key, "base_url": conversation.url, "http_client": self.wire}
        options["_clock"] = _clock(talk.seed)
        client: Any = (
            {"async_client": AsyncAgentHuman(**options)} if talk.native else {"client": AgentHuman(**options)}
        )
        self.toolkit = AgentHumanToolkit(
            room=ROOM,
            namespace=NAMESPACE,
            on_session=conversation.judge.on_session,
            end_on_exit=end_on_exit,
            **talk.limits,
            **client,
        )

    async def enter(self) -> None:
        if self.is_native:
            await self.toolkit.__aenter__()
        else:
            self.toolkit.__enter__()

    async def leave(self, error: BaseException | None = None) -> None:
        """Leave the block; with that the process ends, and its timers."""
        if self.is_native:
            await self.toolkit.__aexit__(type(error), error, None)
        else:
            self.toolkit.__exit__(type(error), error, None)
        await self.die()

    async def die(self) -> None:
        """Stop everything without leaving the block; what calls opened that were given up is ended first."""
        if self.is_native:
            await self.toolkit._loop.aclose()
            await self.toolkit._clients.asettle()
            await self.wire.aclose()
        else:
            self._judge.wait()
            self.toolkit._loop.close()
            self.toolkit._clients.settle()
            self.wire.close()

    async def end(self, thread: str) -> None:
        if self.is_native:
            await self.toolkit.aend_sessions(thread)
        else:
            self.toolkit.end_sessions(thread)


@dataclass
class Conversation:
    """A scenario that is being carried out."""

    talk: Talk
    key: str
    url: str
    judge: Judge
    saver: Saver
    thread: str
    _calls: Iterator[int] = field(default_factory=itertools.count)

    async def carry_out(self) -> None:
        """As a program does, on a loop of its own."""
        workers = [await self._new_worker() for _ in range(2)]
        error: BaseException | None = None
        *acts, last = self.talk.acts
        try:
            for act in acts:
                await self._act(workers, act, "done")
                if act.restarts:
                    await workers[act.worker].leave()
                    workers[act.worker] = await self._new_worker()
                    self.judge.happened["restarts"] += 1
            await self._act(workers, last, self.talk.ending)
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as raised:  # noqa: BLE001 - it is counted
            error = raised
        workers[last.worker].wire.stop = _Stop(replace(self.talk, ending="done"))
        self.judge.happened[f"ended with {type(error).__name__ if error else 'no error'}"] += 1
        await workers[last.worker].end(self.thread)
        for worker in workers:
            await worker.leave(error)

    async def _new_worker(self) -> Process:
        # The last block ends what is its own, too; one that is restarted in order leaves it running, or does not.
        worker = Process(self, end_on_exit=not self.talk.keeps)
        await worker.enter()
        return worker

    async def _act(self, workers: list[Process], act: Act, ending: str) -> None:
        at = await self._older_checkpoint(workers[act.worker]) if act.fork else None
        if at is not None:
            self.judge.new_message()
            self.judge.happened["forks"] += 1
        self.judge.dies_after = act.dies_after
        script = self._script(act, ending)
        try:
            await self._run(workers[act.worker], script, ending, at=at, resume=at is not None)
        except Death:
            self.judge.happened["deaths"] += 1
            await workers[act.worker].die()
            workers[act.worker] = await self._new_worker()
            self.saver.dead = False
            self.judge.dies_after = None
            await self._run(workers[act.resumed_by], [AIMessage("Done.")] * 9, "done", resume=True)
        finally:
            self.judge.dies_after = None

    async def _run(
        self, worker: Process, script: list[Any], ending: str, *, at: Any = None, resume: bool = False
    ) -> None:
        config: Any = at or {"configurable": {"thread_id": self.thread}}
        config = {**config, "callbacks": [self.judge]}
        config["recursion_limit"] = 14 if ending == "recursion limit" else 100
        asked = None if resume else {"messages": [HumanMessage("Go on.")]}
        agent = self._agent(worker, script)
        worker.wire.stop = stop = _Stop(replace(self.talk, ending=ending))
        if self.talk.native:
            running = asyncio.ensure_future(agent.ainvoke(asked, config, durability="sync"))
            stop.run = running
            async with asyncio.timeout(LIMIT_S):
                await running
        else:
            agent.invoke(asked, config, durability="sync")

    def _agent(self, worker: Process, script: list[Any]) -> Any:
        tools = [*worker.toolkit.get_tools(), broken]
        return create_agent(ScriptedModel(script=script), tools, checkpointer=self.saver)

    async def _older_checkpoint(self, worker: Process) -> Any:
        """A checkpoint from which tools are called, if there is one; which one is chosen by the seed."""
        agent = self._agent(worker, [])
        config: Any = {"configurable": {"thread_id": self.thread}}
        states = [state.config for state in agent.get_state_history(config) if "tools" in state.next]
        return random.Random(self.talk.seed).choice(states) if states else None

    def _script(self, act: Act, ending: str) -> list[Any]:
        turn = itertools.count()
        script: list[Any] = [self._reply(wish, turn) for wish in act.wishes]
        match ending:
            case "tool error":
                script.append(self._noted(lambda _: AIMessage("", tool_calls=[_call("broken", "last")])))
            case "tool error beside a create":
                beside = [_call(f"{PREFIX}create_session", "last"), _call("broken", "broken")]
                script.append(self._noted(lambda _: AIMessage("", tool_calls=beside)))
            case "model error":
                script.append(ConnectionError("the model is down"))
            case "Ctrl-C in the model":
                script.append(KeyboardInterrupt())
            case "recursion limit":
                script += [self._reply("get", turn) for _ in range(30)]
        return [*script, AIMessage("Done.")]

    def _reply(self, wish: str, turn: Iterator[int]) -> Callable[[Sequence[BaseMessage]], AIMessage]:
        def answer(messages: Sequence[BaseMessage]) -> AIMessage:
            known = [
                str(message.artifact["session_id"])
                for message in messages
                if isinstance(message, ToolMessage) and message.artifact and "session_id" in message.artifact
            ]
            session = {"session_id": known[-1] if known else "sess_unknown"}
            numbers = {
                "once and for all": self._calls,
                "anew in each turn": turn,
                "anew in each message": itertools.count(),
            }[self.talk.numbering]

            def of(name: str, **arguments: Any) -> Any:
                return _call(f"{PREFIX}{name}", f"functions.{name}:{next(numbers)}", **arguments)

            calls: dict[str, Callable[[], list[Any]]] = {
                "create": lambda: [of("create_session")],
                "create twice": lambda: [of("create_session"), of("create_session")],
                "get": lambda: [of("get_session", **session)],
                "list": lambda: [of("list_sessions")],
                "list all": lambda: [of("list_sessions", status="all")],
                "end": lambda: [of("end_session", **session)],
                "bad arguments": lambda: [of("create_session", aspect_ratio=7), of("end_session")],
            }
            return AIMessage("", tool_calls=calls[wish]())

        return self._noted(answer)

    def _noted(
        self, answer: Callable[[Sequence[BaseMessage]], AIMessage]
    ) -> Callable[[Sequence[BaseMessage]], AIMessage]:
        def noted(messages: Sequence[BaseMessage]) -> AIMessage:
            self.judge.new_message()
            return answer(messages)

        return noted


async def run_one(talk: Talk, emulator: Emulator) -> Outcome:
    """Run a scenario, count, and end what it left."""
    loop = asyncio.get_running_loop()
    past = {item["session_id"] for item in emulator.sessions()}

    async def read() -> Record:
        return {
            item["session_id"]: item["status"]
            for item in emulator.sessions()
            if item["session_id"] not in past
        }

    def record() -> Record:
        return asyncio.run_coroutine_threadsafe(read(), loop).result(LIMIT_S)

    async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as broom:
        thread = f"thread-{talk.seed}"
        other = References(NAMESPACE).new(Origin("bob"))
        stranger = (await broom.sessions.create(room=ROOM, metadata={"client_ref": other})).session_id
        for method, path, faults in (
            (None, "/v1/sessions/*/end", talk.ends),
            ("POST", "/v1/sessions", talk.creates),
            ("GET", "/v1/sessions*", talk.reads),
        ):
            for kind, details in faults:
                emulator.fail(kind, path=path, method=method, **details)
        saver = Saver()
        judge = Judge(record, stranger, saver)
        conversation = Conversation(talk, emulator.api_key, emulator.url, judge, saver, thread)
        await asyncio.to_thread(_as_a_program, conversation)
        emulator.clear_faults()
        await broom.sessions.list()  # every request of the run was taken before this one
        status = await read()
        left = [each for each, its in status.items() if its == "started" and each != stranger]
        for session_id in [*left, stranger]:
            await broom.sessions.end(session_id)
    return Outcome(
        talk,
        opened=len(status) - 1,
        left=len(left),
        twice=judge.twice + _overlapping(emulator, past),
        untrue=judge.untrue,
        others=status[stranger] != "started",
        happened=judge.happened,
    )


def _as_a_program(conversation: Conversation) -> None:
    with suppress(
        KeyboardInterrupt
    ):  # out of an async run it comes through the loop, which cancels all first
        asyncio.run(conversation.carry_out())


def _overlapping(emulator: Emulator, past: set[str]) -> list[str]:
    """Sessions under one reference, of which one began before the other one's end."""
    by_reference: dict[str, list[dict[str, Any]]] = {}
    for item in reversed(emulator.sessions()):
        if item["session_id"] not in past:
            by_reference.setdefault(item["metadata"]["client_ref"], []).append(item)
    return [
        f"{second['session_id']} under the reference of {first['session_id']}"
        for sessions in by_reference.values()
        for first, second in itertools.pairwise(sessions)
        if first["ended_at"] is None or second["started_at"] < first["ended_at"]
    ]


async def run_all(talks: Sequence[Talk], *, lanes: int = 1) -> list[Outcome]:
    """Run scenarios, some side by side, each lane with services of its own."""

    async def lane(number: int) -> list[Outcome]:
        options: Any = {"plan": "pro", "media": False, "sweep": False, "expiry": False}
        async with Emulator(**options) as told, Emulator(**options, list_metadata=False) as untold:
            return [
                await run_one(talk, told if talk.lists_metadata else untold) for talk in talks[number::lanes]
            ]

    outcomes = [outcome for part in await asyncio.gather(*map(lane, range(lanes))) for outcome in part]
    gc.collect()  # what dead workers left is told of here, not in the next test
    return outcomes


def table(outcomes: list[Outcome]) -> list[str]:
    """What happened, for people."""
    happened = sum((outcome.happened for outcome in outcomes), Counter[str]())
    turns = sum(len(outcome.talk.acts) for outcome in outcomes)
    return [
        f"conversations                              {len(outcomes):>6}",
        f"turns                                      {turns:>6}",
        f"sessions opened                            {sum(outcome.opened for outcome in outcomes):>6}",
        f"sessions left open                         {sum(outcome.left for outcome in outcomes):>6}",
        f"sessions opened twice                      {sum(len(outcome.twice) for outcome in outcomes):>6}",
        f"answers that were not true                 {sum(len(outcome.untrue) for outcome in outcomes):>6}",
        f"sessions of another user that were ended   {sum(outcome.others for outcome in outcomes):>6}",
        "what happened in them:",
        *(f"  {what:<40} {count:>6}" for what, count in sorted(happened.items())),
    ]
