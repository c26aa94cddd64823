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
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from benchmarks.langchain_faults._observation import BOUND_S, Observation
from benchmarks.langchain_faults._server import HOLD_S, FaultyServer, Service
from benchmarks.langchain_faults._subjects import KEY, SESSION, SUBJECTS, AgentHumanService, Subject

FAULTS = ("none", "network_down", "401", "429", "500", "malformed", "cancel", "oversized", "time_out")
WAYS = ("ainvoke", "invoke")
_WATCH_S = HOLD_S + 1  # how long work that goes on after a cancellation is looked for
_KEPT = 2_000  # characters of a text, enough to judge it
_CALL_ID = "call_under_test"


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
            filled = {name: _opened(messages) if value == SESSION else value for name, value in args.items()}
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
        async with subject.tools(server.url) as tools:

            def arm() -> None:
                nonlocal sessions_before
                sessions_before = _running(service)
                server.arm(fault)

            agent = create_agent(_Model(subject=subject, fault=fault, arm=arm), tools)
            task = asyncio.ensure_future(_ainvoke(agent) if way == "ainvoke" else _invoke(agent))
            await _follow(task, server, seen)
        seen.largest_request = max((request.body_bytes for request in server.seen), default=0)
        # What a failed get or end could not change is not its fault; what a create leaves behind is.
        seen.sessions_left = max(0, _running(service) - sessions_before)
    return seen


def _running(service: Service) -> int:
    return service.running if isinstance(service, AgentHumanService) else 0


async def _follow(task: "asyncio.Future[Any]", server: FaultyServer, seen: Observation) -> None:
    """Wait for the end of a run, interrupt it if that is the fault, and write down how it went."""
    began = time.monotonic()
    if seen.fault == "cancel":
        await asyncio.to_thread(server.held.wait, BOUND_S)
        task.cancel()
    done, _ = await asyncio.wait([task], timeout=BOUND_S)
    returned = time.monotonic()
    seen.seconds = round(returned - began, 1)
    seen.ended = bool(done)
    if seen.fault == "cancel":
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


def _read(seen: Observation, task: "asyncio.Future[Any]") -> None:
    if task.cancelled():
        seen.raised = "CancelledError"
        return
    if error := task.exception():
        text = str(error)
        seen.secret_shown = KEY in text
        seen.raised = f"{type(error).__name__}: {text[:_KEPT]}"
        return
    for message in task.result()["messages"]:
        if isinstance(message, ToolMessage) and message.tool_call_id == _CALL_ID:
            text = message.text
            seen.status, seen.text, seen.length = message.status, text[:_KEPT], len(text)
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
