"""Where a call comes from: the one place that reads thread, checkpoint namespace, run, agent and call id.

A tool node injects its runtime; a hand-written node injects nothing, but runs under a config. A program that calls a
tool by itself has neither.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

from langchain_core.runnables.config import ensure_config

from agenthuman_plugins.client import Session

# What LangGraph puts into the config of a node. If a name changes, replays in a new process are no longer looked for;
# locked by test_replay_in_a_new_process_finds_its_session.
_CHECKPOINTER = "__pregel_checkpointer"
_NAMESPACE = "checkpoint_ns"  # "node:task", and one more after a "|" for each level of a subgraph
_CHECKPOINTS = "checkpoint_map"  # the newest checkpoint of the conversation has the empty key
_LEVEL = "|"
_AGENT_NAME = "lc_agent_name"
_FORKS_HAVE_TASKS = (
    "__pregel_replay_state"  # in every config of a LangGraph whose forks have tasks of their own
)
_PATH, _PUSHED = "langgraph_path", "__pregel_push"  # of a task; what it was called by stands in its path

#: Keys of a session's metadata that say how to speak through it from another process.
AGENT_IDENTITY, ROOM_NAME = "client_agent", "client_room"

_call_id: ContextVar[str | None] = ContextVar("id of the tool call that is being carried out", default=None)


@contextmanager
def calling(tool_call_id: str | None) -> Iterator[None]:
    """Let the tool that runs inside know the id of its call.

    LangChain's own way, `InjectedToolCallId`, refuses every call without an id, also where the argument has a default.
    """
    token = _call_id.set(tool_call_id)
    try:
        yield
    finally:
        _call_id.reset(token)


@dataclass(frozen=True, slots=True)
class Sibling:
    """A tool call of the same message.

    Attributes:
        name: Name of the tool.
        tool_call_id: Id of the call.
        session_id: The session that it names, if it does.
    """

    name: str
    tool_call_id: str | None
    session_id: object


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call comes from.

    Attributes:
        thread_id: Conversation that the agent runs in; `None` outside of one.
        agent: What distinguishes a subagent from the agent that called it; `None` in the agent of the conversation.
        checkpoint_ns: The task that makes the call: it stays when the task is replayed, and changes with the next
            turn and with a fork.
        graph: Namespace of the graph that the task is of; empty in the conversation's own.
        fork: The checkpoint that the run was started from, where older versions of LangGraph do not tell its tasks from
            those of the first run.
        tool_call_id: Id of the call; some models number their calls anew in each turn.
        run_id: Id of the run, where it is told.
        has_checkpoints: Whether the run is kept, so that another process may replay it.
        message: The tool calls of the message that this call is of, in its order; empty if nobody knows.
        message_id: Id of that message, if it has one.
    """

    thread_id: str | None = None
    agent: str | None = None
    checkpoint_ns: str = ""
    graph: str = ""
    fork: str | None = None
    tool_call_id: str | None = None
    run_id: str | None = None
    has_checkpoints: bool = False
    message: tuple[Sibling, ...] = field(default=(), repr=False)
    message_id: str | None = None

    @classmethod
    def of(cls, runtime: object | None = None) -> Self:
        """Read the runtime that a tool node injects, else the config that the call runs under.

        By its attributes, not its class: importing langgraph for that would cost a second.
        """
        config = getattr(runtime, "config", None)
        if not isinstance(config, Mapping):
            config = ensure_config()
        told, metadata = _mapping(config.get("configurable")), _mapping(config.get("metadata"))
        namespace = _text(told.get(_NAMESPACE)) or ""
        graph = _graph(namespace, metadata.get(_PATH))
        # A fork has tasks of its own, except in older versions: there, those that it begins with repeat the namespace.
        # A resume may name its checkpoint as a fork does, and a fork that is resumed after a crash does not say where
        # it began, so this must not be part of other keys.
        began = _text(metadata.get("checkpoint_id"))
        repeats = _FORKS_HAVE_TASKS not in told and began == _text(_mapping(told.get(_CHECKPOINTS)).get(""))
        fork = began if repeats else None
        call_id = _text(getattr(runtime, "tool_call_id", None)) or _call_id.get()
        message = _message(getattr(runtime, "state", None), call_id)
        return cls(
            thread_id=_text(told.get("thread_id")),
            agent=_agent(graph, metadata),
            checkpoint_ns=namespace,
            graph=graph,
            fork=fork,
            tool_call_id=call_id,
            run_id=_text(told.get("run_id") or metadata.get("run_id") or config.get("run_id")),
            has_checkpoints=told.get(_CHECKPOINTER) is not None,
            message=_siblings(message),
            message_id=_text(getattr(message, "id", None)),
        )

    @classmethod
    def of_thread(cls, thread_id: object) -> Self:
        """The agent of a conversation, outside of any call. As in a config, an empty id is none."""
        return cls(_text(thread_id))

    @property
    def key(self) -> str | None:
        """What a replay of this very call repeats, and no other call has; `None` if nothing tells calls apart."""
        if not self.checkpoint_ns or self.tool_call_id is None:
            return None
        return _hash(self.thread_id or "", self.checkpoint_ns, self.fork or "", self.tool_call_id)

    @property
    def may_be_replayed(self) -> bool:
        """Whether a process that is gone may have made this very call."""
        return self.has_checkpoints and self.thread_id is not None and self.key is not None

    def includes(self, other: "Origin") -> bool:
        """Whether another call of the thread was made by this call's graph in this run, or below it."""
        return not self.graph or other.checkpoint_ns.startswith(f"{self.graph}{_LEVEL}")

    def before(self, name: str, session_id: str) -> list[str]:
        """Ids of the calls of a tool for a session that stand before this one in its message."""
        earlier: list[str] = []
        for call in self.message:
            if call.tool_call_id == self.tool_call_id:
                return earlier
            if call.name == name and call.session_id == session_id and call.tool_call_id is not None:
                earlier.append(call.tool_call_id)
        return []


