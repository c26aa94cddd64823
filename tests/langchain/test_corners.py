"""Corners of whose session it is, of exactly once, and of what the application's own functions may do."""

import asyncio
import importlib
import itertools
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agenthuman_plugins.client import ConfigurationError, LiveKitRoom, Session
from agenthuman_plugins.langchain import AgentHumanToolkit, AvatarStage, SessionRequest
from agenthuman_plugins.langchain._holding import Holding
from tests.client.conftest import FakeService, Reply
from tests.langchain.conftest import Caller, CrashError, runtime
from tests.langchain.stage.talk import RATE, RecordingLink, Talk, said, tts
from tests.langchain.test_limits import Here
from tests.langchain.toolbox import CREATE, END, GET, LIST, SAY, all_tools, by_name
from tests.virtual_time import in_virtual_time

KEPT = object()  # a checkpointer

LIMIT_S = 30.0  # hang limit


@pytest.mark.parametrize("name", ["room", "metadata", "on_session"])
async def test_function_that_stops_an_iteration(name: str, caller: Caller, service: FakeService) -> None:
    """A pool of rooms that has run out fails the call on every Python; none waits for it forever."""

    def function(*_: Any) -> Any:
        return next(iter(()))

    use = caller.of(all_tools(service, **{name: function}))
    with pytest.raises(RuntimeError, match="StopIteration"):
        async with asyncio.timeout(LIMIT_S):
            await use(CREATE, context=runtime("ada"))
    assert not service.running


@pytest.mark.parametrize("wrong", [{"at": object()}, {"share": float("nan")}, {1: "one"}])
def test_metadata_that_is_no_json(wrong: Any, service: FakeService) -> None:
    """A dict that the service cannot take is refused when the toolkit is made."""
    with pytest.raises(ConfigurationError, match="metadata must be a JSON object"):
        all_tools(service, metadata=wrong)


async def test_metadata_is_the_same_for_every_session(caller: Caller, service: FakeService) -> None:
    """What a `room` function changes in the metadata of its request does not reach the next session."""

    def room(request: SessionRequest) -> None:
        request.metadata["tags"].append(request.thread_id)

    use = caller.of(all_tools(service, room=room, metadata={"tags": []}))
    for thread in ("ada", "bob"):
        await use(CREATE, context=runtime(thread))
    assert [session["metadata"]["tags"] for session in service.sessions.values()] == [["ada"], ["bob"]]


@pytest.mark.parametrize("name", ["room", "metadata", "on_session"])
async def test_function_whose_own_work_was_cancelled(name: str, service: FakeService) -> None:
    """What an application's function waited for may be cancelled: no session is left, and the call can be made again."""
    cancelled = [True]

    async def function(*_: Any) -> Any:
        if cancelled and cancelled.pop():
            raise asyncio.CancelledError
        return {} if name == "metadata" else None

    use = Caller("async").of(all_tools(service, **{name: function}))
    with pytest.raises(asyncio.CancelledError):
        await use(CREATE, context=runtime("ada"))
    assert not service.running
    assert (await use(CREATE, context=runtime("ada"))).status == "success"


