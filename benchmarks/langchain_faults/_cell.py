"""One cell: an agent calls one tool once while one thing goes wrong. What the model and the program see.

`python -m benchmarks.langchain_faults._cell SUBJECT` runs all cells of a subject and prints one JSON object a line.
It runs in the environment of the peers, so it needs neither rich nor our test tools.
"""

import asyncio
import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from benchmarks.langchain_faults._server import HOLD_S, FaultyServer
from benchmarks.langchain_faults._subjects import KEY, SESSION, SUBJECTS, AgentHumanService, Subject

FAULTS = ("none", "network_down", "401", "429", "500", "malformed", "cancel", "oversized", "time_out")
WAYS = ("ainvoke", "invoke")
BOUND_S = 90.0  # every tool runs with its own default time limits; this is where waiting for them stops
_WATCH_S = HOLD_S + 1  # how long work that goes on after a cancellation is looked for
_SHOWN = 300  # characters of a text that are kept
_CALL_ID = "call_under_test"


@dataclass
class Observation:
    """What was seen in one cell. `None` where it does not apply.

    Attributes:
        status: Status of the tool's message.
        text: Beginning of its content, which the model reads.
        length: Length of the content in characters.
        raised: Type and text of what came out of the agent.
        ended: Whether the run came to an end by itself within `BOUND_S`.
        seconds: How long it took.
        cancelled: Whether the program saw the cancellation that it asked for.
        went_on: Requests that were delivered or begun after the cancelled run had returned.
        sessions_left: Billed sessions that the call left running.
        largest_request: Bytes of the largest request while the fault was on.
        secret_shown: Whether the key is in what the model reads or what was raised.
    """

    subject: str
    fault: str
    way: str
    status: str | None = None
    text: str = ""
    length: int = 0
    raised: str | None = None
    ended: bool = True
    seconds: float = 0.0
    cancelled: bool | None = None
    went_on: int | None = None
    sessions_left: int = 0
    largest_request: int = 0
    secret_shown: bool = False


class _Model(BaseChatModel):
    """Calls the tool that comes first, if any, then the one under test, then is done."""

    subject: Subject
    fault: str
    arm: Callable[[], None]
    _turn: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        del tools
        return self

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        del stop, run_manager
        self._turn += 1
        if self.subject.opens_first and self._turn == 1:
            message = _call(self.subject.opens_first, {}, "call_before")
        elif self._turn == 1 + bool(self.subject.opens_first):
            self.arm()
            args = self.subject.big if self.fault == "oversized" else self.subject.args
            filled = {
                name: _opened(messages) if value == SESSION else value for name, value in args.items()
            }
            message = _call(self.subject.tool, filled, _CALL_ID)
        else:
            message = AIMessage("Done.")
        return ChatResult(generations=[ChatGeneration(message=message)])


def _call(name: str, args: dict[str, Any], call_id: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": call_id, "type": "tool_call"}])


def _opened(messages: list[BaseMessage]) -> str:
    artifact = next(message.artifact for message in messages if isinstance(message, ToolMessage))
    return str(artifact["session_id"])


async def observe(key: str, fault: str, way: str) -> Observation:
    """Run one cell."""
    subject = SUBJECTS[key]
    seen = Observation(key, fault, way)
    service = subject.service()
    sessions_before = 0
    with FaultyServer(service) as server:

        def arm() -> None:
            nonlocal sessions_before
            sessions_before = service.running if isinstance(service, AgentHumanService) else 0
            server.arm(fault)

        model = _Model(subject=subject, fault=fault, arm=arm)
        agent = create_agent(model, subject.tools(server.url))
        work = _ainvoke(agent) if way == "ainvoke" else _invoke(agent)
        began = time.monotonic()
        task = asyncio.ensure_future(work)
        if fault == "cancel":
            await asyncio.to_thread(server.held.wait, BOUND_S)
            task.cancel()
        done, _ = await asyncio.wait([task], timeout=BOUND_S)
        returned = time.monotonic()
        seen.seconds = round(returned - began, 1)
        seen.ended = bool(done)
        if fault == "cancel":
            await asyncio.sleep(_WATCH_S)
            seen.cancelled = task.cancelled()
            seen.went_on = sum(
                request.began > returned
                or (request.delivered and request.finished is not None and request.finished > returned)
                for request in server.seen
            )
        if done:
            _read(seen, task)
        else:
            task.cancel()
        seen.largest_request = max((request.body_bytes for request in server.seen), default=0)
        if isinstance(service, AgentHumanService):
            # What a failed get or end could not change is not its fault; what a create leaves behind is.
            seen.sessions_left = max(0, service.running - sessions_before)
    return seen


def _read(seen: Observation, task: "asyncio.Future[Any]") -> None:
    if task.cancelled():
        seen.raised = "CancelledError"
        return
    if error := task.exception():
        text = str(error)
        seen.secret_shown = KEY in text
        seen.raised = f"{type(error).__name__}: {text[:_SHOWN]}"
        return
    for message in task.result()["messages"]:
        if isinstance(message, ToolMessage) and message.tool_call_id == _CALL_ID:
            text = message.text
            seen.status, seen.text, seen.length = message.status, text[:_SHOWN], len(text)
            seen.secret_shown = KEY in text


async def _ainvoke(agent: Any) -> Any:
    return await agent.ainvoke(_ASK)


async def _invoke(agent: Any) -> Any:
    """Call the agent in a thread that nothing waits for at the end: it may hang for ever."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not result.done():
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)

    def work() -> None:
        value, error = None, None
        try:
            value = agent.invoke(_ASK)
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it is what the program sees
            error = caught
        loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, daemon=True).start()
    return await result


_ASK = {"messages": [{"role": "user", "content": "Please use your tool."}]}


async def _all(key: str, faults: list[str]) -> None:
    waits = "time_out" in faults
    for fault in faults:
        if fault != "time_out":
            # A thread cannot be cancelled, and Ctrl-C ends a blocking call anyway.
            for way in WAYS if fault != "cancel" else WAYS[:1]:
                _print(await observe(key, fault, way))
    if waits:  # side by side, since they only wait
        for seen in await asyncio.gather(*(observe(key, "time_out", way) for way in WAYS)):
            _print(seen)


def _print(seen: Observation) -> None:
    sys.stdout.write(json.dumps(dataclasses.asdict(seen)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.new_event_loop().run_until_complete(_all(sys.argv[1], sys.argv[2:] or list(FAULTS)))
    os._exit(0)  # without waiting for calls that hang