@dataclass(frozen=True, slots=True)
class References:
    """The references that sessions carry in `metadata["client_ref"]`, by which every process knows whose they are.

    They read `lc-<thread>-<call>`, a subagent's `lc-<thread>-<agent>-<call>`, each part a hash. Whose reference begins
    with `lc-<thread>-` is of that thread, so no process needs a store.

    Args:
        namespace: The application, since two of them on one account may both have a thread "1"; `None`: a process's
            own.
    """

    namespace: str | None

    def new(self, origin: Origin) -> str:
        """The reference of the session that a call opens: for a replay the same, for every other call a new one."""
        if origin.thread_id is None:
            return f"lc-{uuid.uuid4().hex}"
        call = _hash(origin.key) if origin.key is not None else uuid.uuid4().hex[:16]
        return f"{self.begin(origin)}{call}"

    def begin(self, origin: Origin, *, whole_thread: bool = False) -> str:
        """What the references of an origin's thread begin with, or those of its subagent."""
        application = "own" if self.namespace is None else f"shared {self.namespace}"
        thread = f"lc-{_hash(application, origin.thread_id or '')}-"
        return thread if origin.agent is None or whole_thread else f"{thread}{_hash(origin.agent)}-"


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a session is for; passed to the `room`, `metadata` and `on_session` functions of a toolkit.

    Attributes:
        thread_id: Conversation of the session; `None` outside of one.
        tool_call_id: Call that opens the session, or that speaks through it; `None` if the call has no id.
        run_id: Run of the agent, if it is known: LangGraph servers pass it on.
        agent: Subagent that made the call; `None` for the agent of the conversation.
        metadata: What the toolkit's `metadata` gave for this session; empty while that function is called.
        session: `None` while the session is being opened. Otherwise another process opened it, and this one is to
            speak through it: return its room with a new agent token for `agent_identity`.
    """

    thread_id: str | None = None
    tool_call_id: str | None = None
    run_id: str | None = None
    agent: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    session: Session | None = field(default=None, repr=False)

    @property
    def agent_identity(self) -> str | None:
        """Participant that the avatar listens to; `None` while the session is being opened: you choose."""
        return self._kept(AGENT_IDENTITY)

    @property
    def room_name(self) -> str | None:
        """Name of the room that the avatar is in; `None` while the session is being opened, or if it is not known."""
        return self._kept(ROOM_NAME)

    def _kept(self, key: str) -> str | None:
        return None if self.session is None else _text(_mapping(self.session.metadata).get(key))


def _graph(namespace: str, path: object) -> str:
    """The graph that a task is of. Its namespace has a level of its own, and one for each task that called it.

    A `@task` of the functional API is of the graph that called it, though its namespace reads like a subagent's.
    """
    levels = namespace.split(_LEVEL)[:-1]
    # What was called by a task has that task's path in its own; what is sent to a node has a number there.
    while isinstance(path, Sequence) and path[0] == _PUSHED and not isinstance(path[1], int):
        path, levels = path[1], levels[:-1]
    return _LEVEL.join(levels)


def _agent(graph: str, metadata: Mapping[str, Any]) -> str | None:
    """The subagent that a task is of: the nodes that lead to its graph, and its name, where it has one."""
    levels = [part.partition(":")[0] for part in graph.split(_LEVEL)]
    path = [name for name in levels if name and not name.isdecimal()]
    if not path:
        return None
    name = _text(metadata.get(_AGENT_NAME))
    return "/".join([*path, name] if name else path)


def _message(state: object, call_id: str | None) -> object | None:
    """The message that a call is of, as far as the state of the graph holds it."""
    messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    if call_id is None or not isinstance(messages, list):
        return None
    holding = (
        message for message in reversed(messages) if call_id in {call.get("id") for call in _calls(message)}
    )
    return next(holding, None)


def _siblings(message: object) -> tuple[Sibling, ...]:
    return tuple(
        Sibling(call.get("name", ""), call.get("id"), _mapping(call.get("args")).get("session_id"))
        for call in _calls(message)
    )


def _calls(message: object) -> list[dict[str, Any]]:
    return getattr(message, "tool_calls", None) or []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    """An id as text, whatever the application made it of."""
    return None if value is None or value == "" else str(value)


def _hash(*parts: str) -> str:
    # With their lengths, so that no two lists of parts read the same. A model may make up what UTF-8 cannot hold.
    named = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(named.encode(errors="surrogatepass")).hexdigest()[:16]
