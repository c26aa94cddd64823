"""A bot that talks on while its sessions reach their limit, or its avatar is changed: `python -m benchmarks renewal`.

The whole local chain: emulator, room server and avatars as processes. In each turn of a few seconds a long reply is
interrupted and a short one is said whole. Each word is a tone of its own, so that a lost or doubled one shows.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from loguru import logger
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection
from rich.console import Console
from rich.table import Table

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.emulator.process import Child
from agenthuman_plugins.pipecat import (
    AgentHumanVideoService,
    AgentHumanVideoSettings,
    AgentHumanVideoUpdateSettingsFrame,
)
from benchmarks import _results
from benchmarks._bot import LIMIT_S, Errors, running
from tests.pipecat.bot import speech
from tests.pipecat.faults.ear import Ear
from tests.pipecat.faults.words import WORD_S, heard, spoken

_TURN_S = 7.0
_FOR_THE_SHORT_S = 2.5  # of a turn; the long reply is cut then
_LONG, _SHORT = 40, 8  # words
_STUCK_S = 5.0  # a reply that does not begin, or does not end, for so long
_SIZE = (320, 240)
AVATARS = (DEFAULT_AVATAR, "avat_01KMZHXFPBVCXA5ATK85HCP8G1")


@dataclass(frozen=True)
class Case:
    """What happens to the bot.

    Attributes:
        name: For the table.
        slots: Sessions that the account may have at the same time.
        session_s: How long one lasts; `None`: as long as the bot wants.
        change_every_s: How often the avatar is changed; `None`: never.
        seconds: How long the bot talks.
        turn_s: How long it takes to say a long reply up to its interruption, and a short one.
    """

    name: str
    slots: int
    session_s: int | None = None
    change_every_s: float | None = None
    seconds: float = 180.0
    turn_s: float = _TURN_S


@dataclass
class Outcome:
    """What became of the talk.

    Attributes:
        replies: How many were said.
        words: How many words were heard.
        wrong: Words that were lost or doubled, by reply.
        voice_hole_s: The longest time without a voice in the middle of a reply.
        slowest_s: The longest wait for the first word of a reply.
        picture_hole_s: The longest time without a new picture.
        stuck: Replies that did not begin or end in time.
        errors: What the application was told.
        changed: Avatars that took the place of another one, as told.
        avatars: Avatar of each session, in order.
        ended_by: Who ended each of them.
        most_at_once: Sessions that ran at the same time.
        left: Sessions that nobody ended.
    """

    replies: int = 0
    words: int = 0
    wrong: dict[str, list[int]] = field(default_factory=dict)
    voice_hole_s: float = 0.0
    slowest_s: float = 0.0
    picture_hole_s: float = 0.0
    stuck: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    avatars: list[str] = field(default_factory=list)
    ended_by: list[str] = field(default_factory=list)
    most_at_once: int = 0
    left: int = 0


CASES = [
    Case("for comparison: one session, one avatar", slots=1, seconds=60.0),
    Case("sessions of 30 s, one slot", slots=1, session_s=30),
    Case("sessions of 30 s, two slots", slots=2, session_s=30),
    Case("another avatar every 20 s, one slot", slots=1, change_every_s=20.0, seconds=90.0),
    Case("another avatar every 20 s, two slots", slots=2, change_every_s=20.0, seconds=90.0),
]


class _Witness(Ear):
    """Hears words, and sees when pictures come."""

    def __init__(self) -> None:
        super().__init__()
        self.picture_hole_s = 0.0
        self.pictured_at: float | None = None
        self.stopped: set[str | None] = set()
        self.voiced: dict[str, float] = {}
        self._news = asyncio.Condition()

    async def until(self, condition: Callable[[], object], limit_s: float) -> bool:
        """Wait for what frames tell; `False` if it takes too long."""
        try:
            async with asyncio.timeout(limit_s), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            return False
        return True

    def look(self) -> None:
        """Note how long the picture has been standing."""
        now = time.monotonic()
        self.picture_hole_s = max(self.picture_hole_s, now - (self.pictured_at or now))

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            self.look()
            self.pictured_at = time.monotonic()
            return
        async with self._news:
            if isinstance(frame, TTSStoppedFrame):
                self.stopped.add(frame.context_id)
            if self._context_id is not None:
                self.voiced.setdefault(self._context_id, time.monotonic())
            self._news.notify_all()


class _Talk:
    """Says replies, interrupts each other one, and judges what was heard of each."""

    def __init__(self, worker: PipelineWorker, witness: _Witness, outcome: Outcome) -> None:
        self._worker = worker
        self._witness = witness
        self._outcome = outcome

    async def run(self, seconds: float, turn_s: float) -> None:
        began, turn = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            turn += 1
            turn_ends = began + turn * turn_s
            reply = await self._say(_LONG)
            await asyncio.sleep(turn_ends - _FOR_THE_SHORT_S - time.monotonic())
            self._witness.expect_voice(reply)
            await self._worker.queue_frame(InterruptionFrame())
            await self._stop(reply, _STUCK_S)
            self._judge(reply, at_least=0)
            reply = await self._say(_SHORT)
            await self._stop(reply, _STUCK_S + _SHORT * WORD_S)
            self._judge(reply, at_least=_SHORT)
            await asyncio.sleep(turn_ends - time.monotonic())

    async def _say(self, words: int) -> str:
        self._outcome.replies += 1
        reply = f"reply-{self._outcome.replies}"
        said_at = time.monotonic()
        await self._worker.queue_frames(
            [
                TTSStartedFrame(context_id=reply),
                *speech(spoken(words), reply),
                TTSStoppedFrame(context_id=reply),
            ]
        )
        if await self._witness.until(lambda: reply in self._witness.voiced, _STUCK_S):
            self._outcome.slowest_s = max(self._outcome.slowest_s, self._witness.voiced[reply] - said_at)
        else:
            self._outcome.stuck.append(f"{reply} does not begin")
        return reply

    async def _stop(self, reply: str, limit_s: float) -> None:
        if not await self._witness.until(lambda: reply in self._witness.stopped, limit_s):
            self._outcome.stuck.append(f"{reply} does not end")

    def _judge(self, reply: str, *, at_least: int) -> None:
        words = [word for word, _ in heard(self._witness.voice(reply))]
        count = Counter(words)
        expected = range(max([at_least - 1, *words]) + 1)
        wrong = [word for word in expected if count[word] != 1]
        if wrong or words != sorted(words):
            self._outcome.wrong[reply] = wrong or words
        self._outcome.words += len(words)


async def talk(case: Case, *, room_server: str = "auto") -> Outcome:
    """Let a bot talk, and judge."""
    outcome, witness, errors = Outcome(), _Witness(), Errors()
    options: dict[str, Any] = {
        "slots": case.slots,
        "expiry": case.session_s is not None,
        "session_limit_s": case.session_s,
        "sweep": False,
        "video_size": _SIZE,
        "room_server": room_server,
    }
    emulator = await Child.start("agenthuman_plugins.emulator", options, timeout_s=LIMIT_S)
    url, api_key = emulator.ready["url"], emulator.ready["api_key"]
    try:
        async with AsyncAgentHuman(api_key=api_key, base_url=url) as client:
            service = AgentHumanVideoService(client=client, avatar=AVATARS[0])

            @service.event_handler("on_avatar_changed")
            async def on_changed(_: object, avatar: str) -> None:
                outcome.changed.append(avatar)

            async with running(errors, service, witness) as worker:
                changing = asyncio.create_task(_change(worker, case.change_every_s))
                await _Talk(worker, witness, outcome).run(case.seconds, case.turn_s)
                changing.cancel()
                witness.look()
        async with httpx.AsyncClient(headers={"x-api-key": api_key}, trust_env=False) as http:
            sessions = (await http.get(f"{url}/emulator/sessions")).json()["sessions"][::-1]
    finally:
        await emulator.stop()
    outcome.voice_hole_s, outcome.picture_hole_s = witness.gap_s, witness.picture_hole_s
    outcome.errors = errors.seen
    outcome.avatars = [session["avatar"] for session in sessions]
    outcome.ended_by = [session["ended_by"] for session in sessions]
    outcome.most_at_once = _most_at_once(sessions)
    outcome.left = sum(session["ended_at"] is None for session in sessions)
    return outcome


async def _change(worker: PipelineWorker, every_s: float | None) -> None:
    number = 0
    while every_s is not None:
        await asyncio.sleep(every_s)
        number += 1
        delta = AgentHumanVideoSettings(avatar=AVATARS[number % 2])
        await worker.queue_frame(AgentHumanVideoUpdateSettingsFrame(delta=delta))


def _most_at_once(sessions: list[dict[str, Any]]) -> int:
    """By the emulator's record."""
    steps = {"created": 1, "ended": -1}
    events = [event for session in sessions for event in session["timeline"] if event["event"] in steps]
    running = most = 0
    for event in sorted(events, key=lambda event: str(event["at"])):
        running += steps[event["event"]]
        most = max(most, running)
    return most


