"""LangChain's voice agent with `AvatarStage` last, beside a stage that plays the sound itself, over the local chain.

Both get the same agent, which writes for two seconds and reads nothing meanwhile, and a voice of 0.3 s a word, which is
faster than a voice is taken to read before it has shown its pace, and which makes its speech faster than it is heard. The other stage stands for a player in the browser, as in LangChain's sample: it
passes everything on, plays what came in its own time, and stops when the user's words come to it. What it leaves out:
the browser's own buffers, which both have, and speech-to-text. The avatar's silence is what it reports itself.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.graph.message import add_messages

from agenthuman_plugins.client import Session
from agenthuman_plugins.client.rooms import Room
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import AgentHumanToolkit, AvatarStage, heard_only
from agenthuman_plugins.speech import SpeechLink, speech_link
from benchmarks._row import Row

_WORDS = [f"word{number}" for number in range(20)]
_WORD_S = 0.3
_WRITES_S = 2.0  # in all
_HEARD_S = 1.4  # of the reply, when the user interrupts
_RUNS = 8
_LIMIT_S = 60.0

Event = dict[str, Any]


@dataclass
class Times:
    """When what happened, in seconds."""

    given: dict[int, float] = field(default_factory=dict)  # by event
    came: dict[int, float] = field(default_factory=dict)
    first_chunk: float = 0.0
    sent: list[float] = field(default_factory=list)
    cleared: list[float] = field(default_factory=list)
    spoke: float = 0.0  # the user
    silent: float = 0.0
    finished: Event | None = None


class Talk:
    """The stages before the last one, and the user."""

    def __init__(self, rate: int, *, timed: bool) -> None:
        self.times = Times()
        self.said: asyncio.Queue[Event | None] = asyncio.Queue()
        self._rate = rate
        self._timed = timed
        self._kept: list[Event] = []  # so that no id is used twice

    async def user(self) -> AsyncIterator[Event]:
        """What speech-to-text says."""
        while (event := await self.said.get()) is not None:
            yield event

    async def agent(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """Text and speech of a reply."""
        async for event in events:
            yield self._given(event)
            if event["type"] != "stt_output":
                continue
            for number, word in enumerate(_WORDS):
                yield self._given({"type": "agent_chunk", "text": f"{word} "})
                words = {"words": [(word, number * _WORD_S)]} if self._timed else {}
                chunk = {"type": "tts_chunk", "audio": b"\x00\x10" * round(_WORD_S * self._rate), **words}
                self.times.first_chunk = self.times.first_chunk or time.perf_counter()
                yield self._given(chunk)
                await asyncio.sleep(_WRITES_S / len(_WORDS))
            yield self._given({"type": "agent_end"})

    def came(self, event: Event) -> None:
        """Note that an event has come out."""
        self.times.came[id(event)] = time.perf_counter()

    def interrupt(self) -> None:
        """Let the user speak."""
        self.times.spoke = time.perf_counter()
        self.said.put_nowait({"type": "stt_chunk", "transcript": "wait"})

    def _given(self, event: Event) -> Event:
        self._kept.append(event)
        self.times.given[id(event)] = time.perf_counter()
        return event


class Player:
    """The other stage: plays in its own time what came, and stops when the user's words come."""

    def __init__(self, talk: Talk, rate: int) -> None:
        self._talk = talk
        self._rate = rate
        self._until = 0.0

    async def __call__(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """Pass events on and play."""
        async for event in events:
            if event["type"] == "tts_chunk":
                seconds = len(event["audio"]) / 2 / self._rate
                self._until = max(self._until, time.perf_counter()) + seconds
            elif event["type"] == "stt_chunk":
                self._talk.times.silent = min(time.perf_counter(), self._until)
            yield event


async def measure() -> list[Row]:
    async with Emulator(plan="explorer", sweep=False, expiry=False) as emulator:
        await emulator.wait_ready()
        ours = [await _with_avatar(emulator, 16_000, timed=True) for _ in range(_RUNS)]
        shared = [await _with_avatar(emulator, 16_000, timed=False) for _ in range(_RUNS)]
        resampled = [await _with_avatar(emulator, 24_000, timed=True) for _ in range(_RUNS // 2)]
    player = [await _with_player() for _ in range(_RUNS // 2)]
    return [
        Row("event held up by the avatar's stage, 16 kHz", [ms for times in ours for ms in _held_ms(times)]),
        Row("… 24 kHz, resampled", [ms for times in resampled for ms in _held_ms(times)]),
        Row("… by the player's stage", [ms for times in player for ms in _held_ms(times)]),
        Row("first speech on the wire after the first tts_chunk, 16 kHz", _first_ms(ours + shared)),
        Row("… 24 kHz, resampled", _first_ms(resampled)),
        Row(
            "stt_chunk to clear, while the model still writes",
            _since_ms(ours + shared, lambda t: t.cleared[0]),
        ),
        Row("stt_chunk to the avatar's silence", _since_ms(ours + shared, lambda t: t.silent)),
        Row("… to the player's silence", _since_ms(player, lambda t: t.silent)),
        Row("words in the history that were not heard, words timed", _not_heard(ours), "words"),
        Row("… by the share that was played", _not_heard(shared), "words"),
        Row("… with the player, whose history is never cut", _not_heard(player), "words"),
    ]


async def _with_avatar(emulator: Emulator, rate: int, *, timed: bool) -> Times:
    talk = Talk(rate, timed=timed)
    times = talk.times

    def make_link(session: Session, room: Room | None) -> SpeechLink:
        return _witnessed(speech_link(session, room=room, media=False), times)

    where: Any = {"api_key": emulator.api_key, "base_url": emulator.url}
    async with asyncio.timeout(_LIMIT_S), AgentHumanToolkit(**where) as toolkit:
        stage = AvatarStage(toolkit, sample_rate=rate, _make_link=make_link)
        async with contextlib.aclosing(stage):
            talk.said.put_nowait({"type": "user_input"})
            async for event in stage(talk.agent(stage.listen(talk.user()))):
                talk.came(event)
                match event["type"]:
                    case "avatar_connected":
                        talk.said.put_nowait({"type": "stt_output", "transcript": "Hi"})
                    case "avatar_started":
                        asyncio.get_running_loop().call_later(_HEARD_S, talk.interrupt)
                    case "avatar_finished":
                        times.silent, times.finished = time.perf_counter(), event
                    case "agent_end":
                        break
    return times


def _witnessed(link: SpeechLink, times: Times) -> SpeechLink:
    send, interrupt = link.send, link.interrupt

    async def noted_send(pcm: bytes) -> int:
        number = await send(pcm)
        times.sent.append(time.perf_counter())
        return number

    async def noted_interrupt() -> None:
        times.cleared.append(time.perf_counter())
        await interrupt()

    link.send, link.interrupt = noted_send, noted_interrupt  # type: ignore[method-assign]
    return link


async def _with_player() -> Times:
    talk = Talk(16_000, timed=False)
    talk.said.put_nowait({"type": "stt_output", "transcript": "Hi"})
    asyncio.get_running_loop().call_later(_HEARD_S, talk.interrupt)
    async with asyncio.timeout(_LIMIT_S):
        async for event in Player(talk, 16_000)(talk.agent(talk.user())):
            talk.came(event)
            if event["type"] == "stt_chunk":
                break
    return talk.times


def _held_ms(times: Times) -> list[float]:
    return [1000 * (times.came[key] - given) for key, given in times.given.items() if key in times.came]


def _first_ms(runs: list[Times]) -> list[float]:
    return [1000 * (times.sent[0] - times.first_chunk) for times in runs]


def _since_ms(runs: list[Times], of: Callable[[Times], float]) -> list[float]:
    return [1000 * (of(times) - times.spoke) for times in runs]


def _not_heard(runs: list[Times]) -> list[float]:
    """Words that the history has too many (or, below zero, too few) of those that had begun at the silence."""
    surplus = []
    for times in runs:
        history: list[BaseMessage] = [HumanMessage("Hi", id="h"), AIMessage(" ".join(_WORDS), id="a")]
        heard_s = times.silent - times.first_chunk
        if times.finished is not None:
            history = list(add_messages(history, heard_only(history, times.finished)))  # type: ignore[arg-type]
            heard_s = times.finished["seconds"]
        kept = sum(len(str(m.text).split()) for m in history if isinstance(m, AIMessage))
        surplus.append(float(kept - min(int(heard_s / _WORD_S) + 1, len(_WORDS))))
    return surplus
