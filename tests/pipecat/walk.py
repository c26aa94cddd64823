"""A walk through the life of a bot's avatar, made from a seed, in virtual time.

A whole bot (a real pipeline and output transport, the service, an `Account` behind it) is led through steps that a
seed chose: it speaks, is interrupted, loses its avatar, is refused one, and so on. What must hold whatever happens is
in `Walk.check`, by the sound that a listener heard: every sample says which word it belongs to.

What the model leaves out: the machine is never busy and threads take no time (see `tests.virtual_time`); the avatar's
sound is exactly what was sent, without codec, jitter or made-up sound, and its reports do not overtake it; the client's
own retries and the wire (see `tests.pipecat.account`); pictures; several bots on one account, but for slots that are
taken; other processors than the transport; frames other than speech; texts and their times. The other tests, the
fault matrix and the soak have those.
"""

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.client import LiveKitRoom, ServerError
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech.progress import PlaybackClock
from tests.pipecat.account import Account
from tests.pipecat.bot import RATE, WAIT_S, Tap, speech

WORD_S = 0.3
PAUSE_S = 0.06  # behind each word
_WORD_SAMPLES = round(WORD_S * RATE)
_QUIETEST, _STEP = 2_000, 8  # of the words' loudness, which is their number

ROOM = LiveKitRoom.mint("wss://example.livekit.cloud", "key", "secret", "room")


def word_sound(number: int) -> bytes:
    """Noise that no other word is alike, at a loudness that says which word it is."""
    signs = np.random.default_rng(number).choice(np.array([-1, 1], np.int16), _WORD_SAMPLES)
    pause = np.zeros(round(PAUSE_S * RATE), np.int16)
    return np.concatenate([signs * np.int16(_QUIETEST + _STEP * number), pause]).tobytes()


def words_in(pcm: bytes) -> Iterator[tuple[int, int]]:
    """Each word in a piece of sound, and how many samples of it there are, in order."""
    loud = np.abs(np.frombuffer(pcm, np.int16).astype(np.int32))
    numbers = (loud[loud > 0] - _QUIETEST) // _STEP
    if numbers.size:
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), numbers.size]
        for begin, end in itertools.pairwise(edges):
            yield int(numbers[begin]), end - begin


@dataclass
class Word:
    """A word that the bot said.

    Attributes:
        reply: Its reply.
        cut_at: When that was interrupted, or its run was; `None` if it was not.
    """

    number: int
    reply: str
    sent_at: float
    cut_at: float | None = None


@dataclass(frozen=True)
class Heard:
    """A stretch of one word that a listener heard.

    Attributes:
        source: Whose voice: `transport`, or an avatar in the user's own room.
    """

    at: float
    source: str
    number: int
    samples: int

    @property
    def until(self) -> float:
        return self.at + self.samples / RATE