async def report(console: Console) -> None:
    """Measure, print and write `benchmarks/results.md`."""
    logger.disable("pipecat")
    logger.disable("agenthuman_plugins")
    logging.disable(logging.WARNING)
    lines = []
    for case in CASES:
        lines.append(_cells(case, await talk(case)))
        console.print(": ".join(lines[-1][:2]), markup=False)
    table = Table(*_HEAD, title="renewal")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    _results.write("renewal", _markdown(lines))


_HEAD = (
    "what",
    "words lost or doubled",
    "longest hole in the voice",
    "longest in the picture",
    "slowest first word",
    "stuck",
    "errors",
    "sessions (at once)",
    "left open",
)


def _cells(case: Case, outcome: Outcome) -> tuple[str, ...]:
    return (
        f"{case.name}, {case.seconds:g} s",
        f"{sum(map(len, outcome.wrong.values()))} of {outcome.words}",
        f"{outcome.voice_hole_s:.2f} s",
        f"{outcome.picture_hole_s:.2f} s",
        f"{outcome.slowest_s:.2f} s",
        str(len(outcome.stuck)),
        str(len(outcome.errors)),
        f"{len(outcome.avatars)} ({outcome.most_at_once})",
        str(outcome.left),
    )


def _markdown(lines: list[tuple[str, ...]]) -> str:
    rows = "\n".join("| " + " | ".join(line) + " |" for line in (_HEAD, ("---",) * len(_HEAD), *lines))
    return f"""
## Sessions that end, avatars that change

`make bench BENCH=renewal`: a bot that talks on the whole local chain, interrupted every {_TURN_S:g} s.

{rows}

Method. Emulator, room server and avatars are processes of their own; the emulator ends each session at its limit. In each
turn a reply of {_LONG} words is cut short after {_TURN_S - _FOR_THE_SHORT_S:g} s and one of {_SHORT} words is said whole. A word is a tone
of {WORD_S:g} s, told apart by its pitch behind the service; of an interrupted reply every word up to the last one that was
heard must be there. A hole in the voice is counted between two sounds of one reply, and up to its interruption.

Measured on {_results.machine("pipecat-ai", "livekit")}.
"""
