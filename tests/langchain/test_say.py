"""Speaking through a session, over links in this process."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain_core.messages import ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, SpeechLinkError
from agenthuman_plugins.client.rooms import LiveKitRoom, Room
from agenthuman_plugins.langchain import AgentHumanToolkit, _line, _speech
from agenthuman_plugins.langchain._holding import Change
from agenthuman_plugins.langchain._ledger import Entry
from agenthuman_plugins.langchain._loop import LoopClosedError
from agenthuman_plugins.langchain._origin import Origin
from tests.client.conftest import ROOM, FakeService
from tests.langchain.conftest import own_threads
from tests.langchain.links import LIMIT_S, RATE, Link, tone

SAY = "agent_human_say"
SECRET = "sk-seeded0123456789abcdef"


class Stage:
    """A toolkit whose sessions are spoken through over links in this process."""

    def __init__(
        self, client: AgentHuman, async_client: AsyncAgentHuman, tts: Any, room: Room | None
    ) -> None:
        self.links: list[Link] = []
        self.made = threading.Condition()
        self.failures: list[Exception] = []
        self.toolkit = AgentHumanToolkit(client=client, async_client=async_client, room=room, tts=tts)
        self.toolkit._made.make_link = self._make_link
        self.tools = {tool.name: tool for tool in self.toolkit.get_tools()}

    def _make_link(self, entry: Entry, room: Room | None) -> Link:
        with self.made:
            self.links.append(Link(self.failures))
            self.made.notify_all()
        return self.links[-1]

    def link(self, number: int = 0) -> Link:
        """The link with this number, as soon as it speaks."""
        with self.made:
            assert self.made.wait_for(lambda: len(self.links) > number, LIMIT_S)
        assert self.links[number].heard.wait(LIMIT_S)
        return self.links[number]

    def open(self) -> str:
        self.tools["agent_human_create_session"].invoke({})
        return next(reversed(self.toolkit.sessions))

    def say(self, session_id: str, text: str = "Hello.") -> ToolMessage:
        return self.tools[SAY].invoke(_call(session_id, text))

    async def asay(self, session_id: str, text: str = "Hello.") -> ToolMessage:
        async with asyncio.timeout(LIMIT_S):
            return await self.tools[SAY].ainvoke(_call(session_id, text))


def _call(session_id: str, text: str) -> dict[str, Any]:
    return {
        "name": SAY,
        "args": {"session_id": session_id, "text": text},
        "id": "call_say",
        "type": "tool_call",
    }


Make = Callable[..., Stage]


@pytest.fixture
def stage(client: AgentHuman, async_client: AsyncAgentHuman) -> Iterator[Make]:
    stages: list[Stage] = []

    def make(tts: Any = lambda _: (tone(0.1), RATE), room: Room | None = None) -> Stage:
        stages.append(Stage(client, async_client, tts, room))
        return stages[-1]

    yield make
    for each in stages:
        each.toolkit._speech.close()
        each.toolkit._loop.close()


def voices() -> set[str]:
    """Threads of ours."""
    return {thread.name for thread in own_threads()}


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_text_is_played(native: bool, stage: Make) -> None:
    """Say returns when the avatar has played the speech, with its length, and keeps the link for the next call."""
    on = stage()
    session_id = on.open()
    for _ in range(2):
        message = await on.asay(session_id) if native else await asyncio.to_thread(on.say, session_id)
        assert (message.content, message.status) == ("Spoken: 0.1 s.", "success")
        assert message.artifact == {
            "session_id": session_id,
            "seconds": 0.1,
            "seconds_played": pytest.approx(0.1, abs=0.02),
            "complete": True,
        }
    assert on.links[0].sent == tone(0.1) * 2
    assert on.links[0].calls == ["connect", "end", "end"]
    assert len(on.links) == 1


async def test_async_say_does_not_block_the_loop(stage: Make) -> None:
    """Nothing of an async call blocks the agent's loop, the start of the thread and its end included."""
    on = stage()
    session_id = on.open()
    with blockbuster_ctx():
        assert (await on.asay(session_id)).status == "success"
        await on.toolkit._speech.aclose()
        await on.toolkit._loop.aclose()
    assert not voices()


