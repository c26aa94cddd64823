"""A bot that talks for a long time and is interrupted every seven seconds: `python -m benchmarks soak --minutes 20`.

Its sessions end after a minute, so that the avatar is renewed some twenty times. The whole local chain: emulator, room
server and avatar as processes, the bot in this one, so that its memory is the bot's alone. Where the system allows, in a
network namespace of its own. Prints a line a minute and writes `benchmarks/results/soak.txt`; fails when a promise is
broken.
"""

import argparse
import asyncio
import gc
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
from loguru import logger
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.emulator.process import Child
from agenthuman_plugins.emulator.voice import Voice
from agenthuman_plugins.pipecat import AgentHumanVideoService
from benchmarks._bot import LIMIT_S, RATE, Errors, running
from benchmarks._lips import Lips, compare, in_step, loudness, openness
from benchmarks._own_network import apart, why_not

_SIZE = (320, 240)  # pixels: drawing and coding them is the emulator's work, not the bot's
_EVERY_S = 7.0
_STORY = (
    "Once upon a time a small robot lived in a lighthouse by the sea. Every morning it polished the lamp, and every "
    "evening it told the ships which way was home. One night the fog was so thick that no light went through it. "
    "So the robot sang, as loud as it could, until the last of the ships had found the harbour."
)
_SHORT = "That is all there is to say about it."
_LONG_S = 4.0  # of a reply that is judged
_AROUND_S = 0.6  # of silence around it
_SESSION_S = 60  # so that the avatar is renewed all the time, too
_STUCK_S = 5.0  # a reply that does not begin, or does not end after an interruption, for so long
_WARM_UP_MINUTES = 2
_MAX_GROWTH = 0.05
_MAX_SKEW_MS = 250.0  # a bound, also beside other work; `python -m benchmarks skew` measures it exactly
_RESULT = Path(__file__).parent / "results" / "soak.txt"
_IN_NAMESPACE = "AGENTHUMAN_SOAK_IN_NAMESPACE"


@dataclass
class _Minute:
    """What happened in one minute."""

    lips: Lips = field(default_factory=Lips)
    begun: dict[str | None, float] = field(default_factory=dict)  # when each reply was heard first
    ended: dict[str | None, float] = field(default_factory=dict)
    pictures: int = 0
    replies: int = 0
    interruptions: int = 0
    stuck: int = 0
    stale: int = 0

    def voice_behind_s(self, exact: Lips) -> list[float]:
        """How much later the voice came than the lips, stretch by stretch of each long reply."""
        lags: list[float] = []
        for reply, begin in self.begun.items():
            end = self.ended.get(reply, 0.0)
            if end - begin < _LONG_S:
                continue  # short, or not over
            came = self.lips.between(begin - _AROUND_S, end + _AROUND_S)
            came.heard = [(begin - _AROUND_S, 0.0), (begin - 0.01, 0.0), *came.heard, (end + _AROUND_S, 0.0)]
            lags += [s.voice_behind_s for s in compare(came, exact) if s.voice_behind_s is not None]
        return lags


