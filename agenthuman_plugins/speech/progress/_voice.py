"""Which part of the avatar's endless sound is the reply.

The avatar sends audio all the time, mostly silence, and reports the start and the end of an utterance over
another channel, usually ahead of the sound. The gate lets through what belongs to an utterance in flight, says
how far it was played, and drops the rest: silence between replies, and the tail of an interrupted one. Its only
clock is the audio itself, so a stall of the network moves sound and position alike.
"""

import asyncio
import math
from collections import deque
from dataclasses import dataclass, replace

from agenthuman_plugins.speech.progress._onset import ONSET_S, Onset, voiced_span
from agenthuman_plugins.speech.progress._utterance import Utterance

# Silence that separates an interrupted utterance from the next one. The speaker leaves a longer gap, because the
# jitter buffer shortens silence first.
QUIET_S = 0.03
# How much later than its report the sound arrives, until that is measured: the usual sum of the avatar's audio
# queue (50 ms) and the jitter buffer.
_USUAL_DELAY_S = 0.1
_MAX_DELAY_S = 0.4  # a larger difference is a late report, not a delay of the sound
_JITTER_S = 0.05  # by how much the sound can be ahead of its measured delay
_TAIL_S = 0.019  # lets the last block out whole; under the usual 20 ms so that rounding does not cost another
# Less than a frame, which an avatar keeps until it is full, and what the resampler keeps until the end is known.
_HELD_BACK_S = 0.1
_LATE_S = 0.3  # by how much a loud end can be later than the measured delay says
_DRIFT_S = 0.25  # by how much the jitter buffer may have shortened a reply's sound
_UNREPORTED_S = 0.35  # silence beyond a reply's longest pause that ends it without a report
_UNHEARD_S = 1.0  # how long a voice that should have come is waited for after the report of its end; a busy machine is slow
_REMEMBERED = 250  # blocks: more than a receiver makes up
_KNOWN_S = 0.12  # of sound, to know what it says
_PENDING_S = 1.0  # by then after the sending, what is heard is not old any more


@dataclass(slots=True)
class _Playing:
    utterance: Utterance
    sent_at: float  # gate time at which its first sample left
    started_at: float | None = None  # gate time of the avatar's report
    voiced_at: float | None = None  # gate time of the first voiced sample
    ended_at: float | None = None
    position_s: float = 0.0
    starved_s: float = 0.0
    behind_s: float = 0.0  # what the receiver made up, as far as that is known

    @property
    def said(self) -> bool:
        """Whether all its voice that is known so far was heard, as far as the position tells."""
        return self.position_s >= self.utterance.voiced_end_s - _TAIL_S

    @property
    def all_heard(self) -> bool:
        """Whether all of it was heard, its last silence included, as far as the position tells."""
        complete = self.utterance.complete and self.voiced_at is not None
        return complete and self.position_s >= self.utterance.duration_s - _TAIL_S


@dataclass(frozen=True, slots=True)
class _Block:
    pcm: bytes
    sample_rate: int
    begin: float  # gate time
    end: float
    voice: tuple[float, float] | None  # gate times of the first and the last voiced sample


@dataclass(frozen=True, slots=True)
class Heard:
    """What a block of the avatar's audio means for an utterance.

    Attributes:
        utterance: The utterance.
        pcm: The block, if it belongs to the utterance; else empty.
        position_s: How far the utterance was played at the end of the block.
        first: Whether the block holds the utterance's first voiced sample.
        voiced: Whether the block holds voice.
        finished: Whether the utterance is over, with this block or before it.
        starved_s: For how long all speech that came has been played, and no more has come.
    """

    utterance: Utterance
    pcm: bytes
    position_s: float
    first: bool = False
    voiced: bool = False
    finished: bool = False
    starved_s: float = 0.0


