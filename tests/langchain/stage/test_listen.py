"""Barge-in: who is interrupted when, and what is spoken afterwards."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.langchain.stage.talk import END, RATE, Talk, partial, pcm, said, text, tts
from tests.virtual_time import in_virtual_time


class Agent:
    """An agent stage like the documented one: it reads nothing while it streams.

    Args:
        passes: Whether it passes on what it read.
        chunk_s: Seconds between two chunks of text, each with as much speech.
    """

    def __init__(self, talk: Talk, *, passes: bool = True, chunks: int = 10, chunk_s: float = 0.5) -> None:
        self._talk = talk
        self._passes = passes
        self._chunks = chunks
        self._chunk_s = chunk_s
        self.answered: list[str] = []
        self.heard: list[dict[str, Any] | None] = []

    async def __call__(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for event in events:
            if self._passes:
                yield event
            if event["type"] != "stt_output":
                continue
            self.heard.append(await self._talk.stage.heard())
            self.answered.append(event["transcript"])
            for number in range(self._chunks):
                yield text(f"{event['transcript']}{number} ")
                yield tts(self._chunk_s)
                await asyncio.sleep(self._chunk_s)
            yield END


class AgentTalk(Talk):
    """A conversation with an agent between `listen` and the stage."""

    def __init__(self, **agent: Any) -> None:
        super().__init__(listen=True)
        self.agent = Agent(self, **agent)
        listen = self.stage.listen

        self.stage.listen = lambda events: self.agent(listen(events))  # type: ignore[method-assign, assignment]


@in_virtual_time
async def test_listen_interrupts_while_the_agent_streams() -> None:
    """The avatar falls silent at the user's first word, long before the agent reads it."""
    async with AgentTalk() as talk:
        await talk.send(said("a"))
        await talk.until_kind("avatar_started")
        await asyncio.sleep(1.0)
        at = asyncio.get_running_loop().time()
        await talk.send(partial("wait"))
        finished = await talk.until_kind("avatar_finished")
        assert talk.link.clears == [at]
        assert talk.times[talk.out.index(finished)] - at < 0.3
        assert not talk.of("stt_chunk")  # the agent has not read it
        assert finished["text"].split() == ["a0", "a1"]


@pytest.mark.parametrize("passes", [True, False])
@in_virtual_time
async def test_next_turn_is_spoken(passes: bool) -> None:
    """After an interruption the next turn's reply is spoken, also if the agent keeps `stt_output` to itself."""
    async with AgentTalk(passes=passes, chunks=4) as talk:
        await talk.send(said("a"))
        await talk.until_kind("avatar_started")
        await talk.send(partial("b"), said("b"))
        finished = await talk.until_kind("avatar_finished", 2)
        assert (finished["text"], finished["interrupted"]) == ("b0 b1 b2 b3 ", False)
        await talk.send(said("c"))
        finished = await talk.until_kind("avatar_finished", 3)
        assert (finished["text"], finished["interrupted"]) == ("c0 c1 c2 c3 ", False)


@in_virtual_time
async def test_turn_that_was_spoken_over_is_not_spoken() -> None:
    """When the user speaks again before the agent has taken a turn, its reply is passed on and not spoken."""
    async with AgentTalk(chunks=6) as talk:
        await talk.send(said("a"))
        await talk.until_kind("avatar_started")
        await asyncio.sleep(0.7)
        await talk.send(said("b"), said("c"))
        finished = await talk.until_kind("avatar_finished", 3)
        assert talk.agent.answered == ["a", "b", "c"]
        assert finished["text"] == "c0 c1 c2 c3 c4 c5 "
        assert [event["interrupted"] for event in talk.of("avatar_finished")] == [True, True, False]
        assert talk.of("avatar_finished")[1]["text"] == ""
        assert len(talk.of("avatar_started")) == 2
        # The agent learns before each turn what was heard of the one before.
        texts = [event and event["text"] for event in talk.agent.heard]
        assert texts[0] is None
        assert texts[1] == "a0"
        assert texts[2] == ""


