"""What is done to each service, and what is measured: `scenario(vendor type) -> figures by name`.

One scenario is one run of a bot; the rows of the table say which figures count, and when they hold.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from statistics import median
from typing import Any

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    ErrorFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.utils.text.base_text_aggregator import TextType

from agenthuman_plugins.speech import AvatarVideo
from benchmarks.peers._avatar import FPS, is_loud
from benchmarks.peers._bot import FRAME_S, Bot, bot, silence, tone
from benchmarks.peers._pictures import Nothing
from benchmarks.peers._vendor import CannotRunError, Conditions, Vendor

VendorType = type[Vendor]
Figures = dict[str, float]

_OUTPUT_RATE = 24_000
_SETTLE_S = 1.2  # longer than the avatar's voice is under way and the longest time-out for silence
_LIT = 60  # grey of a speaking avatar's picture; it rests at 32
_BACKLOG_S = 3.0
_PICTURE = 1280, 960
_WORD_S = 0.25


async def first_speech(kind: VendorType, rate: int) -> Figures:
    """A reply of 1 s and an odd number of samples, in frames of 20 ms at the pace of speech."""
    async with bot(kind(Conditions())) as made:
        pcm = tone(1.0, rate) + tone(FRAME_S, rate)[:-26]
        await made.say(pcm, rate=rate, paced=True)
        await made.until(lambda: made.vendor.wire.speech, limit_s=6.0)
        await asyncio.sleep(_SETTLE_S)
        given = made.before.of(OutputAudioRawFrame, FrameDirection.DOWNSTREAM)
        wire = made.vendor.wire
        if not wire.speech:
            return {"first_ms": math.inf, "needed_ms": math.inf, "lost_ms": 1000 * len(pcm) / 2 / rate}
        first = wire.speech[0][0]
        return {
            "first_ms": 1000 * (first - given[0][0]),
            "needed_ms": 1000 * FRAME_S * sum(at < first for at, _ in given),
            "lost_ms": 1000 * max(0.0, len(pcm) / 2 / rate - wire.speech_s),
        }


async def reply_with_a_pause(kind: VendorType) -> Figures:
    """A reply of 1 s of speech, 0.5 s of silence and 1 s of speech, at once."""
    async with bot(kind(Conditions())) as made:
        rate = _OUTPUT_RATE
        await made.say(tone(1.0, rate), silence(0.5, rate), tone(1.0, rate), rate=rate)
        await made.until(lambda: heard_s(made) > 1.7, limit_s=8.0)
        await made.until(
            lambda: made.turns() and not made.turns()[-1][1] and quiet_s(made) > 0.8, limit_s=6.0
        )
        arrived = next(at for at, loud in made.vendor.heard if loud)
        last_loud = made.screen.speech[-1][1]
        stopped = [at for at, started in made.turns() if not started]
        return {
            "voice_ms": 1000 * (made.screen.speech[0][0] - arrived),
            "stopped_ms": 1000 * (stopped[-1] - last_loud) if stopped else math.inf,
            "turns": sum(started for _, started in made.turns()),
            "told_upstream": len(made.before.of(BotStartedSpeakingFrame, FrameDirection.UPSTREAM)),
            "tts_frames": sum(
                len(made.beyond.of(frame, FrameDirection.DOWNSTREAM))
                for frame in (TTSStartedFrame, TTSStoppedFrame)
            ),
        }


async def interruption(kind: VendorType, *, by_user: bool) -> Figures:
    """A reply of 4 s, interrupted when the user has heard 1 s of it."""
    async with bot(kind(Conditions())) as made:
        await made.say(tone(4.0, _OUTPUT_RATE), rate=_OUTPUT_RATE)
        await _heard(made, 1.0)
        turns_before = len(made.turns())
        await _interrupt(made, by_user=by_user)
        await asyncio.sleep(2.0)
        at = made.interruption()
        clears = [clear for clear in made.vendor.wire.clears if clear >= at - 0.1]
        seen = [(when, frame) for when, frame, _ in made.behind.seen if when > at]
        stale_audio = [f for _, f in seen if isinstance(f, OutputAudioRawFrame) and is_loud(f.audio)]
        stale_video = [when for when, grey in made.behind.pictures if when > at and grey > _LIT]
        return {
            "clear_ms": max(0.0, 1000 * (clears[0] - at)) if clears else math.inf,
            "stale_audio_ms": 1000 * sum(f.num_frames / f.sample_rate for f in stale_audio),
            "stale_pictures": len(stale_video),
            "ghost_turns": sum(started for _, started in made.turns()[turns_before:]),
        }


async def sentences(kind: VendorType) -> Figures:
    """A reply of 3 sentences of 2 s, each followed by its text; interrupted 2.6 s into its playing."""
    rate = _OUTPUT_RATE
    reply: list[Any] = []
    for word in ("one", "two", "three"):
        reply += [tone(2.0, rate), _text(word, TextType.SENTENCE)]
    async with bot(kind(Conditions())) as made:
        await made.say(*reply, rate=rate)
        await _heard(made, 2.6)
        await _interrupt(made, by_user=True)
        await asyncio.sleep(0.5)
        return {"sentences": float(len(_spoken_words(made)))}


async def words(kind: VendorType) -> Figures:
    """A reply of 16 words of 0.25 s with their times; interrupted 2.1 s into its playing."""
    rate = _OUTPUT_RATE
    async with bot(kind(Conditions())) as made:
        start = made.before.get_clock().get_time()
        reply: list[Any] = []
        for second in range(4):  # as a TTS with word times sends it: some speech, then its words
            reply.append(tone(1.0, rate))
            for number in range(round(second / _WORD_S), round((second + 1) / _WORD_S)):
                word = _text(f"w{number}", TextType.WORD)
                word.pts = start + round(number * _WORD_S * 1e9)
                reply.append(word)
        await made.say(*reply, rate=rate, end_pts=start + 4 * 10**9)
        await _heard(made, 2.1)
        played_s = made.screen.speech[-1][1] - made.screen.speech[0][0]
        await _interrupt(made, by_user=True)
        await asyncio.sleep(0.5)
        passed = made.beyond.of(TTSTextFrame, FrameDirection.DOWNSTREAM)
        leads = [made.screen.speech[0][0] + number * _WORD_S - at for number, (at, _) in enumerate(passed)]
        return {
            "words_ahead": len(_spoken_words(made)) - math.ceil(played_s / _WORD_S),
            "word_lead_ms": 1000 * max(leads),
        }


async def slow_vendor(kind: VendorType) -> Figures:
    """The vendor needs 3 s to answer the create (where its session is its connection: to connect)."""
    began = time.perf_counter()
    async with bot(kind(Conditions(create_s=3.0)), wait=False) as made:
        await made.started.wait()
        return {"held_ms": 1000 * (time.perf_counter() - began)}


async def stalled_reader(kind: VendorType) -> Figures:
    """The transport takes no picture for 3 s; before that, nothing is spoken for as long."""
    async with bot(kind(Conditions())) as made:
        await asyncio.sleep(_BACKLOG_S)
        unread = made.vendor.unread_pictures
        await made.say(tone(0.4, _OUTPUT_RATE), rate=_OUTPUT_RATE)  # one of them shows nothing before
        await made.until(lambda: made.screen.speech, limit_s=6.0)
        await asyncio.sleep(0.5)
        made.screen.shows.clear()
        shown = len(made.screen.pictures)
        pushed = len(made.behind.pictures)
        await asyncio.sleep(_BACKLOG_S)
        backlog = (len(made.behind.pictures) - pushed) - (len(made.screen.pictures) - shown)
        made.screen.shows.set()
        return {"unread": unread, "backlog": backlog}


async def picture_cost(kind: VendorType) -> Figures:
    """3 s of pictures of 1280x960 at 25 fps, less what they cost without a service."""
    (cpu, loop), (floor_cpu, floor_loop) = [await _picture_cost(each) for each in (kind, Nothing)]
    return {
        "picture_cpu_ms": cpu - floor_cpu,
        "picture_loop_ms": loop - floor_loop,
        "picture_copies": (cpu - floor_cpu) / await _copy_ms(*_PICTURE),
    }


async def _copy_ms(width: int, height: int) -> float:
    """CPU milliseconds of copying a picture here and now, a measure that a busy machine does not bend."""
    rgb = bytearray(3 * width * height)
    spent = []
    for _ in range(25):
        await asyncio.sleep(0.02)  # as between pictures: the caches belong to others meanwhile
        began = time.thread_time()
        bytes(rgb)
        spent.append(1000 * (time.thread_time() - began))
    return median(spent)


async def _picture_cost(kind: VendorType) -> tuple[float, float]:
    """CPU milliseconds of a picture: of the whole process, and of the event loop's thread."""
    (width, height), count = _PICTURE, 75
    async with bot(kind(Conditions(width=width, height=height, still=True))) as made:
        # One service reads no picture before the first speech. This is silence: nobody starts to speak.
        await made.say(silence(FRAME_S, _OUTPUT_RATE), rate=_OUTPUT_RATE)
        rgb = bytes([90]) * (3 * width * height)
        spent: list[tuple[float, float]] = []
        began = time.perf_counter()
        for number in range(count):
            made.vendor.avatars[-1].show(AvatarVideo(rgb, width, height, number * 40_000))
            await asyncio.sleep(max(0.0, began + (number + 1) / FPS - time.perf_counter()))
            spent.append((time.process_time(), time.thread_time()))
        if len(made.behind.pictures) < count * 0.8:
            raise CannotRunError(f"only {len(made.behind.pictures)} of {count} pictures passed")
        # Medians, since a shared machine charges for what others do to its caches.
        cpu, loop = (
            [after - before for before, after in pairwise(clock)] for clock in zip(*spent, strict=True)
        )
        return 1000 * median(cpu), 1000 * median(loop)


