"""The stage on the whole emulator: rooms, an avatar that renders, and a link that is really sent over."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import media_interface
from agenthuman_plugins.emulator.voice import Voice
from agenthuman_plugins.langchain import AgentHumanToolkit, AvatarStage

LIMIT_S = 60.0  # hang limit
SHORT = "Hello there. You can interrupt me at any time."
LONG = f"{SHORT} I speak through an avatar, and I have much more to say than anybody would like to hear."

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(
        media_interface() is None,
        reason="no network interface besides loopback, which LiveKit clients do not use",
    ),
]


@pytest.fixture
async def emulator(a_room_server: str) -> AsyncIterator[Emulator]:
    async with Emulator(room_server=a_room_server, sweep=False, expiry=False) as emulator:
        await emulator.wait_ready()
        yield emulator


@pytest.fixture
async def toolkit(emulator: Emulator) -> AsyncIterator[AgentHumanToolkit]:
    where: Any = {"base_url": emulator.url, "gateway_url": emulator.gateway_url}
    async with AgentHumanToolkit(api_key=emulator.api_key, **where) as toolkit:
        yield toolkit


async def answer(events: AsyncIterator[Any], reply: str) -> AsyncIterator[Any]:
    """An agent and its voice: answers each turn with the same reply, spoken at 16 kHz."""
    async for event in events:
        yield event
        if event["type"] == "stt_output":
            yield {"type": "agent_chunk", "text": reply}
            async for pcm in Voice().stream(reply):
                yield {"type": "tts_chunk", "audio": pcm}
            yield {"type": "agent_end"}


class Microphone:
    """What the user says, when the test says it."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[Any] = asyncio.Queue()

    def say(self, *events: Any) -> None:
        for event in events:
            self._said.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (event := await self._said.get()) is not None:
            yield event


async def test_reply_and_barge_in(emulator: Emulator, toolkit: AgentHumanToolkit) -> None:
    """A reply is played to its end and told, the next one is interrupted, and the session is ended."""
    stage = AvatarStage(toolkit, sample_rate=16_000, thread_id="ada")
    microphone, out = Microphone(), []
    microphone.say({"type": "stt_output", "transcript": "Hi"})
    cut_at = 0.0
    async with asyncio.timeout(LIMIT_S), contextlib.aclosing(stage):
        async for event in stage(answer(stage.listen(microphone.__aiter__()), SHORT)):
            out.append(event)
            kinds = [event["type"] for event in out]
            if event["type"] == "avatar_finished" and kinds.count("avatar_finished") == 1:
                microphone.say({"type": "stt_output", "transcript": "And now?"})
            elif event["type"] == "avatar_text" and kinds.count("avatar_started") == 2 and not cut_at:
                cut_at = time.monotonic()
                microphone.say({"type": "stt_chunk", "transcript": "stop"})
            elif event["type"] == "avatar_finished":
                assert time.monotonic() - cut_at < 1.0
                microphone.say(None)
    first, second = [event for event in out if event["type"] == "avatar_finished"]
    assert (first["text"], first["interrupted"]) == (SHORT, False)
    assert second["interrupted"] is True
    assert SHORT.startswith(second["text"])
    assert second["text"] != SHORT
    [session] = emulator.sessions()
    assert session["ended_by"] == "caller"
    played = [event for event in session["timeline"] if event["event"] == "utterance_finished"]
    assert played[0]["position_s"] == pytest.approx(first["seconds"], abs=0.1)
    assert played[1]["position_s"] == pytest.approx(second["seconds"], abs=0.25)


# A real server keeps the place of a participant that is gone without a word for 20 s; what was being said is over then.
@pytest.mark.parametrize("a_room_server", ["embedded"])
async def test_avatar_that_crashes(emulator: Emulator, toolkit: AgentHumanToolkit) -> None:
    """The avatar's worker dies in the middle of a reply: the program gets the rest of it, and no session is left."""
    stage = AvatarStage(toolkit, sample_rate=16_000)
    microphone, out = Microphone(), []
    microphone.say({"type": "stt_output", "transcript": "Hi"})
    async with asyncio.timeout(LIMIT_S), contextlib.aclosing(stage):
        async for event in stage(answer(stage.listen(microphone.__aiter__()), LONG)):
            out.append(event)
            if event["type"] == "avatar_started":
                os.kill(emulator.sessions()[0]["avatar_pid"], signal.SIGKILL)
            if event["type"] == "avatar_disconnected":
                break
    assert "avatar_started" in [event["type"] for event in out]
    assert out[-1]["reason"]
    assert len(out[-1]["audio"]) > 16_000  # half a second at least: there were eight seconds to be said
    assert [session["status"] for session in emulator.sessions()] == ["ended"]
