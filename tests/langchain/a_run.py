"""An agent's run in a process of its own, to be interrupted or killed: `python -m tests.langchain.a_run`.

Its one line of input is JSON, the arguments of `Run`. It answers with JSON lines: `met` with the secrets of each
session that it opens, `reached` when it waits for its end, `done` with what the tools said.
"""

import asyncio
import json
import os
import pickle
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import LiveKitRoom, Session
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest
from tests.langchain.conftest import ScriptedModel, call
from tests.langchain.toolbox import CREATE

ROOM_TOKEN = "seeded-room-token"


class FileSaver(InMemorySaver):
    """A checkpointer whose content is in a file after every step, as a database's would be."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._lock = threading.Lock()  # a sync run writes from several threads
        if file.exists():
            storage, writes, blobs = pickle.loads(file.read_bytes())
            for thread, namespaces in storage.items():
                for namespace, checkpoints in namespaces.items():
                    self.storage[thread][namespace] = checkpoints
            self.writes.update(writes)
            self.blobs.update(blobs)

    def put(self, *args: Any, **options: Any) -> Any:
        with self._lock:
            config = super().put(*args, **options)
            self._save()
        return config

    def put_writes(self, *args: Any, **options: Any) -> None:
        with self._lock:
            super().put_writes(*args, **options)
            self._save()

    def _save(self) -> None:
        storage = {thread: dict(namespaces) for thread, namespaces in self.storage.items()}
        kept = pickle.dumps((storage, dict(self.writes), dict(self.blobs)))
        unfinished = self._file.with_suffix(".new")
        unfinished.write_bytes(kept)
        unfinished.replace(self._file)


@dataclass(frozen=True)
class Run:
    """One run of an agent.

    Attributes:
        base_url: Address of the service.
        api_key: Its key.
        native: Whether it is an async run.
        wait_in: Where the run waits for its end after the create: `model` or `tool`.
        die: Whether the process kills itself when the create has answered.
        checkpoints: File of the checkpointer.
        resume: Whether it goes on with what the checkpointer has, instead of with a question.
        own_room: Whether the room is the application's, else the service makes it.
    """

    base_url: str
    api_key: str
    native: bool
    wait_in: str | None = None
    die: bool = False
    checkpoints: str | None = None
    resume: bool = False
    own_room: bool = True

    def __call__(self) -> None:
        toolkit = AgentHumanToolkit(
            api_key=self.api_key,
            base_url=self.base_url,
            room=LiveKitRoom("wss://rooms.example.com", ROOM_TOKEN) if self.own_room else None,
            on_session=self._opened,
            end_on_exit=self.checkpoints is None,
        )
        saver = FileSaver(Path(self.checkpoints)) if self.checkpoints else None
        agent = create_agent(self._model(), [*toolkit.get_tools(), _waiting_tool()], checkpointer=saver)
        ask = None if self.resume else {"messages": [HumanMessage("Show me your face.")]}
        options: dict[str, Any] = {"config": {"configurable": {"thread_id": "thread-1"}}}
        if saver is not None:
            options["durability"] = "sync"  # as a run that is to survive a crash is written

        async def on_a_loop() -> Any:
            async with toolkit:
                return await agent.ainvoke(ask, **options)

        if self.native:
            state = asyncio.run(on_a_loop())
        else:
            with toolkit:
                state = agent.invoke(ask, **options)
        say("done", tools=[_plain(m) for m in state["messages"] if isinstance(m, ToolMessage)])

    def _model(self) -> ScriptedModel:
        after = {
            None: AIMessage("Done."),
            "model": lambda _: AIMessage(wait()),
            "tool": call("wait_for_the_end", "call_2"),
        }[self.wait_in]
        return ScriptedModel(script=[after] if self.resume else [call(CREATE, "call_1"), after])

    def _opened(self, session: Session, _: SessionRequest) -> None:
        tokens = [session.session_token, session.room and session.room.token]
        say("met", secrets=[token.get_secret_value() for token in tokens if token])
        if self.die:
            os.kill(os.getpid(), signal.SIGKILL)


def say(event: str, **details: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def wait() -> str:
    """Wait until standard input is closed: nothing can interrupt a thread, and an agent waits for its threads."""
    say("reached")
    return sys.stdin.read()


async def await_() -> str:
    say("reached")
    await asyncio.Event().wait()
    return ""


def _waiting_tool() -> StructuredTool:
    return StructuredTool.from_function(
        wait, coroutine=await_, name="wait_for_the_end", description="Wait for the end."
    )


def _plain(message: ToolMessage) -> dict[str, Any]:
    return message.model_dump(mode="json", include={"content", "artifact", "status"})


if __name__ == "__main__":
    Run(**json.loads(sys.stdin.readline()))()