async def refused(kind: VendorType) -> Figures:
    """The vendor refuses the session (HTTP 401, or what its SDK has for that); a reply of 1 s is spoken all the same."""
    async with bot(kind(Conditions(refuses=True)), wait=False) as made:
        await made.started.wait()
        await made.say(tone(1.0, _OUTPUT_RATE), rate=_OUTPUT_RATE)
        await made.until(lambda: heard_s(made) > 0.95, limit_s=5.0)
        errors = made.before.of(ErrorFrame, FrameDirection.UPSTREAM)
        return {"voice_s": heard_s(made), "errors": len(errors)}


async def sessions(kind: VendorType) -> Figures:
    """A bot that is ended at every step: is the session told to end?"""
    if not kind.has_sessions:
        raise CannotRunError("its session is its connection")
    return {
        "left_in_create": await _left_open(kind, Conditions(create_s=2.0), slow=True),
        "left_in_join": await _left_open(kind, Conditions(join_s=600.0), slow=True),
        "left_cancelled": await _left_open(kind, Conditions()),
        "left_ended": await _left_open(kind, Conditions(), end=Bot.end),
    }


async def _left_open(
    kind: VendorType,
    conditions: Conditions,
    *,
    slow: bool = False,
    end: Callable[[Bot], Awaitable[None]] = Bot.cancel,
) -> int:
    """How many sessions are open after a bot; a slow one's setup times out after 1 s."""
    vendor = kind(conditions)
    async with bot(vendor, setup_timeout_s=1.0, wait=not slow) as made:
        if slow:
            await asyncio.sleep(1.3)
        await end(made)
        await made.until(lambda: vendor.opened, limit_s=1.0)
        await made.until(lambda: not vendor.left_open, limit_s=conditions.create_s + 0.7)
        return len(vendor.left_open)


