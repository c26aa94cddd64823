"""How far the avatar has spoken, when it publishes in the user's own room and no sound comes back to the bot.

The same questions as `VoiceGate` answers, answered by a clock that the link's reports set.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agenthuman_plugins.speech.progress._utterance import Utterance
from agenthuman_plugins.speech.progress._voice import Heard

# An avatar that does not report starts is taken to begin so long after its first sample was sent.
_USUAL_START_S = 0.3
_EARLY_END_S = 0.5  # by how much the report of an end may be ahead of the sound
_LATE_END_S = 0.25  # how long the report of an end is waited for when the time is over
_NEARLY_S = 0.02
_HELD_BACK_S = 0.05  # at most, by the resampler in front of the avatar, until the end of a reply is known


@dataclass(slots=True)
class _Playing:
    utterance: Utterance
    sent_at: float
    begun_at: float | None = None  # as reported, or assumed
    ended_at: float | None = None
    counted_at: float = 0.0
    position_s: float = 0.0
    starved_s: float = 0.0
    told: bool = False  # whether its start was

    def begin(self, now: float) -> None:
        if self.begun_at is None:
            self.begun_at = self.counted_at = now

    def count(self, now: float) -> None:
        passed_s, self.counted_at = now - self.counted_at, now
        # No avatar says what it has not got: a sender that is held up stops the clock.
        limit_s = min(self.utterance.duration_s, self.utterance.sent_s)
        waited_s = self.position_s + passed_s - limit_s
        self.position_s = min(self.position_s + passed_s, limit_s)
        starved = waited_s > 0 and self.position_s >= self.utterance.duration_s - _HELD_BACK_S
        self.starved_s = self.starved_s + waited_s if starved else 0.0

    def is_over(self, now: float, *, followed: bool) -> bool:
        if self.ended_at is not None:
            said = self.position_s >= self.utterance.voiced_end_s - _NEARLY_S
            return said or now >= self.ended_at + _EARLY_END_S
        # What follows it begins without a pause, whether or not the end is reported.
        patience_s = 0.0 if followed and self.position_s == self.utterance.duration_s else _LATE_END_S
        return self.utterance.complete and self.starved_s >= patience_s


class PlaybackClock:
    """Follows the utterances in flight by what the link reports and the time that passes.

    Args:
        clock: Seconds from an arbitrary start; `None` takes `time.monotonic`.

    Attributes:
        busy: Set while something is in flight.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic  # looked up now, for tests in virtual time
        self._in_flight: deque[_Playing] = deque()
        self._reports_start = False  # whether this avatar reports starts at all
        self.busy = asyncio.Event()

    @property
    def audible(self) -> Utterance | None:
        """The utterance that is being heard, if there is one."""
        head = self._in_flight[0] if self._in_flight else None
        return head.utterance if head is not None and head.told else None

    @property
    def awaited(self) -> Utterance | None:
        """The utterance whose start should be reported by now; `None` while one plays, or nothing is due."""
        head = self._in_flight[0] if self._in_flight else None
        return head.utterance if head is not None and head.begun_at is None else None

    def expect(self, utterance: Utterance) -> None:
        """Note that an utterance is being sent."""
        self._in_flight.append(_Playing(utterance, self._clock()))
        self.busy.set()

    def started(self, number: int) -> None:
        """Note the avatar's report that an utterance starts."""
        self._reports_start = True
        if (playing := self._find(number)) is not None:
            playing.begin(self._clock())

    def sent_s(self, number: int) -> float:
        """Seconds of an utterance in flight that have left for the avatar; 0 if it is over."""
        playing = self._find(number)
        return 0.0 if playing is None else min(playing.utterance.sent_s, playing.utterance.duration_s)

    def ended(self, number: int) -> None:
        """Note the report that an utterance is over."""
        if (playing := self._find(number)) is not None:
            playing.begin(self._clock())
            playing.ended_at = self._clock()

    def interrupt(self) -> bool:
        """Forget all utterances; `False` if there was none."""
        was_busy = bool(self._in_flight)
        self._in_flight.clear()
        self.busy.clear()
        return was_busy

    @property
    def searching(self) -> bool:
        """Never: there is no sound."""
        return False

    @property
    def said_s(self) -> float:
        """How far the avatar has said the utterance that is being heard."""
        return self._in_flight[0].position_s if self._in_flight else 0.0

    def hear(self, pcm: bytes, sample_rate: int, concealed_s: float | None = None) -> list[Heard]:  # noqa: ARG002 - as in `Playback`
        """Go by the clock alone: no voice comes back here."""
        return []

    def tick(self) -> list[Heard]:
        """What the time since the last call means for the utterances, in order."""
        now, heard = self._clock(), []
        while self._in_flight:
            head = self._in_flight[0]
            if not self._reports_start and now >= head.sent_at + _USUAL_START_S:
                head.begin(now)
            if head.begun_at is None:
                break
            head.count(now)
            finished = head.is_over(now, followed=len(self._in_flight) > 1)
            heard.append(
                Heard(
                    head.utterance,
                    b"",
                    head.position_s,
                    first=not head.told,
                    voiced=head.position_s < head.utterance.duration_s,
                    finished=finished,
                    starved_s=head.starved_s,
                )
            )
            head.told = True
            if not finished:
                break
            self._in_flight.popleft()
        if not self._in_flight:
            self.busy.clear()
        return heard

    def _find(self, number: int) -> _Playing | None:
        return next((p for p in self._in_flight if p.utterance.number == number), None)
