"""A whole bot in virtual time, by what a listener hears of it: every sample says which word it belongs to.

A real pipeline and output transport with the service in it, and an `Account` behind that. What must hold whatever
happens to it is in `HeardBot.wrong`.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.client import LiveKitRoom
from agenthuman_plugins.pipecat import AgentHumanVideoService, AgentHumanVideoUpdateSettingsFrame
from tests.pipecat.account import Account, MintedRooms, Opened
from tests.pipecat.bot import RATE, WAIT_S, Tap, speech

WORD_S = 0.3
PAUSE_S = 0.06  # behind each word
_WORD_SAMPLES = round(WORD_S * RATE)
_QUIETEST, _STEP = 2_000, 8  # of the words' loudness, which is their number

# Sound that is on its way when the user interrupts: a block of the avatar, and a chunk of the transport.
_CUT_S = 0.35
_TOGETHER_S = 0.15
_TOLERANCE = 0.07  # of a word: 20 ms, the least that an avatar's reports and its sound differ by
_CONVERSATION_S = 300 + 45  # without a word, after which no session is opened; and for the answer to a create

ROOM = LiveKitRoom.mint("wss://example.livekit.cloud", "key", "secret", "room")
MODES: dict[str, Callable[[], dict[str, Any]]] = {
    "proxied": dict,
    "direct": lambda: {"room": ROOM},
    "carried": lambda: {"room": MintedRooms(), "picture": "pipeline"},
}


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
            yield int(numbers[begin]), int(end - begin)


@dataclass
class Word:
    """A word that the bot said.

    Attributes:
        reply: Context id of its reply.
        cut_at: When that was interrupted, or its run was; `None` if it was not.
    """

    number: int
    reply: str
    cut_at: float | None = None


@dataclass(frozen=True)
class Heard:
    """A stretch of one word that a listener heard.

    Attributes:
        at: Loop's time.
        source: Whose voice: `transport`, or an avatar in the user's own room.
    """

    at: float
    source: str
    number: int
    samples: int

    @property
    def until(self) -> float:
        """When it was over."""
        return self.at + self.samples / RATE


class Loudspeaker(BaseOutputTransport):
    """An output transport that plays in real time and remembers what."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))
        self.played: list[tuple[float, bytes]] = []

    async def start(self, frame: StartFrame) -> None:
        """Play from now on."""
        await super().start(frame)
        for sender in self._media_senders.values():  # of a run before, after which nothing was cleaned up
            await sender.cleanup()
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Play."""
        self.played.append((asyncio.get_running_loop().time(), frame.audio))
        await asyncio.sleep(frame.num_frames / frame.sample_rate)
        return True


class HeardBot:
    """A bot that speaks in words; a context manager that runs it, and checks in the end what must hold.

    Args:
        account: Behind it.
        mode: `proxied`, `direct` (a room that stays) or `carried` (a room for each session, from a function).
        settings: Of the service.
        options: Other arguments of the service.

    Attributes:
        words: Everything that was said, in order.
        begun_at: When each run began.
        alive_at: When somebody spoke, chose an avatar, or began a run: what a session may be opened for.
        events: Arguments of each event of the service, by its name.
        told: The same, in order, and `run` at the begin of each run.
        trace: What happened when, for whoever reads a failure.
    """

    def __init__(
        self,
        account: Account,
        *,
        mode: str = "proxied",
        settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.account = account
        self.direct = mode == "direct"
        self.service = AgentHumanVideoService(
            client=account,  # type: ignore[arg-type]  # all that it uses
            link_factory=account.make_link,
            settings=AgentHumanVideoService.Settings(**settings or {}),
            **{**MODES[mode](), **options},
        )
        self.up, self.down = Tap(FrameDirection.UPSTREAM), Tap(FrameDirection.DOWNSTREAM)
        self.beyond = Tap(FrameDirection.DOWNSTREAM)  # of what is heard
        self.loudspeaker = Loudspeaker()
        self.pipeline = Pipeline([self.up, self.service, self.down, self.loudspeaker, self.beyond])
        self.words: list[Word] = []
        self.events: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.trace: list[str] = []
        self.alive_at: list[float] = []
        self.begun_at: list[float] = []
        self.runs: list[int] = []  # where each begins in the frames that went upstream
        self._unfinished: set[str | None] = set()
        self._looked_at = 0  # frames beyond the transport
        self._cancelled: set[str] = set()  # replies that were on their way when a run was cancelled
        self._replies = 0
        self._clock = asyncio.get_running_loop().time
        self._start = self._clock()
        self._worker: PipelineWorker | None = None
        self._running: asyncio.Task[None] | None = None
        self._tts: asyncio.Task[None] | None = None
        self._happened = asyncio.Condition()
        self._listen_to_events()

    # Its life

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_running:
            await self.cancel()
        await self.account.settled()
        if error is not None:
            error.add_note("\n".join(self.trace))
        elif wrong := list(self.wrong()):
            raise AssertionError("\n".join([*wrong, *self.trace]))

    async def begin(self) -> None:
        """Start a run: a new worker on the same pipeline."""
        self.runs.append(len(self.up.frames))
        self.begun_at.append(self._clock())
        self.note(f"run {len(self.runs)}")
        self.told.append(("run", ()))
        self.alive()
        self._worker = PipelineWorker(
            self.pipeline,
            params=PipelineParams(audio_out_sample_rate=RATE),
            cancel_on_idle_timeout=False,
            processor_unusable_policy=ProcessorUnusablePolicy.END,  # a bot that falls back is of use
            enable_rtvi=False,
        )
        started = asyncio.Event()

        @self._worker.event_handler("on_pipeline_started")
        async def on_started(*_: object) -> None:
            started.set()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._worker)
        self._running = asyncio.create_task(runner.run(), name="bot")
        async with asyncio.timeout(WAIT_S):
            await started.wait()

    @property
    def is_running(self) -> bool:
        """Whether a run is on."""
        return self._running is not None and not self._running.done()

    async def send(self, *frames: Frame) -> None:
        """Queue frames at the pipeline's beginning."""
        assert self._worker is not None
        await self._worker.queue_frames(frames)

    async def leave(self, frame: Frame) -> None:
        """Let the TTS finish, and the run end by a frame; what was said before is heard."""
        await self.spoken()
        self.note(type(frame).__name__)
        await self.send(frame)
        await self._over(self.longest_s)

    async def cancel(self) -> None:
        """Cancel the run: what was not heard is lost."""
        assert self._worker is not None
        self.note("cancel")
        self._cut()
        stopped = {frame.context_id for frame in self.down.of(TTSStoppedFrame)}
        self._cancelled |= {word.reply for word in self.words if word.reply not in stopped}
        await self._worker.cancel()
        await self._over(WAIT_S)

    async def _over(self, limit_s: float) -> None:
        assert self._running is not None
        done, _ = await asyncio.wait([self._running], timeout=limit_s)
        assert done, f"the bot does not end within {limit_s:g} s"
        self._running.result()
        self._worker = self._running = None

    # Its speech

    async def say(self, count: int = 3, *, pace_s: float = 0.0) -> str:
        """Say a reply of some words, made at once or little by little; return its context id.

        With a pace it is made in the background: see `spoken`.
        """
        await self.spoken()
        self._replies += 1
        reply = f"r{self._replies}"
        self._unfinished.add(reply)
        self.note(f"say {reply}, {count} words")
        self.alive()
        self._tts = asyncio.create_task(self._speak(reply, count, pace_s), name="TTS")
        if not pace_s:
            await self._tts
        return reply

    async def spoken(self) -> None:
        """Wait until the TTS has made everything."""
        if self._tts is not None:
            await self._tts

    async def said(self) -> None:
        """Wait until everything is heard."""
        await self.spoken()
        await self.beyond.until(lambda: not self.unfinished, limit_s=self.longest_s)

    async def interrupt(self) -> None:
        """Interrupt: the TTS stops, and nothing of before may be heard from now on."""
        self.note("interrupt")
        self.alive()
        self._cut()
        await self.send(InterruptionFrame())

    async def change(self, **settings: Any) -> None:
        """Change settings of the service."""
        self.note(f"change {settings}")
        self.alive()
        delta = AgentHumanVideoService.Settings(**settings)
        await self.send(AgentHumanVideoUpdateSettingsFrame(delta=delta))

    async def _speak(self, reply: str, count: int, pace_s: float) -> None:
        await self.send(TTSStartedFrame(context_id=reply))
        for _ in range(count):
            self.alive()
            self.words.append(Word(len(self.words) + 1, reply))
            await self.send(*speech(word_sound(self.words[-1].number), reply))
            await asyncio.sleep(pace_s)
        await self.send(TTSStoppedFrame(context_id=reply))

    def _cut(self) -> None:
        if self._tts is not None:
            self._tts.cancel()
            self._tts = None
        self._unfinished.clear()
        for word in reversed(self.words):
            if word.cut_at is not None:
                break
            word.cut_at = self._clock()

    def alive(self) -> None:
        """Note that somebody is there."""
        self.alive_at.append(self._clock())

    @property
    def unfinished(self) -> set[str | None]:
        """Replies that were neither heard to their end nor cut."""
        # Asked again with each of many thousand frames, so each is looked at once.
        frames = self.beyond.frames[self._looked_at :]
        self._looked_at += len(frames)
        self._unfinished -= {frame.context_id for frame in frames if isinstance(frame, TTSStoppedFrame)}
        return self._unfinished

    @property
    def longest_s(self) -> float:
        """How long all that was said may take, with every wait that failures can cost."""
        return len(self.words) * (WORD_S + PAUSE_S) + 60.0

    # What was told

    async def until_event(self, name: str, count: int = 1, *, limit_s: float = 60.0) -> None:
        """Wait until the service has told something so often."""
        async with asyncio.timeout(limit_s), self._happened:
            await self._happened.wait_for(lambda: len(self.events[name]) >= count)

    @property
    def errors(self) -> list[ErrorFrame]:
        """What was pushed upstream."""
        return self.up.of(ErrorFrame)

    def note(self, text: str) -> None:
        """Keep a line for whoever reads a failure."""
        self.trace.append(f"{self._clock() - self._start:9.3f} {text}")

    def _listen_to_events(self) -> None:
        for name in list(self.service._event_handlers):
            if name.startswith("on_") and not name.startswith(("on_before", "on_after")):
                self.service.add_event_handler(name, self._listener(name))

    def _listener(self, name: str) -> Callable[..., Awaitable[None]]:
        async def on_event(_: object, *arguments: Any) -> None:
            told = [str(each.error if isinstance(each, ErrorFrame) else each) for each in arguments]
            self.note(f"    {name}: {', '.join(told)}")
            self.told.append((name, arguments))
            async with self._happened:
                self.events[name].append(arguments)
                self._happened.notify_all()

        return on_event

    # What a listener heard

    @property
    def heard(self) -> list[Heard]:
        """Everything that was heard, in order of time."""
        sounds = [(at, "transport", pcm) for at, pcm in self.loudspeaker.played]
        if self.direct:
            for opened in self.account.books:
                sounds += [(at, f"avatar {opened.number}", pcm) for at, pcm in _said_by(opened)]
        return [
            Heard(at, source, number, samples)
            for at, source, pcm in sorted(sounds, key=lambda sound: sound[0])
            for number, samples in words_in(pcm)
        ]

    def words_of(self, reply: str) -> set[int]:
        """Numbers of a reply's words."""
        return {word.number for word in self.words if word.reply == reply}

    def said_by(self, opened: Opened) -> set[int]:
        """Numbers of the words that a session's avatar said, in whole or in part."""
        return {number for _, pcm in _said_by(opened) for number, _ in words_in(pcm)}

    def longest_hole_s(self, *replies: str) -> float:
        """The longest silence inside replies, beyond the pauses between their words."""
        reply_of = {word.number: word.reply for word in self.words if word.reply in replies}
        holes = [
            after.at - before.until - PAUSE_S
            for before, after in itertools.pairwise(self.heard)
            if reply_of.get(before.number, "another") == reply_of.get(after.number)
        ]
        return max(holes, default=0.0)

    # What must hold

    def wrong(self) -> Iterator[str]:
        """What should not be, once the bot has ended: in the sessions, in what was heard, in the frames."""
        yield from self._wrong_sessions()
        yield from self._wrong_words()
        yield from self._wrong_frames()
        yield from self._wrong_errors()

    def _wrong_errors(self) -> Iterator[str]:
        reported: set[Any] = set()  # kinds of failures since the avatar was last there
        for name, arguments in self.told:
            if name in ("run", "on_avatar_connected"):
                reported.clear()
            for error in arguments:
                if isinstance(error, ErrorFrame) and error.error.startswith("No avatar"):
                    if error.category in reported:
                        yield f"told twice: {error.error}"
                    reported.add(error.category)
        permanent = [error.error for error in self.errors if error.error.startswith("The avatar is given up")]
        if len(permanent) != len(self.events["on_gave_up"]):
            yield f"given up {len(self.events['on_gave_up'])} times, told as {permanent}"

    def _wrong_sessions(self) -> Iterator[str]:
        if leaked := self.account.leaked:
            yield f"sessions left open: {sorted(leaked)}"
        if evicted := [(one.number, other.number) for one, other in self.account.evictions]:
            yield f"two avatars under one identity: {evicted}"
        if self.direct and self.account.most_at_once > 1:
            yield "two sessions at once in direct mode"
        heard = self.heard
        for opened in self.account.books:
            silent_s = opened.opened_at - self._last_alive(heard, opened.opened_at)
            if silent_s > _CONVERSATION_S:
                yield f"session {opened.number} was opened when nobody had been there for {silent_s:.0f} s"
        if self.account.most_at_once > 2:  # the present avatar and the next one
            yield f"{self.account.most_at_once} sessions at once"

    def _last_alive(self, heard: Sequence[Heard], at: float) -> float:
        moments = [*self.alive_at, *(piece.until for piece in heard)]
        return max((moment for moment in moments if moment <= at), default=self._start)

    def _wrong_words(self) -> Iterator[str]:
        heard, samples, latest = self.heard, Counter[int](), 0
        for piece in heard:
            samples[piece.number] += piece.samples
            word, at = self.words[piece.number - 1], f"at {piece.at - self._start:.3f}"
            if piece.number < latest - self._repeated:
                yield f"word {piece.number} is heard behind word {latest}, {at}"
            latest = max(latest, piece.number)
            if word.cut_at is not None and piece.at > word.cut_at + _CUT_S:
                yield f"word {piece.number} of {word.reply} is heard {piece.at - word.cut_at:.2f} s after its interruption, {at}"
        longest = 1 + self._repeated + self._tolerance
        for word in self.words:
            share = samples[word.number] / _WORD_SAMPLES
            if share > longest or (word.cut_at is None and share < 1 - _TOLERANCE):
                yield f"word {word.number} of {word.reply} is heard {share:.2f} times"
        for before, after in itertools.pairwise(heard):
            if before.source != after.source and after.at < before.until - _TOGETHER_S:
                yield f"two voices, {before.source} and {after.source}, at {after.at - self._start:.3f}"

    @property
    def _repeated(self) -> int:
        """Of an avatar that reports no starts nobody knows exactly how far it came: a word may be said again."""
        return not self.account.link_options.get("reports_starts", True)

    @property
    def _tolerance(self) -> float:
        """By how much a word may be longer: the block in which the avatar was lost may be heard twice."""
        return _TOLERANCE + 1 / self.account.link_options.get("fps", 25) / WORD_S

    def _wrong_frames(self) -> Iterator[str]:
        sides: dict[str | None, list[str]] = defaultdict(list)
        for frame in self.down.frames:
            if isinstance(frame, TTSStartedFrame | TTSStoppedFrame):
                sides[frame.context_id].append("start" if isinstance(frame, TTSStartedFrame) else "stop")
        for reply, frames in sides.items():
            if frames != ["start", "stop"] and not (frames == ["start"] and reply in self._cancelled):
                yield f"{reply} has {' and '.join(frames)}"
        for begin, end in itertools.pairwise([*self.runs, None]):
            run = self.up.frames[begin:end]
            speaking = [
                isinstance(frame, BotStartedSpeakingFrame) for frame in run if isinstance(frame, _SPEAKING)
            ]
            if any(starts != (number % 2 == 0) for number, starts in enumerate(speaking)):
                yield "BotStartedSpeakingFrame and BotStoppedSpeakingFrame do not take turns"


_SPEAKING = BotStartedSpeakingFrame | BotStoppedSpeakingFrame


def _said_by(opened: Opened) -> list[tuple[float, bytes]]:
    return [] if opened.link is None else opened.link.said
