"""What is done to each service where one state of it gives way to the next; see `_scenarios.py`.

A session that reaches its limit, a slot that frees up, another avatar, an end in a branch, a second run.
"""

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass
from itertools import groupby, pairwise

from pipecat.frames.frames import ControlFrame, DataFrame, Frame, MixerEnableFrame, SystemFrame
from pipecat.processors.frame_processor import FrameDirection

from benchmarks.peers._bot import Bot, Screen, bot, tone
from benchmarks.peers._pictures import Nothing
from benchmarks.peers._scenarios import Figures, VendorType, heard_s, quiet_s
from benchmarks.peers._vendor import NEW_TINT, Conditions
from tests.pipecat.faults.words import WINDOW_S, spoken, windows

_WORDS_RATE = 16_000
_OUTPUT_RATE = 24_000
_JOIN_S = 0.3  # of an avatar where one follows another
_STARTED_S = 1.0  # the first avatar's first pictures are no transition
_STANDING_S = 2.0  # without a new picture, at the end: there will be none
_TALKS_S = 20.0  # how long a bot whose slot is free goes on to talk
_MARGIN_S = 1.5  # behind a reply: the avatar is a way off


@dataclass(frozen=True)
class _Reply:
    """Words `first` to `end - 1`, said `at_s` after the first reply begins."""

    at_s: float
    first: int
    end: int


async def session_limit(kind: VendorType) -> Figures:
    """A session that lasts 8 s: a reply of 4 s, one of 7 s in whose middle it ends, and one of 2 s."""
    replies = (_Reply(0.0, 0, 20), _Reply(5.0, 20, 55), _Reply(13.5, 55, 65))
    async with bot(kind(Conditions(session_s=8, join_s=_JOIN_S, output_rate=_WORDS_RATE))) as made:
        return await _talk(made, replies)


async def changed_avatar(kind: VendorType) -> Figures:
    """Three replies of 3 s; the avatar is changed in the middle of the first."""
    replies = (_Reply(0.0, 0, 15), _Reply(4.5, 15, 30), _Reply(9.0, 30, 45))
    async with bot(kind(Conditions(join_s=_JOIN_S, output_rate=_WORDS_RATE))) as made:
        frame = made.vendor.change_avatar()
        changing = asyncio.create_task(_after(1.5, made, frame))
        figures = await _talk(made, replies)
        changed = await changing
        shown = zip(made.behind.pictures, made.behind.tints, strict=True)
        new = next((at for (at, _), tint in shown if tint == NEW_TINT), math.inf)
        return figures | {"change_s": new - changed}


async def _after(seconds: float, made: Bot, frame: Frame) -> float:
    await asyncio.sleep(seconds)
    await made.send(frame)
    return time.perf_counter()


async def _talk(made: Bot, replies: tuple[_Reply, ...]) -> Figures:
    """Say the replies at their times, and judge what was seen and heard."""
    began = time.perf_counter()
    for number, reply in enumerate(replies):
        await asyncio.sleep(max(0.0, began + reply.at_s - time.perf_counter()))
        pcm = spoken(reply.end - reply.first, reply.first)
        await made.say(pcm, rate=_WORDS_RATE, context_id=f"c{number}")
    await asyncio.sleep(len(pcm) / 2 / _WORDS_RATE + _MARGIN_S)
    await made.until(lambda: quiet_s(made) > 1.0, limit_s=5.0)  # on a busy machine the end is late
    words = _words(made.screen)
    said = Counter(word for word, _ in groupby(word for _, word in words))
    expected = range(replies[-1].end)
    shown = [at for at in made.screen.pictures if at >= began + _STARTED_S]
    stands_s = max((later - at for at, later in pairwise(shown)), default=math.inf)
    if not shown or time.perf_counter() - shown[-1] > _STANDING_S:
        stands_s = math.inf
    return {
        "wrong_words": sum(said[word] != 1 for word in expected),
        "hole_s": max(_hole_s(words, reply) for reply in replies),
        "stands_s": stands_s,
    }


def _words(screen: Screen) -> list[tuple[float, int]]:
    """What was heard, in windows of 20 ms: when, and which word. Strays of one window are no words."""
    found = []
    for piece in screen.audio:
        found += [(piece.at + i * WINDOW_S, word) for i, word in enumerate(windows(piece.pcm))]
    return [
        (at, word)
        for (_, before), (at, word), (_, after) in zip(
            [(0.0, None), *found], found, [*found[1:], (0.0, None)], strict=False
        )
        if word is not None and word in (before, after)
    ]


def _hole_s(words: list[tuple[float, int]], reply: _Reply) -> float:
    """The longest time without a voice in the middle of a reply; endless, if its last word is never heard."""
    times = [at for at, word in words if reply.first <= word < reply.end]
    if reply.end - 1 not in {word for _, word in words}:
        return math.inf
    return max(later - at - WINDOW_S for at, later in pairwise(times))