def _text(text: str, kind: TextType) -> TTSTextFrame:
    frame = TTSTextFrame(text, kind)
    frame.context_id = "c1"
    frame.includes_inter_frame_spaces = False
    return frame


def _spoken_words(made: Bot) -> list[str]:
    said = [m for m in made.context.get_messages() if m.get("role") == "assistant"]
    return " ".join(str(m.get("content") or "") for m in said).split()


def heard_s(made: Bot) -> float:
    """Seconds of speech that the user has heard."""
    return sum(end - start for start, end in made.screen.speech)


def quiet_s(made: Bot) -> float:
    """Seconds since the user has heard speech."""
    return time.perf_counter() - made.screen.speech[-1][1] if made.screen.speech else 0.0


async def _heard(made: Bot, seconds: float) -> None:
    """Wait until the user has heard so much of a reply."""
    await made.until(lambda: made.screen.speech, limit_s=8.0)
    if not made.screen.speech:
        raise CannotRunError("nothing is heard")
    await asyncio.sleep(max(0.0, made.screen.speech[0][0] + seconds - time.perf_counter()))


async def _interrupt(made: Bot, *, by_user: bool) -> None:
    if by_user:
        await made.send(UserStartedSpeakingFrame())
    await made.send(InterruptionFrame())
    if by_user:
        await made.send(UserStoppedSpeakingFrame())
