"""The books of playback where nobody reports it: what was confirmed as queued, and when that has been heard.

Pure: no I/O and no timers, only a clock. The gateway confirms each piece of speech when it queues it, in order and
without a number, and says nothing when it is played. So the end of an utterance is computed: confirmed speech is
played in order, one utterance after the other, and none of it sooner than `RENDER_DELAY_S` after its confirmation.
"""

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agenthuman_plugins.speech._utterances import CLEAR_TIMEOUT_S, PlaybackEvent
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE, PlaybackFinished, PlaybackStarted

_log = logging.getLogger(__name__)

# From a confirmation to the sound: what the vendor claims for its avatars. Less, and a session would be ended with
# the last word unsaid; more, and the bot would seem to speak on.
RENDER_DELAY_S = 0.5
# A confirmation takes a round trip. One that is later than this will not come: what it was for counts as not queued.
CONFIRM_TIMEOUT_S = 5.0
_SAME_TIME_S = 1e-6  # times that are sums of lengths differ in their last digits


@dataclass(slots=True)
class _Span:
    """Speech that is played without a gap."""

    start: float
    length_s: float

    @property
    def end(self) -> float:
        return self.start + self.length_s


@dataclass(slots=True)
class _Utterance:
    number: int
    samples_unsent: int = 0
    pieces_due: int = 0  # sent, and not confirmed yet
    spans: list[_Span] = field(default_factory=list)
    ended: bool = False
    started: bool = False
    cut_at: float = math.inf
    clear_by: float = math.inf

    @property
    def complete(self) -> bool:
        """Whether nothing more can be added to what it plays."""
        return self.ended and not self.samples_unsent and not self.pieces_due

    @property
    def is_cut(self) -> bool:
        return self.cut_at < math.inf

    def played_s(self, now: float) -> float:
        return sum(min(max(now - span.start, 0.0), span.length_s) for span in self.spans)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of speech whose confirmation is due."""

    utterance: _Utterance
    samples: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class _Interrupt:
    """An interruption whose confirmation is due."""

    sent_at: float


class OwnClock:
    """Numbers utterances and tells when each is played, from the confirmations alone.

    Each utterance gives exactly one `PlaybackFinished`, and they come in the order of the numbers. The caller calls
    `expire` when `deadline` has come, and after whatever it notes.

    Args:
        clock: Seconds from an arbitrary start, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._in_flight: deque[_Utterance] = deque()
        self._due: deque[_Piece | _Interrupt] = deque()
        self._last_number = 0
        self._any_confirmed = False
        self._last_confirmed_at = -math.inf
        self._free_at = -math.inf  # when all that was queued is played

    @property
    def in_flight(self) -> bool:
        """Whether an utterance is not over yet."""
        return bool(self._in_flight)

    @property
    def clearing(self) -> bool:
        """Whether an utterance that was cut is not over yet."""
        return bool(self._in_flight) and self._in_flight[0].is_cut

    @property
    def any_confirmed(self) -> bool:
        """Whether the other side has confirmed any speech yet."""
        return self._any_confirmed

    @property
    def overdue(self) -> bool:
        """Whether the confirmation that is due will not come any more."""
        return bool(self._due) and self._clock() >= self._confirmation_deadline()

    @property
    def unconfirmed_s(self) -> float:
        """Seconds of speech that wait to be sent or confirmed, without what was cut."""
        unsent = sum(utterance.samples_unsent for utterance in self._in_flight if not utterance.is_cut)
        return unsent / SPEECH_SAMPLE_RATE + self._due_s

    @property
    def deadline(self) -> float | None:
        """Clock time at which something happens by itself; `None` if that is open."""
        times = []
        if self._due:
            times.append(self._confirmation_deadline())
        if self._in_flight:
            head = self._in_flight[0]
            if head.is_cut:
                times.append(head.clear_by)
            elif head.spans and not head.started:
                times.append(head.spans[0].start)
            elif head.complete:
                times.append(self._end_of(head))
        return min(times, default=None)

    def open(self) -> int:
        """Return the number of the open utterance, or of a new one."""
        utterance = self._open_utterance()
        if utterance is None:
            self._last_number += 1
            utterance = _Utterance(self._last_number)
            self._in_flight.append(utterance)
        return utterance.number

    def is_open(self, number: int) -> bool:
        """Whether more speech can be added to an utterance."""
        utterance = self._open_utterance()
        return utterance is not None and utterance.number == number

    def push(self, samples: int) -> None:
        """Note that a piece of the open utterance waits to be sent."""
        if (utterance := self._open_utterance()) is not None:
            utterance.samples_unsent += samples

    def sent(self, number: int, samples: int) -> None:
        """Note that a piece is on its way; its confirmation will come."""
        for utterance in self._in_flight:
            if utterance.number == number:
                utterance.samples_unsent -= samples
                utterance.pieces_due += 1
                self._due.append(_Piece(utterance, samples, self._clock()))

    def recall(self) -> int | None:
        """Note that the oldest piece was not taken, and waits to be sent again.

        Returns:
            The number of its utterance; `None` if there is no such piece, or it is not wanted any more.
        """
        piece = self._due[0] if self._due else None
        if not isinstance(piece, _Piece) or piece.utterance.is_cut:
            return None
        self._due.popleft()
        piece.utterance.pieces_due -= 1
        piece.utterance.samples_unsent += piece.samples
        return piece.utterance.number

    def confirmed(self, samples: int | None = None) -> None:
        """Take the confirmation of the oldest piece; with nothing due, drop it.

        Args:
            samples: What was queued of it; `None` for all.
        """
        if not any(isinstance(item, _Piece) for item in self._due):
            return
        now = self._last_confirmed_at = self._clock()
        while isinstance(self._due[0], _Interrupt):  # confirmations come in order, so it was heard
            self.interrupt_confirmed()
        self._any_confirmed = True
        piece = self._due.popleft()
        assert isinstance(piece, _Piece)  # noqa: S101 - there is one behind the interruptions
        piece.utterance.pieces_due -= 1
        queued = piece.samples if samples is None else min(max(samples, 0), piece.samples)
        if queued and not piece.utterance.is_cut:
            self._queue(piece.utterance, queued / SPEECH_SAMPLE_RATE, now)

    def end(self) -> None:
        """Note that the open utterance is complete."""
        if (utterance := self._open_utterance()) is not None:
            utterance.ended = True

    def cut(self) -> bool:
        """Note that everything in flight is to be dropped; return whether that is news."""
        now = self._clock()
        uncut = [utterance for utterance in self._in_flight if not utterance.is_cut]
        for utterance in uncut:
            utterance.cut_at = now
            utterance.clear_by = now + CLEAR_TIMEOUT_S
        if uncut:
            self._free_at = now
        return bool(uncut)

    def interrupt_sent(self) -> None:
        """Note that an interruption is on its way; its confirmation will come."""
        self._due.append(_Interrupt(self._clock()))

    def interrupt_confirmed(self) -> None:
        """Take the confirmation of the oldest interruption: what it cut is silent."""
        if not any(isinstance(item, _Interrupt) for item in self._due):
            return
        self._last_confirmed_at = self._clock()
        while isinstance(item := self._due.popleft(), _Piece):  # queued or not, it is gone by now
            item.utterance.pieces_due -= 1
        for utterance in self._in_flight:
            if utterance.cut_at <= item.sent_at:
                utterance.clear_by = self._last_confirmed_at

    def expire(self) -> list[PlaybackEvent]:
        """Return what has happened until now."""
        now = self._clock()
        self._give_up_confirmations()
        events: list[PlaybackEvent] = []
        while self._in_flight:
            head = self._in_flight[0]
            if not head.started and head.spans and head.spans[0].start <= min(now, head.cut_at):
                head.started = True
                events.append(PlaybackStarted(head.number))
            over = head.clear_by <= now if head.is_cut else head.complete and self._end_of(head) <= now
            if not over:
                break
            events.append(self._finish_head())
        return events

    def abandon(self) -> list[PlaybackEvent]:
        """Finish everything: the connection is gone."""
        events = self.expire()
        self._due.clear()
        while self._in_flight:
            events.append(self._finish_head())
        return events

    @property
    def _due_s(self) -> float:
        pieces = (item for item in self._due if isinstance(item, _Piece) and not item.utterance.is_cut)
        return sum(piece.samples for piece in pieces) / SPEECH_SAMPLE_RATE

    def _open_utterance(self) -> _Utterance | None:
        newest = self._in_flight[-1] if self._in_flight else None
        return None if newest is None or newest.ended or newest.is_cut else newest

    def _queue(self, utterance: _Utterance, length_s: float, now: float) -> None:
        start = max(self._free_at, now + RENDER_DELAY_S)
        spans = utterance.spans
        if spans and start - spans[-1].end < _SAME_TIME_S:
            spans[-1].length_s += length_s
        else:
            spans.append(_Span(start, length_s))
        self._free_at = spans[-1].end

    def _end_of(self, utterance: _Utterance) -> float:
        return utterance.spans[-1].end if utterance.spans else -math.inf

    def _give_up_confirmations(self) -> None:
        if not self.overdue:
            return
        if due_s := self._due_s:
            _log.warning("The gateway did not confirm %.1f s of speech: they count as not played.", due_s)
        for item in self._due:
            if isinstance(item, _Piece):
                item.utterance.pieces_due -= 1
        self._due.clear()

    def _confirmation_deadline(self) -> float:
        # Counted from the last one: a gateway that works through a long reply is not silent.
        return max(self._due[0].sent_at, self._last_confirmed_at) + CONFIRM_TIMEOUT_S

    def _finish_head(self) -> PlaybackFinished:
        head = self._in_flight.popleft()
        position_s = head.played_s(min(self._clock(), head.cut_at))
        return PlaybackFinished(head.number, position_s, interrupted=head.is_cut, estimated=True)