async def test_speech_streams(stage: Make) -> None:
    """The first piece is with the avatar while the voice still makes the rest."""
    go_on = threading.Event()

    def tts(_: str) -> Iterator[bytes]:
        yield tone(0.1)
        assert go_on.wait(LIMIT_S)
        yield tone(0.1)

    tts.sample_rate = RATE  # type: ignore[attr-defined]
    on = stage(tts)
    saying = asyncio.ensure_future(on.asay(on.open()))
    await asyncio.to_thread(on.link)
    assert on.links[0].sent == tone(0.1)
    go_on.set()
    assert (await saying).content == "Spoken: 0.2 s."


async def test_async_voice_runs_on_the_agents_loop(stage: Make) -> None:
    """An async voice may use what belongs to the agent's loop."""
    seen: list[Any] = []

    async def tts(text: str) -> AsyncIterator[bytes]:
        seen.append(asyncio.get_running_loop())
        yield tone(0.1)

    tts.sample_rate = RATE  # type: ignore[attr-defined]
    on = stage(tts)
    session_id = on.open()
    await on.asay(session_id)
    assert seen == [asyncio.get_running_loop()]
    assert (await asyncio.to_thread(on.say, session_id)).status == "success"
    assert seen[1] is on.links[0].loop


async def test_calls_for_one_session_take_turns(stage: Make) -> None:
    """Texts of one session are spoken one after the other, in the order of the calls; sessions do not wait."""
    order: list[str] = []

    def tts(text: str) -> tuple[bytes, int]:
        order.append(text)
        return bytes([len(order), 0]) * round(RATE * 0.1), RATE

    on = stage(tts)
    one, other = on.open(), on.open()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        for text in ("a", "b", "c"):
            group.create_task(on.asay(one, text))
        group.create_task(on.asay(other, "x"))
    assert [text for text in order if text != "x"] == ["a", "b", "c"]
    assert order.index("x") < order.index("c")
    assert sorted(len(link.sent) for link in on.links) == [len(tone(0.1)), 3 * len(tone(0.1))]