class _Witness(FrameProcessor):
    """In the place of the transport: sees and hears what would be sent, and keeps none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.minute = _Minute()
        self.voiced: set[str | None] = set()
        self.stopped: set[str | None] = set()
        self.news = asyncio.Condition()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        now = time.monotonic()
        if isinstance(frame, OutputImageRawFrame):
            self.minute.pictures += 1
            self.minute.lips.seen.append((now, openness(frame.image, *frame.size)))
        elif isinstance(frame, TTSAudioRawFrame | TTSStoppedFrame):
            if isinstance(frame, TTSAudioRawFrame):
                self.minute.begun.setdefault(frame.context_id, now)
                size = frame.sample_rate // 100 * 2
                self.minute.lips.heard += [
                    (now + place / size / 100, loudness(frame.audio[place : place + size]))
                    for place in range(0, len(frame.audio), size)
                ]
            else:
                self.minute.ended[frame.context_id] = now
            async with self.news:
                (self.voiced if isinstance(frame, TTSAudioRawFrame) else self.stopped).add(frame.context_id)
                self.minute.stale += frame.context_id in self.stopped and isinstance(frame, TTSAudioRawFrame)
                self.news.notify_all()
        await self.push_frame(frame, direction)


class _Talk:
    """Says replies and interrupts them."""

    def __init__(self, worker: PipelineWorker, witness: _Witness) -> None:
        self._worker = worker
        self._witness = witness
        self._count = 0

    async def run(self, story: bytes, short: bytes) -> None:
        """Talk until cancelled: a long reply, cut short after seven seconds; each fourth time a short one, whole."""
        began = asyncio.get_running_loop().time()
        for turn in range(1, sys.maxsize):
            if turn % 4 == 0:
                context_id = await self._say(short)
                await self._expect(context_id, self._witness.stopped, _STUCK_S + len(short) / 2 / RATE)
            context_id = await self._say(story)
            await self._expect(context_id, self._witness.voiced, _STUCK_S)
            await asyncio.sleep(began + turn * _EVERY_S - asyncio.get_running_loop().time())
            await self._worker.queue_frame(InterruptionFrame())
            self._witness.minute.interruptions += 1
            await self._expect(context_id, self._witness.stopped, _STUCK_S)

    async def _say(self, pcm: bytes) -> str:
        self._count += 1
        self._witness.minute.replies += 1
        context_id = f"reply-{self._count}"
        piece = RATE // 50 * 2
        await self._worker.queue_frames(
            [
                TTSStartedFrame(context_id=context_id),
                *(
                    TTSAudioRawFrame(pcm[i : i + piece], RATE, 1, context_id=context_id)
                    for i in range(0, len(pcm), piece)
                ),
                TTSStoppedFrame(context_id=context_id),
            ]
        )
        return context_id

    async def _expect(self, context_id: str, among: set[str | None], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s), self._witness.news:
                await self._witness.news.wait_for(lambda: context_id in among)
        except TimeoutError:
            self._witness.minute.stuck += 1


class _Report:
    """The lines, on the screen and for the file."""

    def __init__(self, title: str) -> None:
        self._lines = [title, ""]
        self.say(
            f"{'minute':>6} {'memory':>9} {'skew':>8} {'pictures/s':>10} {'replies':>8} {'cut':>4} {'stuck':>5} {'stale':>5} {'errors':>6} {'load':>5}"
        )

    def say(self, line: str) -> None:
        print(line, flush=True)
        self._lines.append(line)

    def write(self) -> None:
        _RESULT.write_text("\n".join(self._lines) + "\n")


async def _soak(minutes: int) -> int:
    story, short = (Voice().synthesize(text) for text in (_STORY, _SHORT))
    exact = await asyncio.to_thread(in_step, story, _SIZE, DEFAULT_AVATAR)
    where = "in a network namespace" if os.environ.get(_IN_NAMESPACE) else "in the machine's own network"
    options: dict[str, Any] = {
        "plan": "pro",
        "sweep": False,
        "session_limit_s": _SESSION_S,
        "video_size": _SIZE,
        "port": 0,
    }
    emulator = await Child.start("agenthuman_plugins.emulator", options, timeout_s=LIMIT_S)
    url, api_key = emulator.ready["url"], emulator.ready["api_key"]
    report = _Report(f"Soak of {minutes} minutes {where}, room server: {emulator.ready['room_server']}.")
    try:
        memory, skews, stuck, errors = await _talk(minutes, url, api_key, report, story, short, exact)
        async with httpx.AsyncClient(headers={"x-api-key": api_key}) as http:
            sessions = (await http.get(f"{url}/emulator/sessions")).json()["sessions"]
    finally:
        await emulator.stop()
    left = sum(session["ended_by"] != "caller" for session in sessions)
    warm = memory[min(_WARM_UP_MINUTES, len(memory)) - 1 :]
    growth = max(warm) / warm[0] - 1
    verdicts = [
        (growth <= _MAX_GROWTH, f"memory after minute {_WARM_UP_MINUTES}: {growth:+.1%} at most (limit 5 %)"),
        (
            max(map(abs, skews), default=0.0) <= _MAX_SKEW_MS,
            f"voice behind the lips, median of any minute: {_span(skews)} ms (limit {_MAX_SKEW_MS:g} ms)",
        ),
        (not stuck, f"stuck replies: {stuck}"),
        (not errors, f"errors: {len(errors)} {errors[:3] or ''}"),
        (
            not left,
            f"sessions that the bot did not end before their limit of {_SESSION_S} s: {left} of {len(sessions)}",
        ),
    ]
    report.say("")
    for kept, line in verdicts:
        report.say(f"{'ok' if kept else 'BROKEN':>6}  {line}")
    report.write()
    return 0 if all(kept for kept, _ in verdicts) else 1


def _span(values: list[float]) -> str:
    return f"{min(values, default=0.0):+.0f} to {max(values, default=0.0):+.0f}"


async def _talk(
    minutes: int, url: str, api_key: str, report: _Report, story: bytes, short: bytes, exact: Lips
) -> tuple[list[float], list[float], int, list[str]]:
    """Talk for so long; return memory in MB and skew in ms of each minute, stuck replies and errors."""
    memory, skews, stuck = [], [], 0
    errors, witness = Errors(), _Witness()
    async with AsyncAgentHuman(api_key=api_key, base_url=url) as client:
        service = AgentHumanVideoService(client=client)
        async with running(errors, service, witness) as worker:
            talk = asyncio.create_task(_Talk(worker, witness).run(story, short))
            own = psutil.Process()
            for number in range(1, minutes + 1):
                done, _ = await asyncio.wait([talk], timeout=60)
                if done:
                    talk.result()
                minute, witness.minute = witness.minute, _Minute()
                lags = await asyncio.to_thread(minute.voice_behind_s, exact)
                del minute.lips
                gc.collect()
                memory.append(own.memory_info().rss / 2**20)
                skews.append(1000 * median(lags) if lags else 0.0)
                stuck += minute.stuck
                report.say(
                    f"{number:6} {memory[-1]:6.1f} MB {skews[-1]:+5.0f} ms {minute.pictures / 60:10.1f} {minute.replies:8} "
                    f"{minute.interruptions:4} {minute.stuck:5} {minute.stale:5} {len(errors.seen):6} "
                    f"{os.getloadavg()[0]:5.1f}"
                )
            talk.cancel()
            await asyncio.wait([talk])
    return memory, skews, stuck, errors.seen


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=20)
    minutes = parser.parse_args(arguments).minutes
    if _IN_NAMESPACE not in os.environ:
        _enter_namespace(arguments)
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    code = asyncio.run(_soak(minutes))
    os._exit(code)  # LiveKit's native threads sometimes abort while the interpreter ends


def _enter_namespace(arguments: list[str]) -> None:
    """Go on in a network of our own, if the system allows that."""
    if why_not() is not None:
        return
    os.environ[_IN_NAMESPACE] = "1"
    command = apart(sys.executable, "-m", "benchmarks", "soak", *arguments)
    os.execvp(command[0], command)
