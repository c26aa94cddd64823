"""Everything passes on, in order and unchanged, whatever the avatar does."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from agenthuman_plugins.client import ConfigurationError, SpeechLinkError
from agenthuman_plugins.langchain.stage import AvatarStage
from tests.langchain.stage.talk import END, RATE, FakeLender, Talk, pcm, said, text, tts
from tests.virtual_time import in_virtual_time

ODD: list[Any] = [
    {"type": "user_input", "audio": b"\x00" * 640},
    {"type": "tool_call", "id": "1", "name": "weather", "args": {}},
    {"type": "tool_result", "tool_call_id": "1", "name": "weather", "result": "sunny"},
    {"type": "something_else"},
    {"no": "type"},
    {"type": None},
    {"type": 7},
    "a plain text",
    b"bytes",
    None.__class__,
    17,
]


def passed(talk: Talk) -> list[Any]:
    return [
        event
        for event in talk.out
        if not (isinstance(event, dict) and str(event.get("type")).startswith("avatar_"))
    ]


@in_virtual_time
async def test_unknown_events_pass_untouched() -> None:
    """What the stage does not know passes: the same objects, in the same order."""
    async with Talk() as talk:
        talk.kinds = lambda **_: []  # type: ignore[method-assign]
        await talk.send(*ODD)
        await talk.end()
        assert all(a is b for a, b in zip(passed(talk), ODD, strict=True))


@pytest.mark.parametrize("fate", ["connects", "refused", "never comes", "lost"])
@in_virtual_time
async def test_order_is_kept(fate: str) -> None:
    """Events pass at once and in order while the avatar connects, speaks, is refused, never comes or is lost."""
    talk = Talk(links=[{"connect_delay_s": 30.0 if fate == "never comes" else 3.0}])
    if fate == "refused":
        talk.lender.problem = SpeechLinkError("no room")
    sent: list[Any] = []
    async with talk:
        for number in range(60):
            event = [said("Hi"), text(f"word {number} "), tts(0.2), {"type": "x", "n": number}][number % 4]
            sent.append(event)
            at = asyncio.get_running_loop().time()
            await talk.send(event)
            await talk.until(lambda: len(passed(talk)) == len(sent))
            assert asyncio.get_running_loop().time() == at
            await asyncio.sleep(0.5)
            if fate == "lost" and number == 20:
                talk.link.crash()
        assert all(a is b for a, b in zip(passed(talk), sent, strict=True))


@in_virtual_time
async def test_own_events_come_while_upstream_is_silent() -> None:
    """The avatar's events come out when they happen, with no event of upstream to carry them."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("One two three four."), tts(2.0), END)
        begin = asyncio.get_running_loop().time()
        await talk.until_kind("avatar_finished")
        assert asyncio.get_running_loop().time() - begin == pytest.approx(2.1, abs=0.2)
        assert len(talk.of("avatar_text")) >= 4


@in_virtual_time
async def test_upstream_is_not_read_ahead() -> None:
    """A reader that takes nothing holds upstream back, as in a chain of plain generators; own events are kept."""
    stage = Talk().stage
    read: list[int] = []

    async def upstream() -> Any:
        for number in range(100):
            read.append(number)
            yield tts(0.1)

    stream = stage(upstream())
    await anext(stream)
    await asyncio.sleep(10)
    assert len(read) <= 3
    kinds = [(await anext(stream))["type"] for _ in range(3)]
    assert "avatar_connected" in kinds
    await stream.aclose()


class Kind(StrEnum):
    SPEECH = "tts_chunk"


@dataclass
class Chunk:
    audio: bytes
    type: Any = "tts_chunk"


@pytest.mark.parametrize("event", [Chunk(pcm(0.5)), Chunk(pcm(0.5), Kind.SPEECH), Chunk(bytearray(pcm(0.5)))])
@in_virtual_time
async def test_events_may_be_objects(event: Chunk) -> None:
    """An event may be an object with a `type`, which may be an enum's."""
    talk = Talk()
    async with talk:
        await talk.upstream.put(event)
        await talk.upstream.put(None)
        assert talk._task is not None
        await talk._task
    assert bytes(talk.link.sent) == pcm(0.5)


