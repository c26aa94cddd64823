"""The books of an avatar's playback: which utterances are in flight, and how each one ended.

Pure: no I/O and no timers, only a clock. The avatar's reports carry no utterance number, and avatars send them
late, early, twice or never. So a report counts only if it can be true of the utterance at the head of the line,
and every utterance has a time by which it is over without one.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE, PlaybackFinished, PlaybackStarted

BYTES_PER_SECOND = SPEECH_SAMPLE_RATE * 2  # signed 16-bit, mono

CLEAR_TIMEOUT_S = 2.0  # what LiveKit's own sender allows an avatar to answer a clear
# An avatar that answers a clear has stopped. It reports the end together with its answer, or not at all: this leaves
# time for a report that is on its way, and no more, since the next reply waits for it.
_REPORT_GRACE_S = 0.15
# An avatar needs time to render before it starts, and many do not report the start.
_END_MARGIN_S = 2.0
# Stock workers count what they queue, up to 0.2 s before it is heard; beyond this a report is not ours.
_EARLY_TOLERANCE_S = 0.5
_BLOCK_S = 0.1  # the longest step in which avatars count; a position this close to the end is the end

PlaybackEvent = PlaybackStarted | PlaybackFinished


@dataclass(slots=True)
class _Utterance:
    number: int
    opened_at: float
    pushed_s: float = 0.0
    played_by: float = -math.inf  # the earliest time at which all of that can have been played
    ended: bool = False
    started_at: float | None = None
    cut_at: float | None = None
    clear_by: float = math.inf


class Utterances:
    """Numbers utterances and matches the avatar's reports to them, in order.

    Whatever the avatar reports or not, each utterance gives exactly one `PlaybackFinished`, and they come in the
    order of the numbers. The caller calls `expire` when `deadline` has come.

    Args:
        clock: Seconds from an arbitrary start, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._in_flight: deque[_Utterance] = deque()
        self._last_number = 0
        self._free_at = -math.inf  # when the avatar was done with the utterance before the head

    @property
    def in_flight(self) -> bool:
        """Whether an utterance is not over yet."""
        return bool(self._in_flight)

    @property
    def clearing(self) -> bool:
        """Whether an utterance that was cut is not over yet."""
        return bool(self._in_flight) and self._in_flight[0].cut_at is not None

    @property
    def deadline(self) -> float | None:
        """Clock time at which the head of the line is over without a report; `None` if that is open."""
        if not self._in_flight:
            return None
        head = self._in_flight[0]
        if head.cut_at is not None:
            return head.clear_by
        if not head.ended:
            return None
        margin_s = _END_MARGIN_S if head.pushed_s else 0.0  # nobody reports an utterance without a sample
        return max(self._start_of(head) + head.pushed_s, head.played_by) + margin_s

    def open(self) -> int:
        """Return the number of the open utterance, or of a new one."""
        utterance = self._open_utterance()
        if utterance is None:
            self._last_number += 1
            utterance = _Utterance(self._last_number, self._clock())
            self._in_flight.append(utterance)
        return utterance.number

    @property
    def open_number(self) -> int | None:
        """Number of the utterance that more speech can be added to, if there is one."""
        utterance = self._open_utterance()
        return None if utterance is None else utterance.number

    def push(self, number: int, size: int) -> None:
        """Note that `size` bytes of an utterance were sent; if it is over by now, do nothing."""
        for utterance in self._in_flight:
            if utterance.number == number:
                seconds = size / BYTES_PER_SECOND
                utterance.pushed_s += seconds
                # An avatar that had to wait for speech is as much later with the rest.
                utterance.played_by = max(utterance.played_by, self._clock()) + seconds

    def end(self) -> None:
        """Note that the open utterance is complete."""
        if (utterance := self._open_utterance()) is not None:
            utterance.ended = True

    def cut(self) -> bool:
        """Note that everything in flight is to be dropped; return whether that is news."""
        now = self._clock()
        uncut = [utterance for utterance in self._in_flight if utterance.cut_at is None]
        for utterance in uncut:
            utterance.cut_at = now
            utterance.clear_by = now + CLEAR_TIMEOUT_S
        return bool(uncut)

    def clear_confirmed(self) -> None:
        """Note the avatar's "ok" to the clear, which may be all that it says."""
        if not self.clearing:
            return
        clear_by, cut_at = self._clock() + _REPORT_GRACE_S, self._in_flight[0].cut_at
        for utterance in self._in_flight:
            if utterance.cut_at == cut_at:
                utterance.clear_by = min(utterance.clear_by, clear_by)

    def clear_failed(self) -> list[PlaybackEvent]:
        """The avatar did not take the clear: no report will come for what was cut."""
        events: list[PlaybackEvent] = []
        while self.clearing:
            events += self._finish_cut()
        return events

    def started(self) -> list[PlaybackEvent]:
        """Take the avatar's report that it plays the next utterance."""
        events: list[PlaybackEvent] = []
        if len(self._in_flight) > 1 and self._in_flight[0].started_at is not None:
            # An avatar plays one utterance at a time: the end of the one before is late or lost.
            if self.clearing and self._in_flight[-1].cut_at is None:
                events += self._finish_cut()
            elif not self.clearing and self._may_have_ended():
                events.append(self._finish_head(interrupted=False))
        if self._in_flight and self._in_flight[0].started_at is None:
            self._in_flight[0].started_at = self._clock()
            events.append(PlaybackStarted(self._in_flight[0].number))
        return events

    def finished(self, position_s: float | None, *, interrupted: bool) -> list[PlaybackEvent]:
        """Take the avatar's report that an utterance is over; one that cannot be true is dropped.

        Args:
            position_s: Seconds that were played; `None` if the report does not tell.
            interrupted: Whether the avatar says that a clear ended it.
        """
        if position_s is not None and not math.isfinite(position_s):
            position_s = None
        if self.clearing:
            # Stock workers sometimes answer a clear with `interrupted: false`; only a full position is an end.
            if not interrupted and self._was_whole(position_s):
                return [self._finish_head(interrupted=False, position_s=position_s)]
            return self._finish_cut(position_s)
        if not interrupted and self._may_have_ended():
            return [self._finish_head(interrupted=False, position_s=position_s)]
        return []

    def expire(self) -> list[PlaybackEvent]:
        """Finish what is over by our own clock."""
        events: list[PlaybackEvent] = []
        while (deadline := self.deadline) is not None and deadline <= self._clock():
            events += self._finish_cut() if self.clearing else [self._finish_head(interrupted=False)]
        return events

    def abandon(self) -> list[PlaybackEvent]:
        """Finish everything: the avatar or the connection is gone."""
        events: list[PlaybackEvent] = []
        while self._in_flight:
            events.append(self._finish_head(interrupted=self.clearing))
        return events

    def _open_utterance(self) -> _Utterance | None:
        newest = self._in_flight[-1] if self._in_flight else None
        return None if newest is None or newest.ended or newest.cut_at is not None else newest

    def _start_of(self, head: _Utterance) -> float:
        return head.started_at if head.started_at is not None else max(head.opened_at, self._free_at)

    def _may_have_ended(self) -> bool:
        """Whether the head can have been played to its end by now."""
        head = self._in_flight[0] if self._in_flight else None
        if head is None or not head.ended:
            return False
        earliest_end = max(max(head.opened_at, self._free_at) + head.pushed_s, head.played_by)
        return self._clock() >= earliest_end - _EARLY_TOLERANCE_S

    def _was_whole(self, position_s: float | None) -> bool:
        head = self._in_flight[0]
        return head.ended and position_s is not None and position_s >= head.pushed_s - _BLOCK_S

    def _finish_cut(self, position_s: float | None = None) -> list[PlaybackEvent]:
        """Finish what one clear has cut; only the first of it can have been heard, and only that is reported."""
        cut_at = self._in_flight[0].cut_at
        events: list[PlaybackEvent] = [self._finish_head(interrupted=True, position_s=position_s)]
        while self.clearing and self._in_flight[0].cut_at == cut_at:
            estimated = position_s is None
            events.append(
                PlaybackFinished(self._in_flight.popleft().number, 0.0, interrupted=True, estimated=estimated)
            )
        return events

    def _finish_head(self, *, interrupted: bool, position_s: float | None = None) -> PlaybackFinished:
        head = self._in_flight.popleft()
        now = self._clock()
        start = self._start_of(head)
        estimated = position_s is None
        if position_s is None:
            position_s = (now if head.cut_at is None else head.cut_at) - start
            # By our own clock the avatar was free when the last sample was due, not when we gave up.
            self._free_at = now if interrupted else min(now, start + head.pushed_s)
        else:
            if interrupted:  # avatars count what they queue; the rest of that was never heard
                position_s = min(position_s, now - head.opened_at)
            self._free_at = now
        return PlaybackFinished(head.number, min(max(position_s, 0.0), head.pushed_s), interrupted, estimated)
