"""Documented bodies with fields added, missing, renamed and of other types: only our errors come out."""

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agenthuman_plugins.client import AgentHumanError, APIStatusError
from agenthuman_plugins.client._answers import Answer, understand
from agenthuman_plugins.client._calls import account as account_calls
from agenthuman_plugins.client._calls import sessions as session_calls
from tests.contract.bodies import BODIES, EMPTY, ERRORS, Body, load, read

CALLS = {
    "create": session_calls.create_session(avatar=None, room=None, aspect_ratio="4:3", metadata=None),
    "get": session_calls.get_session("sess_1"),
    "list": session_calls.list_sessions(),
    "start": session_calls.start_session("sess_1"),
    "end": session_calls.end_session("sess_1"),
    "upload": account_calls.upload_face(b"GIF89a"),
    "avatars": account_calls.list_avatars(),
    "preview": account_calls.preview_avatar("avat_1"),
    "delete": account_calls.delete_avatar("avat_1"),
    "usage": account_calls.get_usage(),
    "agent": account_calls.get_agent("agnt_1"),
    "agents": account_calls.list_agents(),
    "link": account_calls.get_link("lnk_1"),
    "links": account_calls.list_links(),
    "link-start": account_calls.start_session_by_link("lnk_1", aspect_ratio="4:3"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
ANY_BODY = [*(body.name for body in BODIES), *EMPTY, *ERRORS]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key and index in a body, with what it is a place of."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


@st.composite
def mutated(draw: st.DrawFn, body: Any) -> Any:
    """A body after one to four changes."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 4))):
        spots = list(places(body))
        if not spots:
            break
        container, key = spots[draw(st.integers(0, len(spots) - 1))]
        match draw(st.sampled_from(["add", "remove", "rename", "retype"])):
            case "add" if isinstance(container, dict):
                container[draw(st.text(max_size=8))] = draw(JSON)
            case "remove":
                del container[key]
            case "rename" if isinstance(container, dict):
                container[draw(st.text(max_size=8))] = container.pop(key)
            case _:
                container[key] = draw(JSON)
    return body


def show(value: Any) -> None:
    """What a program does with a value must not fail either."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, BaseModel):
            repr(each)
            each.model_dump()


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)
@settings(max_examples=25)  # of each body
@given(data=st.data())
def test_strange_body_gives_a_value_or_our_error(body: Body, data: st.DataObject) -> None:
    """Each call reads its own documented answer, changed at random."""
    strange = data.draw(mutated(load(body.name)))
    with contextlib.suppress(AgentHumanError):
        show(read(body.call, strange))


@given(data=st.data(), call=st.sampled_from(sorted(CALLS)))
def test_any_call_reads_any_body(data: st.DataObject, call: str) -> None:
    """Answers that belong to another call, or to none, are a value or our error, too."""
    strange = data.draw(st.sampled_from(ANY_BODY).flatmap(lambda name: mutated(load(name))) | JSON)
    with contextlib.suppress(AgentHumanError):
        show(read(CALLS[call], strange))


@given(data=st.data(), status=st.integers(300, 599))
def test_strange_error_body_gives_our_error(data: st.DataObject, status: int) -> None:
    """A refusal stays one, whatever its body has become."""
    strange = data.draw(st.sampled_from(ERRORS).flatmap(lambda name: mutated(load(name))))
    with pytest.raises(APIStatusError) as caught:
        understand(Answer(status, {}, json.dumps(strange).encode()), lambda value: value, ())
    assert f"[HTTP {status}]" in str(caught.value)
    assert caught.value.status_code == status


@pytest.mark.parametrize("depth", [100, 400, 900, 5_000, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"error":', b"}")])
@pytest.mark.parametrize("status", [200, 500])
def test_deep_body_gives_our_error(depth: int, opened: bytes, closed: bytes, status: int) -> None:
    """A body that is nested deeper than Python can follow is unreadable, nothing worse."""
    with pytest.raises(AgentHumanError):
        understand(
            Answer(status, {}, opened * depth + b"1" + closed * depth),
            session_calls.get_session("sess_1").parse,
            (),
        )