class Loudspeaker(BaseOutputTransport):
    """An output transport that plays in real time and remembers what."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))
        self.played: list[tuple[float, bytes]] = []

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        for sender in self._media_senders.values():  # of a run before, after which nothing was cleaned up
            await sender.cleanup()
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self.played.append((asyncio.get_running_loop().time(), frame.audio))
        await asyncio.sleep(frame.num_frames / frame.sample_rate)
        return True


@dataclass(frozen=True)
class Plan:
    """What a seed chose.

    Attributes:
        steps: Name of each step, its argument, and the pause behind it.
    """

    seed: int
    mode: str
    connect: str
    slots: int
    session_s: float | None
    clock_off_s: float
    settings: dict[str, Any]
    link_options: dict[str, Any]
    steps: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        chance = random.Random(seed)
        names, weights = zip(*_WEIGHTS.items(), strict=True)
        return cls(
            seed=seed,
            mode=chance.choice(MODES),
            connect=chance.choice(("start", "start", "first_speech")),
            slots=chance.choice((1, 1, 2, 3)),
            session_s=chance.choice((None, 20.0, 45.0, 120.0)),
            clock_off_s=chance.choice((0.0, -3600.0, 3600.0)),
            settings={
                "avatar_wait_s": chance.choice((0.5, 3.0)),
                "no_audio_timeout_s": chance.choice((1.0, 3.0)),
                "max_idle_secs": chance.choice((None, None, 8.0)),
            },
            link_options={
                "fps": 25,  # as a link delivers: a gate is no finer than a block of sound
                "width": 2,
                "height": 2,
                "connect_delay_s": chance.choice((0.1, 0.5, 2.0)),
                "media_delay_s": chance.choice((0.0, 0.2)),
                "reports_starts": chance.random() < 0.8,
                "reports_per_utterance": chance.choice((1, 1, 1, 2)),
            },
            steps=tuple(
                (name, chance.random(), round(chance.choice((0.05, 0.4, 1.0, 2.0, 4.0)) * chance.random(), 3))
                for name in chance.choices(names, weights, k=chance.randint(8, 24))
            ),
        )


MODES = ("proxied", "proxied", "direct")


@dataclass
class Walk:
    """A bot, and what happens to it.

    Attributes:
        trace: What happened when, for whoever reads a failure.
    """

    plan: Plan
    trace: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    replies: int = 0
    gave_up: bool = False
    runs: int = 0
    tts: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        plan = self.plan
        self.account = Account(
            slots=plan.slots,
            session_s=plan.session_s,
            clock_off_s=plan.clock_off_s,
            link_options=plan.link_options,
        )
        options: dict[str, Any] = {"room": ROOM} if plan.mode == "direct" else {}
        self.service = AgentHumanVideoService(
            client=self.account,  # type: ignore[arg-type]  # all that it uses
            link_factory=self.account.make_link,
            connect=plan.connect,  # type: ignore[arg-type]
            settings=AgentHumanVideoService.Settings(**plan.settings),
            **options,
        )
        self.up, self.down = Tap(FrameDirection.UPSTREAM), Tap(FrameDirection.DOWNSTREAM)
        self.loudspeaker = Loudspeaker()
        self.pipeline = Pipeline([self.up, self.service, self.down, self.loudspeaker])
        self.worker: PipelineWorker | None = None
        self.running: asyncio.Task[None] | None = None
        self._tell_events()

    # The bot

    async def begin(self) -> None:
        """Start a run: a new worker on the same pipeline."""
        self.runs += 1
        self.note(f"run {self.runs}")
        self.worker = PipelineWorker(
            self.pipeline,
            params=PipelineParams(audio_out_sample_rate=RATE),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
        )
        started = asyncio.Event()

        @self.worker.event_handler("on_pipeline_started")
        async def on_started(*_: object) -> None:
            started.set()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        self.running = asyncio.create_task(runner.run(), name="bot")
        async with asyncio.timeout(WAIT_S):
            await started.wait()

    async def send(self, *frames: Frame) -> None:
        assert self.worker is not None
        await self.worker.queue_frames(frames)

    async def over(self, limit_s: float) -> None:
        """Wait until the run is over."""
        assert self.running is not None
        done, _ = await asyncio.wait([self.running], timeout=limit_s)
        assert done, f"the bot does not end within {limit_s:g} s"
        self.running.result()
        self.worker = self.running = None

    # The steps

    async def walk(self) -> None:
        """Take all steps, and then let everything come to its end."""
        await self.begin()
        for name, argument, pause_s in self.plan.steps:
            self.note(f"{name} {argument:.2f}")
            await getattr(self, f"step_{name}")(argument)
            await asyncio.sleep(pause_s)
        await self.finish()

    async def finish(self) -> None:
        """Let the service recover, say a last reply, and end."""
        self.note("finish")
        account = self.account
        account.taken, account.failure, account.create_s, account.failing_ends = 0, None, 0.0, 0
        await self.said()
        await self.step_speak(0.3)
        await self.said()
        await self.send(EndFrame())
        await self.over(self.longest_s())
        await account.settled()

    async def step_speak(self, argument: float) -> None:
        """A reply of one to six words: made at once, or little by little, faster than it is spoken."""
        if self.tts is not None:
            await self.tts
        self.replies += 1
        count, pace_s = 1 + int(argument * 6), 0.0 if argument * 10 % 1 < 0.5 else 0.1
        self.tts = asyncio.create_task(self._speak(f"r{self.replies}", count, pace_s), name="TTS")
        if not pace_s:
            await self.tts

    async def _speak(self, reply: str, count: int, pace_s: float) -> None:
        await self.send(TTSStartedFrame(context_id=reply))
        for _ in range(count):
            self.words.append(Word(len(self.words) + 1, reply, self.now))
            await self.send(*speech(word_sound(self.words[-1].number), reply))
            await asyncio.sleep(pace_s)
        await self.send(TTSStoppedFrame(context_id=reply))

    async def step_interrupt(self, _: float) -> None:
        """The user interrupts: the TTS stops, and nothing of before may be heard from now on."""
        self._stop_speaking()
        await self.send(InterruptionFrame())

    def _stop_speaking(self) -> None:
        if self.tts is not None:
            self.tts.cancel()
            self.tts = None
        for word in self.words:
            if word.cut_at is None:
                word.cut_at = self.now

    async def step_lose(self, argument: float) -> None:
        """The avatar leaves, or the room is lost."""
        for opened in self.account.running:
            if opened.link is not None and opened.link.present and not opened.link.left:
                self.failures.append("lost")
                opened.link.leave(crash=argument < 0.5)

    async def step_take_slot(self, argument: float) -> None:
        """Somebody else uses one slot more, or fewer."""
        self.account.taken = int(argument * (self.account.slots + 1))

    async def step_refuse(self, argument: float) -> None:
        """The service is down for creates, or up again."""
        self.account.failure = (
            None if argument < 0.6 else ServerError("down", status_code=503, retryable=True)
        )

    async def step_slow_create(self, argument: float) -> None:
        """Creates take longer from now on, or not."""
        self.account.create_s = round(argument * 6) * 1.0

    async def step_failing_end(self, _: float) -> None:
        """The next end fails."""
        self.account.failing_ends += 1

    async def step_lost_answer(self, _: float) -> None:
        """The next create's answer is lost."""
        self.account.lost_answers += 1

    async def step_wait(self, argument: float) -> None:
        """Nothing happens for up to a minute."""
        await asyncio.sleep(60 * argument)

    async def step_said(self, _: float) -> None:
        """Wait until everything is said."""
        await self.said()

    async def said(self) -> None:
        """Wait until all speech is over."""
        if self.tts is not None:
            await self.tts
        async with asyncio.timeout(self.longest_s()):
            while self.open_replies():  # noqa: ASYNC110 - of the frames of two taps
                await asyncio.sleep(0.1)

    def open_replies(self) -> set[str | None]:
        """Replies that began to be heard and are not over."""
        stopped = {frame.context_id for frame in self.down.of(TTSStoppedFrame)}
        cut = {word.reply for word in self.words if word.cut_at is not None}
        said = {word.reply for word in self.words}
        return said - cut - stopped

    def longest_s(self) -> float:
        """How long all that was said may take, with every wait that a failure can cost."""
        return len(self.words) * (WORD_S + PAUSE_S) + 60.0

    # What a listener hears, and what must hold

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now - 1_000:9.3f} {text}")

    def heard(self) -> list[Heard]:
        """Everything that was heard, in order."""
        sounds = [(at, "transport", pcm) for at, pcm in self.loudspeaker.played]
        if self.plan.mode == "direct":
            for number, link in enumerate(self.account.links, 1):
                sounds += [(at, f"avatar {number}", pcm) for at, pcm in link.said]
        return [
            Heard(at, source, number, samples)
            for at, source, pcm in sorted(sounds, key=lambda sound: sound[0])
            for number, samples in words_in(pcm)
        ]

    def check(self) -> None:
        """Raise on everything that is wrong."""
        wrong = [*self._wrong_sessions(), *self._wrong_words(), *self._wrong_frames()]
        assert not wrong, "\n".join([f"seed {self.plan.seed}", *wrong, repr(self.plan), *self.trace])

    def _wrong_sessions(self) -> Iterator[str]:
        if leaked := self.account.leaked:
            yield f"sessions left open: {sorted(leaked)}"
        if self.account.evictions:
            yield "two avatars under one identity"
        if self.plan.mode == "direct" and self.account.most_at_once > 1:
            yield "two sessions at once in direct mode"

    def _wrong_words(self) -> Iterator[str]:
        heard = self.heard()
        samples: Counter[int] = Counter()
        latest = 0
        for piece in heard:
            samples[piece.number] += piece.samples
            word = self.words[piece.number - 1]
            if piece.number < latest - self.repeated_words:
                yield f"word {piece.number} is heard behind word {latest}, at {piece.at - 1000:.3f}"
            latest = max(latest, piece.number)
            if word.cut_at is not None and piece.at > word.cut_at + CUT_S:
                yield f"word {piece.number} of {word.reply} is heard {piece.at - word.cut_at:.2f} s after its interruption"
        for word in self.words:
            share = samples[word.number] / _WORD_SAMPLES
            if share > 1 + self.repeated_words + self.tolerance:
                yield f"word {word.number} of {word.reply} is heard {share:.2f} times"
            if word.cut_at is None and share < 1 - TOLERANCE:
                yield f"word {word.number} of {word.reply} is heard {share:.2f} times"
        for before, after in itertools.pairwise(heard):
            if before.source != after.source and after.at < before.until - TOGETHER_S:
                yield f"two voices at {after.at - 1000:.3f}: {before.source} and {after.source}"

    @property
    def repeated_words(self) -> int:
        """In direct mode nobody hears how far an avatar that reports no starts came: a word of its may be said again."""
        return self.plan.mode == "direct" and not self.plan.link_options["reports_starts"]

    @property
    def tolerance(self) -> float:
        """By how much of itself a word may be longer: in direct mode the block in which the avatar was lost counts."""
        return TOLERANCE + (self.plan.mode == "direct") / self.plan.link_options["fps"] / WORD_S

    def _wrong_frames(self) -> Iterator[str]:
        sides: dict[str | None, list[str]] = defaultdict(list)
        for frame in self.down.frames:
            if isinstance(frame, TTSStartedFrame | TTSStoppedFrame):
                sides[frame.context_id].append("start" if isinstance(frame, TTSStartedFrame) else "stop")
        for reply, frames in sides.items():
            if frames != ["start", "stop"]:
                yield f"{reply}: {frames}"
        speaking = [
            frame
            for frame in self.up.frames
            if isinstance(frame, BotStartedSpeakingFrame | BotStoppedSpeakingFrame)
        ]
        for number, frame in enumerate(speaking):
            if isinstance(frame, BotStartedSpeakingFrame) != (number % 2 == 0):
                yield "BotStartedSpeakingFrame and BotStoppedSpeakingFrame do not take turns"
                break
        errors = self.up.of(ErrorFrame)
        if len(errors) > self.count_failures():
            yield f"{len(errors)} errors for {self.count_failures()} failures: {[error.error for error in errors]}"

    def count_failures(self) -> int:
        """Everything that a bot can be told of: losses, refusals, lost answers, ends at the limit."""
        return (
            len(self.failures)
            + len(self.account.refusals)
            + len(self.account.ended_by("limit"))
            + sum(name == "lost_answer" for name, *_ in self.plan.steps)
            + sum(name == "failing_end" for name, *_ in self.plan.steps)
        )

    def _tell_events(self) -> None:
        for name in list(self.service._event_handlers):
            if name.startswith("on_") and not name.startswith(("on_before", "on_after")):
                self.service.add_event_handler(name, self._teller(name))

    def _teller(self, name: str) -> Callable[..., Any]:
        async def tell(_: object, *arguments: Any) -> None:
            told = (
                str(argument.error if isinstance(argument, ErrorFrame) else argument)
                for argument in arguments
            )
            self.note(f"    {name}: {', '.join(told)}")
            if name == "on_gave_up":
                self.gave_up = True

        return tell


# Sound that is on its way when the user interrupts: a block of the avatar, and a chunk of the transport.
CUT_S = 0.35
TOGETHER_S = 0.15
TOLERANCE = 0.05  # of a word

_WEIGHTS = {
    "speak": 10,
    "interrupt": 4,
    "said": 3,
    "lose": 3,
    "take_slot": 0,
    "refuse": 2,
    "slow_create": 1,
    "failing_end": 0,
    "lost_answer": 1,
    "wait": 2,
}


async def walk(seed: int) -> Walk:
    """Walk one seed, and check what must hold."""
    clock = asyncio.get_running_loop().time
    with mock.patch.object(PlaybackClock.__init__, "__defaults__", (clock,)):
        random.seed(seed)  # of the service's own pauses
        walked = Walk(Plan.of(seed))
        try:
            await walked.walk()
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(
                "\n".join([f"seed {seed}: {error!r}", repr(walked.plan), *walked.trace])
            ) from error
    walked.check()
    return walked
