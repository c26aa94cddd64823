"""Which part of the avatar's endless sound is the reply.

The avatar sends audio all the time, mostly silence, and reports the start and the end of an utterance over
another channel, usually ahead of the sound. The gate lets through what belongs to an utterance in flight, says
how far it was played, and drops the rest: silence between replies, and the tail of an interrupted one. Its only
clock is the audio itself, so a stall of the network moves sound and position alike.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from agenthuman_plugins.pipecat._timeline import Utterance

# Peak of 16-bit samples above which a block counts as voice; an idle avatar's coded silence stays below it.
VOICE_PEAK = 40
# How much later than its report the sound arrives, until that is measured: the usual sum of the avatar's audio
# queue (50 ms) and the jitter buffer.
_USUAL_DELAY_S = 0.1
_MAX_DELAY_S = 0.4  # a larger difference is a late report, not a delay of the sound
_TAIL_S = 0.019  # lets the last block out whole; under the usual 20 ms so that rounding does not cost another
# After an interruption: how long sound of the old utterance can be under way if the avatar does not report the
# start of the next one, and how long such a report is waited for.
_STALE_S = 0.149
_REPORT_S = 1.0
_JITTER_S = 0.03  # by how much the delay of the sound varies


def first_voiced(pcm: bytes) -> int | None:
    """Index of the first sample (16-bit, mono) above `VOICE_PEAK`, or `None`."""
    # int32: the absolute value of the lowest 16-bit sample does not fit into 16 bits.
    loud = np.abs(np.frombuffer(pcm, np.int16).astype(np.int32)) > VOICE_PEAK
    index = int(loud.argmax()) if loud.size else 0
    return index if loud.size and loud[index] else None


@dataclass(slots=True)
class _Playing:
    utterance: Utterance
    started_at: float | None = None  # gate time of the avatar's report
    voiced_at: float | None = None  # gate time of the first voiced sample
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What one block of the avatar's audio means.

    Attributes:
        utterance: The utterance that the block belongs to.
        position_s: How far the utterance was played at the end of the block.
        first: Whether the block holds the utterance's first voiced sample.
        finished: Whether the utterance is over, with this block or before it.
        audible: Whether the block is the utterance's, to be let through.
    """

    utterance: Utterance
    position_s: float
    first: bool
    finished: bool
    audible: bool


class VoiceGate:
    """Follows the utterances in flight through the audio that comes back."""

    def __init__(self) -> None:
        self._now = 0.0  # seconds of audio seen
        self._in_flight: deque[_Playing] = deque()
        self._delay_s: float | None = None  # of the sound behind the reports, as last measured
        self._reports_start = False  # whether this avatar reports starts at all
        self._stale_until: float | None = None  # sound before this time is an interrupted utterance's

    def expect(self, utterance: Utterance) -> None:
        """Note that an utterance is being sent."""
        self._in_flight.append(_Playing(utterance))

    def started(self, number: int) -> Utterance | None:
        """Note the avatar's report that an utterance starts; return it if it is in flight."""
        playing = self._find(number)
        if playing is None:
            return None
        playing.started_at = self._now
        self._reports_start = True
        if self._stale_until is not None:
            # The old sound comes before the new in one stream, and the new comes a known time after its report.
            self._stale_until = self._now + max(0.0, (self._delay_s or 0.0) - _JITTER_S)
        return playing.utterance

    def ended(self, number: int) -> Utterance | None:
        """Note the report that an utterance is over; its last sound may still be under way."""
        playing = self._find(number)
        if playing is None:
            return None
        playing.ended_at = self._now
        return playing.utterance

    def drop(self, utterance: Utterance) -> bool:
        """Forget an utterance whose end will not be heard; `False` if that has happened already."""
        for playing in self._in_flight:
            if playing.utterance is utterance:
                self._in_flight.remove(playing)
                return True
        return False

    def interrupt(self) -> None:
        """Forget all utterances and let nothing of them through."""
        if self._reports_start:
            self._stale_until = self._now + _REPORT_S
        elif any(playing.voiced_at is not None for playing in self._in_flight):
            self._stale_until = self._now + _STALE_S
        self._in_flight.clear()

    def hear(self, pcm: bytes, sample_rate: int) -> list[Heard]:
        """Take a block of the avatar's audio (16-bit, mono).

        Returns:
            What the block means, for each utterance that it concerns, in order; it is audible in one at most.
        """
        begin = self._now
        self._now += len(pcm) / 2 / sample_rate
        voiced = first_voiced(pcm)
        was_stale = self._stale_until is not None
        if self._stale_until is not None:
            if voiced is not None and begin < self._stale_until:
                return []
            if voiced is not None or not self._reports_start:
                self._stale_until = None
        heard = []
        while self._in_flight and begin >= self._over_at():
            over = self._in_flight.popleft().utterance
            heard.append(Heard(over, over.duration_s, first=False, finished=True, audible=False))
        if not self._in_flight:
            return heard
        playing = self._in_flight[0]
        utterance = playing.utterance
        first = playing.voiced_at is None and voiced is not None
        if first:
            playing.voiced_at = begin + (voiced or 0) / sample_rate
            if not was_stale:
                self._measure_delay(playing)
        if playing.voiced_at is None:
            return heard
        position = (utterance.lead_s or 0.0) + self._now - playing.voiced_at
        finished = self._now >= self._over_at()
        if finished:
            self._in_flight.popleft()
        heard.append(Heard(utterance, min(position, utterance.duration_s), first, finished, audible=True))
        return heard

    def _measure_delay(self, playing: _Playing) -> None:
        if playing.started_at is None or playing.voiced_at is None:
            return
        delay = playing.voiced_at - playing.started_at - (playing.utterance.lead_s or 0.0)
        self._delay_s = min(max(delay, 0.0), _MAX_DELAY_S)

    def _over_at(self) -> float:
        """Gate time at which the last sound of the oldest utterance has arrived."""
        delay = _USUAL_DELAY_S if self._delay_s is None else self._delay_s
        ended_at = self._in_flight[0].ended_at
        if ended_at is None:
            return math.inf
        following = self._in_flight[1].started_at if len(self._in_flight) > 1 else None
        # The next one's sound must count as its own.
        return ended_at + delay + _TAIL_S if following is None else following + delay

    def _find(self, number: int) -> _Playing | None:
        return next((p for p in self._in_flight if p.utterance.number == number), None)