async def test_room_of_another_session_is_not_spoken_in(
    caller: Caller, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """A `room` function that makes a new room each time is refused, and the session stays with whoever speaks there."""
    numbers = itertools.count()

    def room(_: SessionRequest) -> LiveKitRoom:
        name = f"room-{next(numbers)}"
        return LiveKitRoom.mint(
            "wss://rooms.example.com", "key", "s" * 32, name, agent_identity="agent-of-all-rooms"
        )

    first, second = (all_tools(service, room=room, namespace="shop") for _ in range(2))
    with first, second:
        await caller.of(first)(CREATE, context=runtime("ada"))
        answer = await caller.of(second)(
            SAY, context=runtime("ada", "call_2"), session_id="sess_1", text="Hello."
        )
        assert (answer.status, "only the process that opened it" in answer.content) == ("error", True)
        assert "request.room_name" in caplog.text
        assert (entry := second._ledger.get("sess_1")) is not None
        assert entry.holding is Holding.GUEST


async def test_empty_thread_id_is_none(caller: Caller, service: FakeService) -> None:
    """Calls with an empty `thread_id` are outside of any conversation, also for who ends their sessions."""
    toolkit = all_tools(service)
    await caller.of(toolkit)(CREATE, context=runtime(""))
    await (
        asyncio.to_thread(toolkit.end_sessions, "") if caller.kind == "sync" else toolkit.aend_sessions("")
    )
    assert service.ended == ["sess_1"]


async def test_other_words_under_the_same_call_id(caller: Caller, service: FakeService) -> None:
    """A node that asks its model twice may get one id for two texts: both are spoken, and a repetition is not."""
    spoken: list[str] = []

    def voice(text: str) -> tuple[bytes, int]:
        spoken.append(text)
        return bytes(3_200), RATE

    with all_tools(service, tts=voice) as toolkit:
        use = caller.of(toolkit)
        await use(CREATE, context=runtime("ada"))
        for text in ("Hello.", "How are you?", "Hello."):
            context = runtime("ada", "functions.say:0", task="agent:1")
            assert (await use(SAY, context=context, session_id="sess_1", text=text)).status == "success"
    assert spoken == ["Hello.", "How are you?"]


async def open_many(service: FakeService, caller: Caller) -> AgentHumanToolkit:
    """Another worker's 30 sessions, of which a list tells no metadata; the last one is the newest, and Ada's."""
    service.list_omits_metadata = True
    use = caller.of(all_tools(service, namespace="shop"))
    for number in range(1, 31):
        thread = "ada" if number == 30 else f"user-{number}"
        await use(CREATE, context=runtime(thread, checkpointer=KEPT))
        service.sessions[f"sess_{number}"]["started_at"] = f"2024-01-15T10:{number}:00Z"
    service.requests.clear()
    return all_tools(service, namespace="shop")


async def test_replay_among_many_sessions(caller: Caller, service: FakeService) -> None:
    """Where a list tells no metadata, the newest sessions are asked for first, so a replay finds its own."""
    toolkit = await open_many(service, caller)
    again = await caller.of(toolkit)(CREATE, context=runtime("ada", checkpointer=KEPT))
    assert "was opened by this call before" in again.content
    assert len(service.requests) == 1 + 20  # the list, and the limit of gets


async def test_sessions_that_could_not_be_checked_are_reported(
    caller: Caller, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """Who ends the sessions of a thread learns that some may go on; the next call looks at those."""
    toolkit = await open_many(service, caller)

    async def end(thread: str) -> None:
        if caller.kind == "sync":
            await asyncio.to_thread(toolkit.end_sessions, thread)
        else:
            await toolkit.aend_sessions(thread)

    with caplog.at_level(logging.WARNING):
        await end("user-1")
        assert "10 running sessions could not be checked" in caplog.text
        caplog.clear()
        await end("user-1")
    assert not caplog.text
    assert service.ended == ["sess_1"]


async def test_session_that_the_application_did_not_take(caller: Caller, service: FakeService) -> None:
    """If `on_session` fails and the end fails, too, the call that is made again ends that session and opens another."""
    announced: list[str] = []

    def invite(session: Session, _: SessionRequest) -> None:
        announced.append(session.session_id)
        if len(announced) == 1:
            service.faults.extend([Reply(503)] * 3)  # so that its end fails
            raise CrashError

    use = caller.of(all_tools(service, on_session=invite))
    with pytest.raises(CrashError):
        await use(CREATE, context=runtime("ada", checkpointer=KEPT))
    assert service.running == ["sess_1"]
    service.faults.clear()
    assert (await use(CREATE, context=runtime("ada", checkpointer=KEPT))).status == "success"
    assert (announced, service.running) == (["sess_1", "sess_2"], ["sess_2"])


async def test_bare_string_is_the_first_argument(caller: Caller, service: FakeService) -> None:
    """A program may call a tool with a string: it is the first argument, checked and read like any other."""
    tools = by_name(all_tools(service))

    async def use(name: str, argument: str) -> str:
        if caller.kind == "sync":
            return str(await asyncio.to_thread(tools[name].invoke, argument))
        return str(await tools[name].ainvoke(argument))

    await use(CREATE, "avat_of_ada")
    assert service.bodies("POST", "/v1/sessions")[0]["avatar"] == "avat_of_ada"
    assert (await use(GET, "sess_1")).startswith("Session sess_1 is running.")
    assert (await use(LIST, "")).startswith("1 running session")
    assert (await use(END, "sess_1")).startswith("Session sess_1 has ended")


@in_virtual_time
async def test_session_is_in_use_while_the_application_is_told(
    monkeypatch: pytest.MonkeyPatch, service: FakeService
) -> None:
    """`on_session` may wait for the user longer than `max_idle_secs`: the time counts from its end."""
    monkeypatch.setattr(AgentHumanToolkit.__private_attributes__["_loop"], "default_factory", Here)

    async def joined(*_: Any) -> None:
        await asyncio.sleep(100)

    use = Caller("async").of(all_tools(service, max_idle_secs=60, on_session=joined))
    assert "Note" not in (await use(CREATE, context=runtime("ada"))).content
    await asyncio.sleep(55)
    assert service.running == ["sess_1"]
    await asyncio.sleep(10)
    assert service.ended == ["sess_1"]


# --- AvatarStage


async def stage_of(toolkit: AgentHumanToolkit, events: AsyncIterator[Any]) -> list[str]:
    stage = AvatarStage(toolkit, sample_rate=RATE, thread_id="ada", _make_link=lambda *_: RecordingLink())
    return [event["type"] async for event in stage(events)]


@in_virtual_time
async def test_stage_that_speaks_is_not_idle(monkeypatch: pytest.MonkeyPatch, service: FakeService) -> None:
    """`max_idle_secs` ends no session while somebody speaks on the stage, and ends it when nobody does."""
    monkeypatch.setattr(AgentHumanToolkit.__private_attributes__["_loop"], "default_factory", Here)
    running: list[int] = []

    async def talk() -> AsyncIterator[Any]:
        yield tts(100.0)
        await asyncio.sleep(90)
        running.append(len(service.running))  # the avatar spoke
        for _ in range(5):
            await asyncio.sleep(50)
            yield said("Hello?")
        running.append(len(service.running))  # the user spoke
        await asyncio.sleep(70)
        running.append(len(service.running))

    await stage_of(all_tools(service, max_idle_secs=60), talk())
    assert running == [1, 1, 0]


@in_virtual_time
async def test_stage_without_an_avatar_since_its_room_was_cancelled() -> None:
    """A cancellation within the application's own functions costs the avatar: the program learns that it is to speak."""
    talk = Talk()
    talk.lender.problem = asyncio.CancelledError()  # type: ignore[assignment]
    async with talk:
        await talk.send(said("Hi"), tts(1.0))
        await talk.until_kind("avatar_disconnected")
        await talk.end()


@pytest.mark.parametrize("problem", [ConfigurationError("gateway_url"), ImportError("livekit")], ids=repr)
@in_virtual_time
async def test_stage_keeps_no_session_that_it_cannot_speak_through(problem: Exception) -> None:
    """Whatever keeps the link from being made, the session is not billed for the rest of the conversation."""
    talk = Talk()

    def make_link(*_: Any) -> RecordingLink:
        raise problem

    talk.stage._make_link = make_link
    async with talk:
        await talk.send(said("Hi"), tts(1.0))
        await talk.until_kind("avatar_disconnected")
        assert talk.lender.lent
        assert not talk.lender.running
        await talk.end()


# --- the voice agent's example


async def test_two_pages_at_once_are_one_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example lets one guest in at a time, also when a page is loaded twice."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    page = importlib.import_module("_voice_page")

    class Guest:
        def __init__(self, place: object) -> None:
            pass

        async def welcome(self, _: object) -> dict[str, str]:
            await asyncio.sleep(0)
            return {}

        async def aclose(self, _: str) -> None:
            pass

    async def offer(_: object) -> dict[str, str]:
        return {}

    guests: list[object] = []
    over = asyncio.Event()

    async def converse(guest: object) -> None:
        guests.append(guest)
        await over.wait()

    monkeypatch.setattr(page, "Guest", Guest)
    monkeypatch.setattr(page.web, "read_offer", offer)
    door = page.Door(converse, object)
    answers = await asyncio.gather(door.enter(None), door.enter(None))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(guests) == 1
    await door.aclose()