async def test_busy_avatar_is_told(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose turn does not come is given up and told; the one that speaks is not disturbed."""
    monkeypatch.setattr(_line, "_TURN_LIMIT_S", 0.05)
    on = stage(lambda _: (tone(0.5), RATE))
    session_id = on.open()
    first = asyncio.ensure_future(on.asay(session_id))
    await asyncio.to_thread(on.link)
    second = await on.asay(session_id)
    assert second.status == "error"
    assert "still busy" in second.content
    assert (await first).content == "Spoken: 0.5 s."


async def test_cancelled_say_falls_silent(stage: Make) -> None:
    """When a cancelled call comes back the avatar is silent, and the link serves the next call."""
    on = stage(lambda text: (tone(30 if text == "long" else 0.1), RATE))
    session_id = on.open()
    saying = asyncio.ensure_future(on.asay(session_id, "long"))
    link = await asyncio.to_thread(on.link)
    saying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saying
    assert link.calls[-1] == "interrupt"
    assert await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(link.wait_playback(timeout_s=0), link.loop)  # type: ignore[arg-type]
    )
    assert (await on.asay(session_id)).content == "Spoken: 0.1 s."
    assert len(on.links) == 1


def test_interrupted_program_falls_silent(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a sync call interrupts the avatar before it comes out."""
    on = stage(lambda text: (tone(30 if text == "long" else 0.1), RATE))
    session_id = on.open()
    waiting = threading.Event()

    def interrupted(fs: Any, timeout: float | None = None) -> Any:
        if timeout is None and not waiting.is_set():
            waiting.set()
            on.link()
            raise KeyboardInterrupt
        return wait(fs, timeout)

    from agenthuman_plugins.langchain import _loop  # noqa: PLC0415

    wait = _loop.concurrent.futures.wait
    monkeypatch.setattr(_loop.concurrent.futures, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        on.say(session_id, "long")
    assert on.links[0].calls[-1] == "interrupt"
    assert on.say(session_id).content == "Spoken: 0.1 s."


async def test_end_cuts_speech_short(stage: Make, service: FakeService) -> None:
    """Ending a conversation while its avatar speaks ends both at once, and the say call tells how far it came."""
    on = stage(lambda _: (tone(30), RATE))
    session_id = on.open()
    saying = asyncio.ensure_future(on.asay(session_id))
    queued = asyncio.ensure_future(on.asay(session_id))
    await asyncio.to_thread(on.link)
    await on.toolkit.aend_sessions(None)
    message = await saying
    assert message.status == "success"
    assert message.content.startswith("Interrupted after 0.")
    assert message.content.endswith(" of 30.0 s.")
    assert message.artifact["complete"] is False
    assert "has been ended" in (await queued).content
    assert on.links[0].calls[-1] == "close"
    assert service.running == []


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_block_leaves_nothing_behind(native: bool, stage: Make, service: FakeService) -> None:
    """Leaving the block closes links before sessions are ended; no thread, no task and no session is left."""
    on = stage(lambda _: (tone(30), RATE))
    if native:
        async with on.toolkit:
            saying = asyncio.ensure_future(on.asay(on.open()))
            await asyncio.to_thread(on.link)
    else:
        with on.toolkit:
            saying = asyncio.ensure_future(asyncio.to_thread(on.say, on.open()))
            await asyncio.to_thread(on.link)
    assert (await saying).content.startswith("Interrupted")
    assert on.links[0].calls[-1] == "close"
    assert service.running == []
    assert not voices()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_failing_voice_is_told_and_nothing_is_half_said(
    stage: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A voice that fails in mid-speech is a tool error without secrets; the avatar stops, and the link stays."""
    caplog.set_level(logging.DEBUG)

    def tts(text: str) -> Iterator[bytes]:
        yield tone(5 if text == "fail" else 0.1)
        if text == "fail":
            raise ConnectionError(f"401 for key {SECRET}\nsecond line")

    tts.sample_rate = RATE  # type: ignore[attr-defined]
    on = stage(tts)
    session_id = on.open()
    message = await on.asay(session_id, "fail")
    assert message.status == "error"
    assert message.content.startswith("The text could not be turned into speech: 401 for key **********.")
    assert SECRET not in message.content + caplog.text
    assert on.links[0].calls[-1] == "interrupt"
    assert (await on.asay(session_id)).status == "success"


async def test_silent_voice_is_given_up(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice that hangs costs a limited time, is told, and does not keep the next call from its turn."""
    monkeypatch.setattr(_speech, "_PIECE_LIMIT_S", 0.05)
    hang = threading.Event()
    on = stage(lambda text: (text == "hang" and hang.wait(LIMIT_S), (tone(0.1), RATE))[1])
    session_id = on.open()
    message = await on.asay(session_id, "hang")
    assert message.status == "error"
    assert "nothing came for" in message.content
    monkeypatch.setattr(_speech, "_PIECE_LIMIT_S", LIMIT_S)
    assert (await on.asay(session_id)).status == "success"
    hang.set()


async def test_endless_voice_is_stopped(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice that never ends is stopped, not kept in memory."""
    monkeypatch.setattr(_line, "_LONGEST_S", 2.0)

    def tts(_: str) -> Iterator[bytes]:
        while True:
            yield tone(0.5)

    tts.sample_rate = RATE  # type: ignore[attr-defined]
    on = stage(tts)
    message = await on.asay(on.open())
    assert message.status == "error"
    assert "did not come to an end" in message.content
    assert len(on.links[0].sent) <= len(tone(3))


async def test_avatar_that_leaves_is_told(stage: Make) -> None:
    """The model learns how much was heard when the avatar left, and what to do."""
    on = stage(lambda _: (tone(30), RATE))
    saying = asyncio.ensure_future(on.asay(on.open()))
    (await asyncio.to_thread(on.link)).walk_off("The avatar left the room.")
    message = await saying
    assert message.status == "error"
    assert "of 30.0 s were heard. The avatar left the room." in message.content
    assert "Trying again once may help" in message.content


async def test_link_that_is_lost_in_mid_speech_is_told(stage: Make) -> None:
    """The model learns how much was heard when the connection was lost, and why."""
    on = stage(lambda _: (tone(30), RATE))
    saying = asyncio.ensure_future(on.asay(on.open()))
    await asyncio.to_thread((await asyncio.to_thread(on.link)).lose, "The room was lost")
    message = await saying
    assert message.status == "error"
    assert message.content.startswith("Only 0.")
    assert "of 30.0 s were heard. The room was lost. Trying again once may help" in message.content


async def test_speech_is_sent_little_sooner_than_it_is_played(stage: Make) -> None:
    """What is on its way cannot be called back, so a voice that is done at once is not sent at once."""
    on = stage(lambda _: (tone(30), RATE))
    saying = asyncio.ensure_future(on.asay(on.open()))
    link = await asyncio.to_thread(on.link)
    saying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saying
    assert len(link.sent) < len(tone(10))


async def test_lost_link_is_made_again(stage: Make, service: FakeService) -> None:
    """After a loss the next call asks whether the session runs, and connects anew."""
    on = stage()
    session_id = on.open()
    await on.asay(session_id)
    await asyncio.to_thread(on.links[0].lose, "The room was lost.")
    assert (await on.asay(session_id)).content == "Spoken: 0.1 s."
    assert service.log[-1] == f"GET /v1/sessions/{session_id}"
    assert on.links[0].calls[-1] == "close"
    assert on.links[1].sent == tone(0.1)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_session_that_ended_meanwhile_is_not_connected_to(
    native: bool, stage: Make, service: FakeService
) -> None:
    """A link that is lost because its session is over is not made again."""
    on = stage()
    session_id = on.open()
    await on.asay(session_id)
    await asyncio.to_thread(on.links[0].lose, "The room was lost.")
    service.sessions[session_id]["status"] = "ended"
    message = await on.asay(session_id) if native else await asyncio.to_thread(on.say, session_id)
    assert message.status == "error"
    assert "has ended, so nothing was spoken" in message.content
    assert len(on.links) == 1
    assert on.links[0].calls[-1] == "close"
    assert not on.toolkit._speech.has_link(session_id)
    assert on.toolkit.sessions[session_id].has_ended


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_end_of_a_conversation_closes_the_links_of_what_ended_before(
    native: bool, stage: Make, service: FakeService
) -> None:
    """A session that ended by itself leaves no connection behind in a program that serves for months."""
    on = stage()
    session_id = on.open()
    await on.asay(session_id)
    service.sessions[session_id]["status"] = "ended"
    await on.tools["agent_human_get_session"].ainvoke({"session_id": session_id})
    for _ in range(2):
        if native:
            await on.toolkit.aend_sessions(None)
        else:
            await asyncio.to_thread(on.toolkit.end_sessions, None)
    assert on.links[0].calls.count("close") == 1
    assert not on.toolkit._speech.has_link(session_id)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_end_of_a_session_while_the_block_closes_its_link(
    native: bool, stage: Make, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session is ended, without an error, when its link is closed by somebody else at the same time."""

    async def stopped_on_the_way(session_id: str) -> None:
        raise LoopClosedError

    on = stage()
    session_id = on.open()
    await on.asay(session_id)
    monkeypatch.setattr(on.toolkit._speech, "_hang_up", stopped_on_the_way)
    end = on.tools["agent_human_end_session"]
    if native:
        await end.ainvoke({"session_id": session_id})
    else:
        await asyncio.to_thread(end.invoke, {"session_id": session_id})
    assert service.running == []
    monkeypatch.undo()


async def test_session_without_tokens_is_not_tried_again(client: AgentHuman, service: FakeService) -> None:
    """A session that was found again cannot be spoken through; the model reads so, and is not sent in circles."""
    service.sessions["sess_7"] = {"session_id": "sess_7", "status": "started"}
    with AgentHumanToolkit(client=client, room=ROOM, tts=lambda _: (tone(0.1), RATE)) as toolkit:
        tools = {tool.name: tool for tool in toolkit.get_tools()}
        tools["agent_human_create_session"].invoke({})
        found = client.sessions.get("sess_7")
        room = LiveKitRoom(ROOM.url, ROOM.avatar_token)
        toolkit._ledger.add(Entry(found, "lc-1", Origin(), room=room), Change.OPENED)
        message = await asyncio.to_thread(tools[SAY].invoke, _call("sess_7", "Hello."))
    assert message.status == "error"
    assert "only the process that opened it can speak through it" in message.content
    assert "Do not retry" in message.content
    assert "session_token" not in message.content


async def test_voice_that_is_no_voice_is_told_as_one(stage: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A defect of the application's voice is logged, and the model is told that no retry helps."""
    on = stage(lambda _: (b"RIFF" + tone(0.1), RATE))
    message = await on.asay(on.open())
    assert message.status == "error"
    assert "a WAV file" in message.content
    assert "Do not retry" in message.content
    assert "a WAV file" in caplog.text


async def test_gateway_link_is_never_made_twice(stage: Make) -> None:
    """Over the gateway the end of a connection is the end of its session: the next call says so."""
    on = stage(room=LiveKitRoom(ROOM.url, ROOM.avatar_token))
    session_id = on.open()
    await on.asay(session_id)
    await asyncio.to_thread(on.links[0].lose, "The gateway closed the connection.")
    for _ in range(2):
        message = await on.asay(session_id)
        assert message.status == "error"
        assert "The gateway closed the connection. The session ended with its connection" in message.content
    assert len(on.links) == 1


async def test_failed_connection_is_told_and_tried_again_by_the_next_call(stage: Make) -> None:
    """A link that does not come about is closed and told; the next call tries anew."""
    on = stage()
    on.failures.append(SpeechLinkError("The avatar did not appear in the room within 20 s.", retryable=True))
    session_id = on.open()
    message = await on.asay(session_id)
    assert message.status == "error"
    assert message.content.startswith("The avatar did not appear in the room within 20 s.")
    assert on.links[0].calls == ["connect", "close"]
    assert (await on.asay(session_id)).status == "success"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "text is empty"),
        (" \n", "text is empty"),
        ("x" * 2_001, "at most 2000"),
        ("x" * 1_000_000, "at most 2000"),
        ("half \ud83d", "lone surrogate"),
    ],
    ids=["empty", "blank", "long", "megabyte", "surrogate"],
)
async def test_unspeakable_text_is_refused(text: str, told: str, stage: Make) -> None:
    """A text that cannot be spoken is told before the voice or the avatar is troubled."""
    on = stage(lambda _: pytest.fail("the voice was asked"))
    message = await on.asay(on.open(), text)
    assert message.status == "error"
    assert told in message.content
    assert len(message.content) < 200
    assert on.links == []


async def test_only_own_running_sessions_are_spoken_through(stage: Make) -> None:
    """A session of somebody else, of another thread, or one that has ended is refused without any connection."""
    on = stage()
    session_id = on.open()
    elsewhere: Any = {"configurable": {"thread_id": "other"}}
    for named, config in (("sess_9", None), (session_id, elsewhere), ("../../v1/usage", None)):
        message = await on.tools[SAY].ainvoke(_call(named, "Hello."), config)
        assert message.status == "error"
        assert "Nothing was done" in message.content
    await on.tools["agent_human_end_session"].ainvoke({"session_id": session_id})
    assert "has ended, so nothing was spoken" in (await on.asay(session_id)).content
    assert on.links == []


def test_threads_share_the_links(stage: Make) -> None:
    """Sync calls of many threads, as an agent's tool node makes them, take turns on one link."""
    on = stage()
    session_id = on.open()
    with ThreadPoolExecutor(4) as pool:
        contents = [message.content for message in pool.map(on.say, [session_id] * 4)]
    assert contents == ["Spoken: 0.1 s."] * 4
    assert len(on.links) == 1


async def test_links_outlive_the_agents_loop(stage: Make) -> None:
    """Each `asyncio.run` of a program has its own loop; the link of the session serves them all."""
    on = stage()
    session_id = on.open()
    for _ in range(2):
        message = await asyncio.to_thread(lambda: asyncio.run(on.asay(session_id)))
        assert message.status == "success"
    assert len(on.links) == 1


def test_say_costs_the_model_little(stage: Make) -> None:
    """The whole schema that a model reads stays under 1,200 characters, and names no runtime."""
    schema = json.dumps(convert_to_openai_tool(stage().tools[SAY]))
    assert len(schema) < 1_200
    assert "runtime" not in schema


def test_say_is_offered_with_a_voice_only(client: AgentHuman) -> None:
    """Without a voice there is no tool that speaks."""
    assert SAY not in {tool.name for tool in AgentHumanToolkit(client=client).get_tools()}