async def slot_freed(kind: VendorType) -> Figures:
    """The account is full for two replies of 1 s; then a slot is free, and the bot says 1 s every 2 s."""
    vendor = kind(Conditions(join_s=_JOIN_S))
    vendor.full = True
    async with bot(vendor, wait=False) as made:
        await made.started.wait()
        for number in (1, 2):
            await made.say(tone(1.0, _OUTPUT_RATE), rate=_OUTPUT_RATE, context_id=f"c{number}")
            await made.until(lambda: heard_s(made) > 0.99 * number, limit_s=5.0)  # noqa: B023 - used at once
        voice_s = heard_s(made)
        vendor.full = False
        freed = time.perf_counter()
        while time.perf_counter() < freed + _TALKS_S and not made.behind.pictures:
            number += 1
            await made.say(tone(1.0, _OUTPUT_RATE), rate=_OUTPUT_RATE, context_id=f"c{number}")
            await asyncio.sleep(2.0)
        shown = made.behind.pictures
        return {"plain_s": voice_s, "face_s": shown[0][0] - freed if shown else math.inf}


async def end_in_branch(kind: VendorType) -> Figures:
    """A goodbye of 2 s and an `EndFrame`, the service in a branch; beside the same branch without a service."""
    figures, floor = [await _goodbye(each) for each in (kind, Nothing)]
    return figures | {"later_ms": figures["first_ms"] - floor["first_ms"]}


async def _goodbye(kind: VendorType) -> Figures:
    async with bot(kind(Conditions(transit_s=0.0)), in_branch=True) as made:
        sent = time.perf_counter()
        await made.say(tone(2.0, _OUTPUT_RATE), rate=_OUTPUT_RATE)
        await made.end()
        speech = made.screen.speech
        if not speech:
            return {"first_ms": math.inf, "goodbye_s": 0.0, "pictures": 0}
        return {
            "first_ms": 1000 * (speech[0][0] - sent),
            "goodbye_s": heard_s(made),
            "pictures": sum(speech[0][0] <= at <= speech[-1][1] for at in made.screen.pictures),
        }


async def second_run(kind: VendorType, *, ends: type[Frame]) -> Figures:
    """A reply of 1 s and an end; then another worker on the same pipeline, with the same again."""
    vendor = kind(Conditions())
    async with bot(vendor) as made:
        await _one_reply(made)
        await made.end(ends())
        before_s = heard_s(made)
        await made.start()
        try:
            await made.ready()
            await _one_reply(made)
        except TimeoutError:  # it does not start once more
            pass
        await made.end()
        await made.until(lambda: not vendor.left_open, limit_s=1.0)
        return {"second_s": heard_s(made) - before_s, "left": len(vendor.left_open)}


async def _one_reply(made: Bot) -> None:
    before_s = heard_s(made)
    await made.say(tone(1.0, _OUTPUT_RATE), rate=_OUTPUT_RATE)
    await made.until(lambda: heard_s(made) - before_s > 0.99, limit_s=5.0)
    await asyncio.sleep(_MARGIN_S)  # whoever speaks twice is heard, too


class _Data(DataFrame):
    """A user's own frame."""


class _Control(ControlFrame):
    """A user's own frame."""


class _System(SystemFrame):
    """A user's own frame."""


async def frames(kind: VendorType) -> Figures:
    """A reply of 3 s, at once, and frames behind it: which wait for it?"""
    kept, hurried = (_Data, _Control), (MixerEnableFrame, _System)
    async with bot(kind(Conditions())) as made:
        await made.say(tone(3.0, _OUTPUT_RATE), rate=_OUTPUT_RATE)
        await made.send(_Data(), _Control(), MixerEnableFrame(enable=True), _System())
        await made.until(lambda: heard_s(made) > 2.9, limit_s=8.0)
        await asyncio.sleep(0.5)
        if not made.screen.speech:
            return {"ahead_ms": math.inf, "mixer_ms": math.inf, "system_ms": math.inf}
        end = made.screen.speech[-1][1]
        mixer_ms, system_ms = (_delay_ms(made, each) for each in hurried)
        arrived = [_first(made.beyond.of(each, FrameDirection.DOWNSTREAM)) for each in kept]
        ahead_s = math.inf if math.inf in arrived else max(0.0, *(end - at for at in arrived))
        return {"ahead_ms": 1000 * ahead_s, "mixer_ms": mixer_ms, "system_ms": system_ms}


def _delay_ms(made: Bot, kind: type[Frame]) -> float:
    """How long the service kept a frame."""
    came, left = (_first(tap.of(kind, FrameDirection.DOWNSTREAM)) for tap in (made.before, made.behind))
    return 1000 * (left - came)


def _first(passed: list[tuple[float, Frame]]) -> float:
    return passed[0][0] if passed else math.inf