@in_virtual_time
async def test_first_speech_leaves_at_once() -> None:
    """The first chunk is on the wire as soon as it came, with no time in between."""
    async with Talk() as talk:
        await talk.send({"type": "user_input"})
        await talk.until_kind("avatar_connected")
        await asyncio.sleep(5)
        at = asyncio.get_running_loop().time()
        await talk.send(tts(0.02))
        await talk.until_kind("avatar_started")
        assert talk.link.first_at == at


@in_virtual_time
async def test_speech_waits_for_the_avatar() -> None:
    """What is said while the avatar connects is spoken when it has, from its first word."""
    async with Talk(links=[{"connect_delay_s": 5.0}]) as talk:
        await talk.send(said("Hi"), text("Hello."), tts(1.0), tts(1.0), END)
        finished = await talk.until_kind("avatar_finished")
        assert finished["seconds"] == pytest.approx(2.0, abs=0.01)
        assert bytes(talk.link.sent) == pcm(2.0)


@pytest.mark.parametrize(
    ("audio", "said_of_it"),
    [
        pytest.param("AAAA", "not str", id="base64"),
        pytest.param([1, 2, 3], "not list", id="numbers"),
        pytest.param(None, "not NoneType", id="missing"),
        pytest.param(b"RIFF\x00\x00\x00\x00WAVEfmt ", "this is WAV", id="wav"),
        pytest.param(b"ID3\x04\x00", "this is MP3", id="mp3"),
    ],
)
@in_virtual_time
async def test_chunk_that_is_no_pcm(audio: Any, said_of_it: str) -> None:
    """Speech that is no PCM is a mistake in the program: the stream ends with one clear error, and no session."""
    talk = Talk()
    async with talk:
        await talk.send({"type": "tts_chunk", "audio": audio})
        with pytest.raises(ConfigurationError, match=said_of_it):
            await talk.until_kind("avatar_started")
    assert not talk.lender.running


@pytest.mark.parametrize("rate", [0, -16_000, 16, 16_000.0, "16000", None, True, 1_000_000])
def test_rate_that_is_none(rate: Any) -> None:
    """A sample rate that cannot be one is refused when the stage is made."""
    with pytest.raises(ConfigurationError, match="sample_rate must be"):
        AvatarStage(_lender=FakeLender(), sample_rate=rate)


def test_source_of_the_session() -> None:
    """A stage has exactly one source of its session, and says so."""
    with pytest.raises(ConfigurationError, match="either a toolkit or a session"):
        AvatarStage()


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("size", [1, 3, 441, 4_096, 99_999])
@in_virtual_time
async def test_no_sample_is_lost(rate: int, size: int) -> None:
    """All of a reply reaches the avatar at its own rate, however the chunks are cut, also inside a sample."""
    seconds = 0.02 if size < 10 else 1.0
    speech = pcm(seconds, rate)
    async with Talk(sample_rate=rate) as talk:
        for at in range(0, len(speech), size):
            await talk.send({"type": "tts_chunk", "audio": speech[at : at + size]})
        await talk.send(END)
        finished = await talk.until_kind("avatar_finished")
        assert len(talk.link.sent) // 2 == round(seconds * RATE)
        assert finished["seconds"] == pytest.approx(seconds, abs=0.001)
    if rate == RATE:
        assert bytes(talk.link.sent) == speech


@in_virtual_time
async def test_half_a_sample_of_an_interrupted_reply_is_forgotten() -> None:
    """The next reply does not begin with the byte that an interrupted one left over."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("Hello."), {"type": "tts_chunk", "audio": pcm(1.0) + b"\x7f"})
        await talk.until_kind("avatar_started")
        await talk.stage.interrupt()
        before = len(talk.link.sent)
        await talk.send(said("Hi"), text("Again."), tts(0.5), END)
        await talk.until_kind("avatar_finished", 2)
        assert bytes(talk.link.sent[before:]) == pcm(0.5)