@in_virtual_time
async def test_user_speaks_while_the_agent_thinks() -> None:
    """A reply of which nothing was spoken yet is dropped when the user goes on speaking."""
    async with Talk(listen=True) as talk:
        await talk.send({"type": "user_input"}, said("What is"))
        await talk.until_kind("avatar_connected")
        await talk.send(partial("the time"))
        finished = await talk.until_kind("avatar_finished")
        assert (finished["text"], finished["seconds"], finished["interrupted"]) == ("", 0.0, True)
        await talk.send(text("What is what?"), tts(1.0), END)
        await asyncio.sleep(3)
        assert talk.link.first_at is None
        assert talk.link.clears == []


@pytest.mark.parametrize("nothing", ["", "  \n"])
@pytest.mark.parametrize("listen", [True, False])
@in_virtual_time
async def test_empty_transcript_is_no_speech(nothing: str, listen: bool) -> None:
    """A partial transcript without a word interrupts nothing."""
    async with Talk(listen=listen) as talk:
        await talk.send(said("Hi"), text("Hello."), tts(1.0), END, partial(nothing))
        finished = await talk.until_kind("avatar_finished")
        assert finished["interrupted"] is False


@pytest.mark.parametrize("listen", [True, False])
@in_virtual_time
async def test_final_transcript_alone_interrupts(listen: bool) -> None:
    """A speech-to-text without partial transcripts interrupts by its `stt_output`, whose reply is spoken."""
    async with Talk(listen=listen) as talk:
        await talk.send(said("Hi"), text("Hello, you."), tts(2.0))
        await talk.until_kind("avatar_started")
        await talk.send(said("Stop"), text("Fine."), tts(0.5), END)
        await talk.until_kind("avatar_finished", 2)
        assert [event["text"] for event in talk.of("avatar_finished")][1] == "Fine."
        assert len(talk.link.clears) == 1


@in_virtual_time
async def test_without_agent_chunks_the_turn_opens_the_reply() -> None:
    """Where no `agent_chunk` comes by, the first speech after the next `stt_output` is spoken."""
    async with Talk() as talk:
        await talk.send(said("Hi"), tts(2.0))
        await talk.until_kind("avatar_started")
        await talk.send(partial("no"), tts(1.0), said("no"), tts(0.5), END)
        finished = await talk.until_kind("avatar_finished", 2)
        assert finished["seconds"] == pytest.approx(0.5, abs=0.01)


@in_virtual_time
async def test_interrupt_by_the_program() -> None:
    """`interrupt()` returns when the avatar is silent, and does nothing twice or without a stream."""
    talk = Talk()
    await talk.stage.interrupt()
    async with talk:
        await talk.send(said("Hi"), text("Hello."), tts(3.0))
        await talk.until_kind("avatar_started")
        await talk.stage.interrupt()
        await talk.stage.interrupt()
        assert len(talk.link.clears) == 1
        await talk.until_kind("avatar_finished")
        heard = await talk.stage.heard()
        assert heard is talk.of("avatar_finished")[0]
        assert await talk.stage.heard() is None


@in_virtual_time
async def test_interruption_while_the_avatar_connects() -> None:
    """What waits for the avatar is dropped with the reply: it is never spoken late."""
    async with Talk(links=[{"connect_delay_s": 3.0}]) as talk:
        await talk.send(said("Hi"), text("Hello."), tts(3.0))
        await asyncio.sleep(1)
        await talk.send(partial("wait"))
        finished = await talk.until_kind("avatar_finished")
        assert (finished["text"], finished["interrupted"]) == ("", True)
        await talk.until_kind("avatar_connected")
        await talk.send(said("wait"), text("Yes?"), tts(0.5), END)
        await talk.until_kind("avatar_finished", 2)
        assert len(talk.link.sent) == len(pcm(0.5))


