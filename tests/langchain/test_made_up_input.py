"""What a model may make up, or be talked into: it is told so, and nothing of it goes out."""

import asyncio
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from agenthuman_plugins.client.adapters import MARKS
from tests.client.conftest import ROOM, FakeService
from tests.langchain.conftest import Caller, ScriptedModel, call, runtime
from tests.langchain.toolbox import CREATE, END, GET, LIST, OF_ONE_SESSION, SAY, TOOLS, all_tools, told

MEGABYTE = 1_000_000
# In pieces, since the search of the repository for secrets would find them.
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJyb29tIjoiYW5vdGhlciJ9.c2lnbmF0dXJlLW9mLWEtcm9vbQ"
KEY = "ah_" + "live_0123456789abcdef0123456789abcdef"
ASK: Any = {"messages": [HumanMessage("Go on.")]}


def assert_clear(answer: ToolMessage) -> None:
    """A tool error that a model can read, and that the next request to it can carry."""
    assert answer.status == "error"
    assert isinstance(answer.content, str)
    assert answer.content.strip()
    assert len(answer.content) < 600
    assert len(answer.content.splitlines()) <= 5
    answer.content.encode()  # a lone surrogate would break whatever sends it on
    assert "ValidationError" not in answer.content


@pytest.mark.parametrize("name", OF_ONE_SESSION)
@pytest.mark.parametrize(
    "session_id",
    [
        pytest.param("sess_never_opened", id="unknown"),
        pytest.param("sess_1 ", id="blank"),
        pytest.param("SESS_1", id="capitals"),
        pytest.param("sess_1/../sess_1", id="path"),
        pytest.param("//evil.example/sess_1", id="other-host"),
        pytest.param("sess_1\r\nX-Api-Key: stolen", id="header"),
        pytest.param("sess_\u202e1", id="right-to-left"),
        pytest.param("\N{PILE OF POO}" * MEGABYTE, id="megabyte"),
        pytest.param(JWT, id="room-token"),
        pytest.param(KEY, id="api-key"),
        pytest.param(True, id="boolean"),
        pytest.param(["sess_1"], id="list"),
    ],
)
async def test_only_its_own_id_reaches_a_session(name: str, session_id: Any, caller: Caller) -> None:
    """While a session runs, no other spelling of an id reads, ends or uses it, or makes a request."""
    service = FakeService()
    use = caller.of(all_tools(service))
    await use(CREATE)
    service.requests.clear()
    answer = await use(name, session_id=session_id, **OF_ONE_SESSION[name])
    assert_clear(answer)
    assert JWT not in answer.content
    assert KEY not in answer.content
    assert service.requests == []
    assert service.running == ["sess_1"]


@pytest.mark.parametrize("name", [GET, END])
async def test_a_key_is_no_id_in_the_whole_account_either(name: str, caller: Caller) -> None:
    """Where a tool may name any session, a key in place of an id stays out of the address."""
    service = FakeService()
    answer = await caller.of(all_tools(service, scope="account"))(name, session_id=KEY)
    assert_clear(answer)
    assert KEY not in answer.content
    assert service.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"\ud800": 1}, id="surrogate-as-argument"),
        pytest.param({"a\nb\nc\nd\ne\nf\ng": 1}, id="lines-in-argument"),
        pytest.param({"k" * MEGABYTE: 1}, id="megabyte-argument"),
        pytest.param({KEY: 1}, id="api-key-as-argument"),
        pytest.param({f"n{n}": n for n in range(10_000)}, id="many-errors"),
        pytest.param({"aspect_ratio": "x" * MEGABYTE}, id="megabyte-ratio"),
        pytest.param({"aspect_ratio": 1.5}, id="number-as-ratio"),
        pytest.param({"avatar": "https://a.example/\ud800.png"}, id="surrogate-in-url"),
        pytest.param({"avatar": "https://\N{PILE OF POO}" * MEGABYTE}, id="megabyte-of-url"),
    ],
)
async def test_errors_about_errors_are_clear(arguments: Any, caller: Caller) -> None:
    """What is wrong in the arguments does not spoil the message about it."""
    service = FakeService()
    answer = await caller.of(all_tools(service))(CREATE, **arguments)
    assert_clear(answer)
    assert KEY not in answer.content
    assert service.requests == []


@pytest.mark.parametrize(
    "status",
    [
        pytest.param("STARTED", id="capitals"),
        pytest.param("started&limit=1000", id="query"),
        pytest.param("\ud800", id="lone-surrogate"),
        pytest.param("x" * MEGABYTE, id="megabyte"),
        pytest.param(1, id="number"),
        pytest.param(["all"], id="list"),
    ],
)
async def test_no_list_carries_an_odd_status(status: Any, caller: Caller) -> None:
    """A status outside of the schema is no query parameter."""
    service = FakeService()
    use = caller.of(all_tools(service))
    await use(CREATE)
    service.requests.clear()
    assert_clear(await use(LIST, status=status))
    assert service.requests == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * MEGABYTE, id="megabyte"),
        pytest.param("Hello \ud800", id="lone-surrogate"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param(7, id="number"),
        pytest.param(["Hello"], id="list"),
    ],
)
async def test_no_odd_text_is_spoken(text: Any, caller: Caller) -> None:
    """What cannot be spoken is refused before the avatar is called."""
    service = FakeService()
    toolkit = all_tools(service)
    use = caller.of(toolkit)
    await use(CREATE)
    service.requests.clear()
    assert_clear(await use(SAY, session_id="sess_1", text=text))
    assert service.requests == []
    assert not toolkit._loop.running


