"""The order of what the bot says, and when each part of it is due.

Speech goes to the avatar and comes back later; everything that follows it in the pipeline (text, stop frames,
the end of a response) waits here until the avatar has played the speech before it, words with a time of their own
until they were said. No I/O: the frames are opaque.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Generic, TypeVar

from agenthuman_plugins.speech.progress._utterance import Utterance

FrameT = TypeVar("FrameT")

END_S = math.inf  # a position that only the end of the utterance reaches
_KEPT_S = 1.0  # speech that was played; no receiver makes up more than that


@dataclass(frozen=True, slots=True)
class Waiting(Generic[FrameT]):
    """A frame that waits for its turn.

    Attributes:
        frame: The frame.
        utterance: What it belongs to.
        due_s: Position in the utterance at which it is said, or may leave.
        begin_s: Where it begins, if it is speech; else `None`.
    """

    frame: FrameT
    utterance: Utterance
    due_s: float
    begin_s: float | None = None
    number: int = 0  # of its arrival

    @property
    def is_speech(self) -> bool:
        """Whether the frame is speech."""
        return self.begin_s is not None

    @property
    def played_s(self) -> float:
        """How much of this speech was played already."""
        return 0.0 if self.begin_s is None else max(self.utterance.position_s - self.begin_s, 0.0)


class Timeline(Generic[FrameT]):
    """Frames in order, behind the speech that must be played before them."""

    def __init__(self) -> None:
        # The last second of the utterance that is being played.
        self._played: deque[Waiting[FrameT]] = deque()
        self._speech: deque[Waiting[FrameT]] = deque()
        self._others: deque[Waiting[FrameT]] = deque()
        self._count = 0
        self._utterance: Utterance | None = None  # the newest one, while any of it is unplayed

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be played."""
        return self._utterance is None

    @property
    def unplayed_s(self) -> float:
        """Seconds of speech that are still to be played."""
        return sum(entry.due_s - (entry.begin_s or 0.0) - entry.played_s for entry in self._speech)

    def add_speech(self, frame: FrameT, utterance: Utterance, seconds: float) -> None:
        """Append speech; `utterance` grows by `seconds`."""
        begin_s = utterance.duration_s
        utterance.duration_s += seconds
        self._utterance = utterance
        self._speech.append(self._entry(frame, utterance, utterance.duration_s, begin_s))

    def add(self, frame: FrameT) -> bool:
        """Append a frame that must follow the speech before it; `False` if there is none, so it may pass now."""
        if self._utterance is None:
            return False
        self._others.append(self._entry(frame, self._utterance, self._utterance.duration_s))
        return True

    def add_at(self, frame: FrameT, utterance: Utterance, due_s: float) -> None:
        """Append a frame that is due at a position of an utterance, which may be ahead of its speech."""
        self._utterance = utterance
        self._others.append(self._entry(frame, utterance, due_s))

    def settle(self, utterance: Utterance, length: Callable[[FrameT], int]) -> None:
        """Give what waits for the end of an utterance its place in the speech that has come since the last time.

        Args:
            utterance: The utterance; without new speech nothing changes.
            length: How long a frame takes to say, compared with the others.
        """
        waiting = [entry for entry in self._others if entry.utterance is utterance and entry.due_s == END_S]
        begin_s, new_s = utterance.settled_s, utterance.duration_s - utterance.settled_s
        if not waiting or not new_s:
            return
        utterance.settled_s = utterance.duration_s
        lengths = list(accumulate(length(entry.frame) for entry in waiting))
        whole = lengths[-1]
        due_s = {
            entry.number: utterance.duration_s if said == whole else begin_s + new_s * said / whole
            for entry, said in zip(waiting, lengths, strict=True)
        }
        self._others = deque(
            replace(entry, due_s=due_s.get(entry.number, entry.due_s)) for entry in self._others
        )

    def unplayed_speech(self) -> Iterator[FrameT]:
        """The speech that was not played, in order; it stays."""
        return (entry.frame for entry in self._speech)

    def discard(self, unwanted: Callable[[FrameT], bool]) -> None:
        """Drop waiting frames; speech stays."""
        self._others = deque(entry for entry in self._others if not unwanted(entry.frame))

    # Each of these gives up a frame when it is asked for the next one: whoever is cancelled between two of them
    # leaves the rest here.

    def advance(
        self, utterance: Utterance, position_s: float, *, starved: bool = False
    ) -> Iterator[Waiting[FrameT]]:
        """Note that `utterance` was played up to `position_s`; yield what is due now, in order.

        What waits for the very end of the speech that has come so far stays until `finish`, since more may follow;
        or until the speaker is `starved`, and has surely said all of it.
        """
        utterance.position_s = position_s
        while self._speech and self._speech[0].utterance is utterance and self._speech[0].due_s <= position_s:
            self._played.append(self._speech.popleft())
        while self._played and self._played[0].due_s <= position_s - _KEPT_S:
            self._played.popleft()
        while self._others and self._others[0].utterance is utterance:
            due_s = self._others[0].due_s
            if due_s > position_s or (due_s >= utterance.duration_s and not starved):
                break
            yield self._others.popleft()

    def rewind(self, utterance: Utterance, position_s: float) -> None:
        """Note that `utterance` was played up to here, at most one second less than `advance` was told.

        Frames that have left do not come back; speech does.
        """
        utterance.position_s = max(position_s, utterance.position_s - _KEPT_S)
        while self._played and self._played[-1].due_s > utterance.position_s:
            self._speech.appendleft(self._played.pop())

    def finish(self, utterance: Utterance) -> Iterator[Waiting[FrameT]]:
        """Note that `utterance` was played to its end; yield what waited for it, in order."""
        utterance.position_s = utterance.duration_s
        self._played.clear()
        while self._speech and self._speech[0].utterance is utterance:
            self._speech.popleft()
        while self._others and _is_over(self._others[0].utterance, utterance):
            if self._speech and self._speech[0].number < self._others[0].number:
                break
            yield self._others.popleft()
        if not self._speech and not self._others:
            self._utterance = None

    def drain(self) -> Iterator[Waiting[FrameT]]:
        """Empty the timeline; yield everything unplayed in order, speech included."""
        self._utterance = None
        self._played.clear()
        while self._speech or self._others:
            speech_first = self._speech and (
                not self._others or self._speech[0].number < self._others[0].number
            )
            yield (self._speech if speech_first else self._others).popleft()

    def _entry(
        self, frame: FrameT, utterance: Utterance, due_s: float, begin_s: float | None = None
    ) -> Waiting[FrameT]:
        self._count += 1
        return Waiting(frame, utterance, due_s, begin_s, self._count)


def _is_over(utterance: Utterance, finished: Utterance) -> bool:
    """Whether an utterance is over with `finished`: that one, or one behind it that turned out to hold no speech."""
    return utterance is finished or (utterance.complete and not utterance.duration_s)
