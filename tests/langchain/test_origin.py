"""Where a call comes from, as values; what graphs make of them is in test_replay.py and identity/."""

import dataclasses
from types import SimpleNamespace

import pytest

from agenthuman_plugins.client import Session
from agenthuman_plugins.langchain import SessionRequest
from agenthuman_plugins.langchain._origin import (
    _PUSHED,
    AGENT_IDENTITY,
    ROOM_NAME,
    Origin,
    References,
    _graph,
)

CALL = Origin("ada", checkpoint_ns="tools:1", tool_call_id="call_1", has_checkpoints=True)


@pytest.mark.parametrize(("given", "thread_id"), [("ada", "ada"), (5, "5"), ("", None), (None, None)])
def test_thread_of_a_call_outside_of_graphs(given: object, thread_id: str | None) -> None:
    """The application names the conversation; an empty id is none."""
    assert Origin.of_thread(given) == Origin(thread_id)


@pytest.mark.parametrize(
    "change",
    [{"has_checkpoints": False}, {"thread_id": None}, {"checkpoint_ns": ""}, {"tool_call_id": None}],
    ids=lambda change: next(iter(change)),
)
def test_what_a_replay_needs(change: dict[str, object]) -> None:
    """Only a call that is kept, of a conversation, and told apart from others may be a replay of a dead process's."""
    assert CALL.may_be_replayed
    assert not dataclasses.replace(CALL, **change).may_be_replayed


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"run_id": "run_2"}, True),
        ({"thread_id": "bob"}, False),
        ({"checkpoint_ns": "tools:2"}, False),
        ({"fork": "checkpoint"}, False),
        ({"tool_call_id": "call_2"}, False),
    ],
)
def test_what_tells_calls_apart(change: dict[str, object], same: bool) -> None:
    """A replay repeats thread, task, fork and id of the call; another call differs in one of them."""
    other = dataclasses.replace(CALL, **change)
    assert (other.key == CALL.key) is same
    references = References("shop")
    assert (references.new(other) == references.new(CALL)) is same
    assert references.new(other).startswith(references.begin(other))


@pytest.mark.parametrize(
    ("graph", "namespace", "included"),
    [
        ("", "tools:1", True),
        ("sales:1", "sales:1|tools:2", True),
        ("sales:1", "sales:12|tools:2", False),
        ("sales:1", "tools:2", False),
    ],
)
def test_graph_includes_what_is_below_it(graph: str, namespace: str, included: bool) -> None:
    """The conversation's own graph includes every call, a subagent's only those below it."""
    assert Origin("ada", graph=graph).includes(Origin("ada", checkpoint_ns=namespace)) is included


@pytest.mark.parametrize(
    ("namespace", "path", "graph"),
    [
        ("tools:1", ("__pregel_pull", "tools"), ""),
        ("sales:1|tools:2", ("__pregel_pull", "tools"), "sales:1"),
        ("sales:1|tools:2", (_PUSHED, 0), "sales:1"),
        ("main:1|outer:2|inner:3", (_PUSHED, ("__pregel_pull", "main"), 0), "main:1"),
        ("main:1|outer:2|inner:3", (_PUSHED, (_PUSHED, ("__pregel_pull", "main"), 0), 0), ""),
    ],
)
def test_task_that_a_task_called_is_of_its_graph(namespace: str, path: object, graph: str) -> None:
    """Each task that called another one has a level of the namespace, and is no subagent."""
    assert _graph(namespace, path) == graph


@pytest.mark.parametrize("place", ["configurable", "metadata", "config"])
def test_run_is_told_in_one_of_three_places(place: str) -> None:
    """LangGraph servers name the run in the configuration, its metadata or beside them."""
    config: dict[str, object] = {"configurable": {}, "metadata": {}}
    config = {**config, **({"run_id": "run_1"} if place == "config" else {place: {"run_id": "run_1"}})}
    assert Origin.of(SimpleNamespace(config=config)).run_id == "run_1"


def test_references_outside_of_conversations() -> None:
    """Nothing tells such calls apart, so each has a reference of its own."""
    nobody = Origin()
    assert References(None).new(nobody) != References(None).new(nobody)
    uncounted = Origin("ada")
    assert References(None).new(uncounted) != References(None).new(uncounted)


def test_request_tells_the_room_that_a_session_is_in() -> None:
    """What another process wrote into the session's metadata; nothing while the session is being opened."""
    kept = {AGENT_IDENTITY: "agent-1", ROOM_NAME: "lobby"}
    found = SessionRequest(session=Session(session_id="sess_1", metadata=kept))
    assert (found.agent_identity, found.room_name) == ("agent-1", "lobby")
    assert (SessionRequest().agent_identity, SessionRequest().room_name) == (None, None)
    bare = SessionRequest(session=Session(session_id="sess_1"))
    assert (bare.agent_identity, bare.room_name) == (None, None)