class VoiceGate:
    """Follows the utterances in flight through the audio that comes back.

    Attributes:
        busy: Set while something is in flight.
    """

    def __init__(self) -> None:
        self.busy = asyncio.Event()
        self._now = 0.0  # seconds of audio seen
        self._quiet_since = 0.0
        self._in_flight: deque[_Playing] = deque()
        # How far the first of them was played, by gate time.
        self._positions: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)
        self._newest: deque[_Block] = deque(maxlen=_REMEMBERED)  # of that one's sound
        self._real_until = math.inf  # gate time from which on the sound was made up
        self._delay_s: float | None = None  # of the sound behind the reports, as last measured
        self._reports_start = False  # whether this avatar reports starts at all
        # After an interruption, sound is the old utterance's until it is known to be the new one's.
        self._stale = False
        self._stretch: list[_Block] = []  # sound since the last silence, or since the interruption
        self._after_silence = False  # whether there was a silence since the interruption
        self._faithful = True  # whether an avatar's voice is known again by what was sent

    @property
    def audible(self) -> Utterance | None:
        """The utterance that is being heard, if there is one."""
        if not self._in_flight or self._in_flight[0].voiced_at is None:
            return None
        return self._in_flight[0].utterance

    @property
    def searching(self) -> bool:
        """Whether sound is kept until it is known to be the new utterance's, as after an interruption."""
        return self._stale

    @property
    def said_s(self) -> float:
        """How far the avatar has said the utterance that is being heard, without what its receiver made up."""
        oldest = next((position_s for _, position_s in self._positions), 0.0)
        counted_s = max(
            (position_s for at, position_s in self._positions if at <= self._real_until), default=oldest
        )
        return self._known_again_s(counted_s)

    def _known_again_s(self, counted_s: float) -> float:
        """Where the newest real sound is in the utterance, near a position that was counted."""
        real = [block for block in self._newest if block.end <= self._real_until]
        if self.audible is None or not real or real[-1].voice is None:
            return counted_s
        size = 2 * round(_KNOWN_S * real[-1].sample_rate)
        sound = b"".join(block.pcm for block in real)[-size:]
        found_s = self.audible.spoken.find(sound, real[-1].sample_rate, counted_s)
        return counted_s if found_s is None else found_s

    def expect(self, utterance: Utterance) -> None:
        """Note that an utterance is being sent."""
        self._in_flight.append(_Playing(utterance, self._now))
        self.busy.set()

    def started(self, number: int) -> None:
        """Note the avatar's report that an utterance starts."""
        playing = self._find(number)
        if playing is not None:
            playing.started_at = self._now
            self._reports_start = True

    def sent_s(self, number: int) -> float:
        """Seconds of an utterance in flight that have left for the avatar; 0 if it is over."""
        playing = self._find(number)
        return 0.0 if playing is None else min(playing.utterance.sent_s, playing.utterance.duration_s)

    def ended(self, number: int) -> None:
        """Note the report that an utterance is over; its last sound may still be under way."""
        playing = self._find(number)
        if playing is not None:
            playing.ended_at = self._now

    @property
    def awaited(self) -> Utterance | None:
        """The utterance of which more should be heard now; `None` while the avatar has nothing to say."""
        if not self._in_flight:
            return None
        head = self._in_flight[0]
        utterance = head.utterance
        nearly_said = head.position_s >= utterance.voiced_end_s - _HELD_BACK_S
        waits_for_speech = utterance.lead_s is None or (head.voiced_at is not None and nearly_said)
        return None if waits_for_speech and head.ended_at is None and not utterance.complete else utterance

    def interrupt(self) -> bool:
        """Forget all utterances and let nothing of them through; `False` if there was none."""
        if not self._in_flight:
            return False
        self._in_flight.clear()
        self.busy.clear()
        self._positions.clear()
        self._newest.clear()
        self._stale, self._stretch, self._after_silence = True, [], False
        return True

    def hear(self, pcm: bytes, sample_rate: int, concealed_s: float | None = None) -> list[Heard]:
        """Take a block of the avatar's audio (16-bit, mono).

        Args:
            pcm: The block.
            sample_rate: Its samples per second.
            concealed_s: Seconds of sound up to this block that the receiver made up, if that was measured anew.

        Returns:
            What is let through, and what it means for the utterances, in order.
        """
        block = self._measure(pcm, sample_rate)
        if concealed_s is not None:
            caught_up = self._real_until < math.inf and not concealed_s
            self._real_until = self._now - concealed_s if concealed_s else math.inf
            if caught_up and self._in_flight:
                self._correct(self._in_flight[0])
        blocks = self._fresh(block) if self._stale else [block]
        if not blocks:
            return self._take_those_over(block)
        return [heard for block in blocks for heard in self._judge(block)]

    def _correct(self, playing: _Playing) -> None:
        """After a stall: what was made up counts as said, and the end would come before the last word."""
        really_s = min(self._known_again_s(playing.position_s), playing.utterance.duration_s)
        playing.behind_s += max(playing.position_s - really_s, 0.0)
        playing.position_s = really_s
        self._positions.clear()

    def tick(self) -> list[Heard]:
        """Go by the sound alone: time tells nothing here."""
        return []

    def _measure(self, pcm: bytes, sample_rate: int) -> _Block:
        begin, self._now = self._now, self._now + len(pcm) / 2 / sample_rate
        span = voiced_span(pcm)
        voice = None if span is None else (begin + span[0] / sample_rate, begin + span[1] / sample_rate)
        return _Block(pcm, sample_rate, begin, self._now, voice)

    def _fresh(self, block: _Block) -> list[_Block]:
        """After an interruption: the blocks that are known to be new."""
        silence = (block.end if block.voice is None else block.voice[0]) - self._quiet_since
        self._note_quiet(block)
        if silence >= QUIET_S:
            self._stretch, self._after_silence = [], True
        if block.voice is None and not self._stretch:
            return []
        self._stretch.append(block)
        if not self._in_flight:  # some noise is never silent: no more is kept than a search looks back
            self._stretch = [kept for kept in self._stretch if kept.end > block.end - 2 * ONSET_S]
            return []
        if new := self._new_part(self._in_flight[0]):
            self._stale, self._stretch = False, []
        return new

    def _new_part(self, expected: _Playing) -> list[_Block]:
        """What of the stretch is the new utterance's.

        Its sound is found by how it begins. For avatars that change the voice there is the time, and that sound
        between two silences has one owner.
        """
        onset = expected.utterance.onset
        if onset.known and (began := self._beginning(onset)) is not None:
            self._faithful = True
            first, *others = (block for block in self._stretch if block.end > began)
            return [_mute(first, began), *others]
        told_by_sound = onset.known and self._faithful
        if self._now >= expected.sent_at + _PENDING_S:
            self._faithful &= not told_by_sound  # not found, and still new
        elif (
            told_by_sound
            or not self._after_silence
            or not self._came_in_time(self._stretch[0].begin, expected)
        ):
            return []
        return [block for block in self._stretch if block.end > expected.sent_at]

    def _beginning(self, onset: Onset) -> float | None:
        """Gate time at which the utterance begins, if it does in this stretch."""
        newest = self._stretch[-1]
        since = newest.begin - 2 * ONSET_S  # what is before was searched with the blocks before
        searched = [block for block in self._stretch if block.end > since]
        found_s = onset.find(b"".join(block.pcm for block in searched), newest.sample_rate)
        return None if found_s is None else searched[0].begin + found_s

    def _came_in_time(self, began: float, expected: _Playing) -> bool:
        # Capped, since the jitter buffer shrinks again: better some old sound than no new reply.
        delay = min(self._delay_s or 0.0, _USUAL_DELAY_S)
        if began >= expected.sent_at + delay + _JITTER_S:
            return True
        if expected.started_at is not None:
            return began >= expected.started_at + delay - max(_JITTER_S, delay / 2)
        return not self._reports_start

    def _note_quiet(self, block: _Block) -> None:
        if block.voice is not None:
            self._quiet_since = block.voice[1]

    def _judge(self, block: _Block) -> list[Heard]:
        self._note_quiet(block)
        heard = self._take_those_over(block)
        if not self._in_flight:
            return heard
        playing = self._in_flight[0]
        utterance = playing.utterance
        begin, first = block.begin, False
        if playing.voiced_at is None:
            if block.voice is None:
                return heard
            begin, first = block.voice[0], True
            playing.voiced_at, playing.position_s = begin, utterance.lead_s or 0.0
            self._measure_delay(playing)
        # Counted block by block: an avatar that waits for speech, or stalls, does not get ahead by its wait.
        passed_s = block.end - begin
        if block.voice is None:
            playing.position_s = utterance.through_silence(playing.position_s, passed_s)
            idle = playing.position_s >= utterance.duration_s - _DRIFT_S
        else:
            playing.position_s = min(playing.position_s + passed_s, utterance.duration_s)
            idle = playing.position_s == utterance.duration_s
        playing.starved_s = playing.starved_s + passed_s if idle else 0.0
        self._newest.append(block)
        # While an avatar stalls nothing is worth noting.
        if not self._positions or self._positions[-1][1] != playing.position_s:
            self._positions.append((block.end, playing.position_s))
        finished = block.end >= self._over_at(block)
        if finished:
            self._leave()
        # Nobody misses the silence behind the last word, and it would keep the bot speaking.
        over = block.voice is None and (finished or (utterance.complete and playing.said))
        heard.append(
            Heard(
                utterance,
                b"" if over else block.pcm,
                playing.position_s,
                first,
                block.voice is not None,
                finished,
                playing.starved_s,
            )
        )
        return heard

    def _take_those_over(self, block: _Block) -> list[Heard]:
        """Take the utterances that are over before this block."""
        heard = []
        while self._in_flight and block.begin >= self._over_at(block):
            over = self._leave()
            heard.append(Heard(over, b"", over.duration_s, finished=True))
        return heard

    def _leave(self) -> Utterance:
        self._positions.clear()
        self._newest.clear()
        over = self._in_flight.popleft().utterance
        if not self._in_flight:
            self.busy.clear()
        return over

    def _measure_delay(self, playing: _Playing) -> None:
        if playing.started_at is None or playing.voiced_at is None:
            return
        delay = playing.voiced_at - playing.started_at - (playing.utterance.lead_s or 0.0)
        self._delay_s = min(max(delay, 0.0), _MAX_DELAY_S)

    def _over_at(self, block: _Block) -> float:
        """Gate time at which the last sound of the oldest utterance has arrived."""
        playing = self._in_flight[0]
        utterance, ended_at = playing.utterance, playing.ended_at
        if len(self._in_flight) > 1 and playing.all_heard:
            return block.begin  # without a pause between the two, what follows is the next one's
        quiet_s = block.end - self._quiet_since
        if ended_at is None:
            told = utterance.complete and playing.voiced_at is not None
            nearly_said = playing.position_s >= utterance.voiced_end_s - _DRIFT_S
            silent = quiet_s >= utterance.longest_pause_s + _UNREPORTED_S
            return block.end if told and nearly_said and silent else math.inf
        delay = _USUAL_DELAY_S if self._delay_s is None else self._delay_s
        following = self._in_flight[1].started_at if len(self._in_flight) > 1 else None
        if following is not None:
            # The next one's sound must count as its own. A delay that was measured wrong must not cut this one.
            return following + (delay if playing.said else _MAX_DELAY_S)
        if playing.voiced_at is None:
            return ended_at + (delay if utterance.lead_s is None else max(delay, _UNHEARD_S))
        if playing.said and quiet_s >= _TAIL_S:
            return block.end
        loud_end = block.voice is not None and block.end - block.voice[1] < _TAIL_S
        if loud_end and not playing.said:
            return math.inf  # the report is early, or does not know of a gap in the speech
        length = utterance.duration_s - (utterance.lead_s or 0.0)
        whole_at = playing.voiced_at + length + playing.behind_s
        return max(ended_at + delay, whole_at) + (_LATE_S if loud_end else _TAIL_S)

    def _find(self, number: int) -> _Playing | None:
        return next((p for p in self._in_flight if p.utterance.number == number), None)


def _mute(block: _Block, until: float) -> _Block:
    """The block with silence in place of what is before a time."""
    size = 2 * max(round((until - block.begin) * block.sample_rate), 0)
    voice = block.voice and (max(block.voice[0], until), block.voice[1])
    return replace(block, pcm=bytes(size) + block.pcm[size:], voice=voice)