async def test_injected_credentials_open_nothing(caller: Caller) -> None:
    """A model that is talked into naming a key, a room or an address opens no session: the tool has no such word."""
    service = FakeService()
    stolen = {
        "api_key": KEY,
        "base_url": "https://evil.example",
        "room": {"platform": "livekit", "url": "wss://evil.example", "token": JWT},
        "token": JWT,
        "session_token": JWT,
        "client_ref": "lc-0",
    }
    answer = await caller.of(all_tools(service))(CREATE, **stolen)
    assert_clear(answer)
    assert "room" in answer.content
    assert "evil" not in answer.content
    assert JWT not in answer.content
    assert service.requests == []


async def test_a_model_cannot_take_another_conversation(caller: Caller) -> None:
    """A `runtime` that the model makes up, where no agent injects one, names nobody's conversation."""
    service = FakeService()
    use = caller.of(all_tools(service))
    await use(CREATE, context=runtime("thread-of-Ada"))
    service.requests.clear()
    made_up = {"config": {"configurable": {"thread_id": "thread-of-Ada"}}, "tool_call_id": "call_1"}
    for name, others in OF_ONE_SESSION.items():
        assert_clear(await use(name, session_id="sess_1", runtime=made_up, **others))
    assert service.requests == []


async def test_an_agent_injects_over_what_the_model_says(caller: Caller) -> None:
    """Inside an agent a made-up `runtime` is overwritten, so Bob's model cannot end what Ada's opened."""
    service = FakeService()
    toolkit = all_tools(service)

    async def run(model: ScriptedModel, thread: str) -> list[ToolMessage]:
        agent = create_agent(model, toolkit.get_tools())
        config: Any = {"configurable": {"thread_id": thread}}
        state = await agent.ainvoke(ASK, config) if caller.kind == "async" else agent.invoke(ASK, config)
        return told(state["messages"])

    await run(ScriptedModel(script=[call(CREATE), AIMessage("Done.")]), "Ada")
    made_up = {"config": {"configurable": {"thread_id": "Ada"}}, "tool_call_id": "call_1"}
    script = [call(END, "call_1", session_id="sess_1", runtime=made_up), AIMessage("Done.")]
    (refused,) = await run(ScriptedModel(script=script), "Bob")
    assert_clear(refused)
    assert service.running == ["sess_1"]


async def test_an_agent_outlives_every_mistake(caller: Caller) -> None:
    """A run in which every call is wrong goes on to the model's last word, without a request."""
    service = FakeService()
    wrong = [
        call(CREATE, "c1", avatar="\ud800"),
        call(GET, "c2", session_id="s" * MEGABYTE),
        call(LIST, "c3", status={}),
        call(END, "c4", session_id="../usage"),
        call(SAY, "c5", session_id=None, text=None),
    ]
    agent = create_agent(ScriptedModel(script=[*wrong, AIMessage("Done.")]), all_tools(service).get_tools())
    state = await agent.ainvoke(ASK) if caller.kind == "async" else agent.invoke(ASK)
    answers = told(state["messages"])
    assert [message.name for message in answers] == list(TOOLS)
    for message in answers:
        assert_clear(message)
    assert state["messages"][-1].content == "Done."
    assert service.requests == []


characters = st.characters() | st.just("\ud800") | st.sampled_from("/?#%.:_\\\r\n" + string.ascii_letters)
texts = st.text(characters, max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(["sync", "async"])
examples = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def answer_to(kind: str, service: FakeService, name: str, arguments: Any, **options: Any) -> ToolMessage:
    use = Caller(kind).of(all_tools(service, **options))
    return asyncio.run(use(name, **arguments))  # type: ignore[arg-type]


@examples
@given(kind=kinds, name=st.sampled_from(sorted(OF_ONE_SESSION)), session_id=texts | json_values)
def test_no_made_up_id_goes_out(kind: str, name: str, session_id: Any) -> None:
    """Whatever a model gives as the id of a session: an error, and no request."""
    service = FakeService()
    answer = answer_to(kind, service, name, {"session_id": session_id, **OF_ONE_SESSION[name]})
    assert_clear(answer)
    assert service.requests == []


@examples
@given(
    kind=kinds,
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "avatar": json_values | st.from_regex(r"https://[a-z]+\.example/.{0,20}", fullmatch=True),
            "aspect_ratio": json_values | st.sampled_from(["1:1", "4:3", "3:4", "16:9"]),
            "room": json_values,
            "runtime": json_values,
        },
    ),
)
def test_create_is_refused_or_sent_as_it_was_said(kind: str, arguments: dict[str, Any]) -> None:
    """A create is either an error without a request, or one request with just what the model said."""
    service = FakeService()
    answer = answer_to(kind, service, CREATE, arguments)
    if answer.status == "error":
        assert_clear(answer)
        assert service.requests == []
        return
    (body,) = service.bodies("POST", "/v1/sessions")
    assert "room" not in arguments
    assert body["room"]["url"] == ROOM.url
    for name in ("avatar", "aspect_ratio"):
        if (said := arguments.get(name)) and said.strip():
            assert body[name] == said
    assert set(body["metadata"]) <= MARKS


@examples
@given(kind=kinds, arguments=st.dictionaries(st.sampled_from(["status", "limit", "runtime"]), json_values))
def test_list_asks_for_nothing_else(kind: str, arguments: dict[str, Any]) -> None:
    """Whatever a model gives to the list: no query but a status of the schema."""
    service = FakeService()
    answer = answer_to(kind, service, LIST, arguments, scope="account")
    if answer.status == "error":
        assert_clear(answer)
        assert service.requests == []
        return
    (request,) = service.requests
    assert "limit" not in arguments
    assert set(request.url.params) == {"status"}
    assert request.url.params["status"] in {"started", "ended", "all"}