@in_virtual_time
async def test_reply_that_goes_on_after_a_tool() -> None:
    """A reply that pauses for a tool is one reply: its text and seconds go on, and an interruption drops the rest."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("Let me look. "), tts(1.0))
        first = await talk.until_kind("avatar_finished")
        assert (first["text"], first["interrupted"]) == ("Let me look. ", False)
        await asyncio.sleep(5)
        await talk.send(text("It is sunny."), tts(1.0), END)
        second = await talk.until_kind("avatar_finished", 2)
        assert second["text"] == "Let me look. It is sunny."
        assert second["seconds"] == pytest.approx(2.0, abs=0.01)


@in_virtual_time
async def test_interruption_during_a_tool() -> None:
    """The user speaks while a tool runs: what comes after it is not spoken, and the history hears of it."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("Let me look. "), tts(1.0))
        await talk.until_kind("avatar_finished")
        await talk.send(partial("never mind"), text("It is sunny."), tts(1.0), END)
        finished = await talk.until_kind("avatar_finished", 2)
        assert (finished["text"], finished["interrupted"]) == ("Let me look. ", True)
        await asyncio.sleep(3)
        assert len(talk.link.sent) == 2 * RATE


@in_virtual_time
async def test_late_speech_of_a_dropped_reply() -> None:
    """A voice that goes on long after the agent's end is not heard again; what the agent writes next is."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("One. Two."), tts(2.0), END)
        await talk.until_kind("avatar_started")
        await talk.send(partial("no"))
        await asyncio.sleep(2)
        before = len(talk.link.sent)
        await talk.send(tts(1.0))
        await asyncio.sleep(2)
        assert len(talk.link.sent) == before
        await talk.send(text("Reminder."), tts(0.5), END)
        assert (await talk.until_kind("avatar_finished", 2))["text"] == "Reminder."


@in_virtual_time
async def test_end_of_the_reply_before_is_none_of_a_stale_turn() -> None:
    """`agent_end` right before a turn that the user has spoken over does not open that turn's reply."""
    async with AgentTalk(chunks=3, chunk_s=0.7) as talk:
        await talk.send(said("a"))
        await talk.until_kind("avatar_started")
        await talk.send(said("b"), said("c"))
        finished = await talk.until_kind("avatar_finished", 3)
        assert [event["text"] for event in talk.of("avatar_finished")][1] == ""
        assert finished["text"] == "c0 c1 c2 "


@in_virtual_time
async def test_turn_that_is_late_behind_the_agent() -> None:
    """A greeting that is still on its way when the agent takes the first turn makes no turn of its own."""
    async with Talk(listen=True) as talk:
        stage = talk.stage
        await talk.send({"type": "user_input"})
        await talk.until_kind("avatar_connected")
        assert stage._stream is not None
        stage._stream.handed_out()
        await talk.send(text("Hello."), tts(0.5), END)
        await talk.until_kind("avatar_finished")
        await talk.send(said("Hi"))
        await talk.until_kind("stt_output")
        assert stage._stream._turns == 1
        assert not stage._stream._agent_swallows_turns
        await talk.send(text("Yes?"), tts(0.5), END)
        assert (await talk.until_kind("avatar_finished", 2))["text"] == "Yes?"


@in_virtual_time
async def test_listen_passes_on_and_fails_like_its_source() -> None:
    """`listen` alone is a plain pass-through: same objects, same order, the same error at the end."""
    stage = Talk().stage
    events = [said("a"), {"type": "x"}, "b"]

    async def source() -> AsyncIterator[Any]:
        for event in events:
            yield event
        raise ValueError("of the source")

    heard = stage.listen(source())
    assert [await anext(heard) for _ in events] == events
    with pytest.raises(ValueError, match="of the source"):
        await anext(heard)


@in_virtual_time
async def test_speech_without_a_turn() -> None:
    """What the agent says unasked is a reply of its own."""
    async with Talk() as talk:
        for words in ("Good morning.", "It is nine."):
            await talk.send(text(words), tts(1.0), END)
            await asyncio.sleep(5)
        assert [event["text"] for event in talk.of("avatar_finished")] == ["Good morning.", "It is nine."]
