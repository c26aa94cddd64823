"""The order of what the bot says, and when each part of it is due.

Speech goes to the avatar and comes back later; everything that follows it in the pipeline (text, stop frames,
the end of a response) waits here until the avatar has played the speech before it. No I/O and no Pipecat: the
frames are opaque.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agenthuman_plugins.pipecat._onset import Onset

FrameT = TypeVar("FrameT")


@dataclass(eq=False, slots=True)
class Utterance:
    """One stretch of speech, from a TTS start to its stop.

    Attributes:
        context_id: Pipecat's id of the TTS context that it belongs to.
        number: The link's number for it; 0 until its first sample is sent.
        duration_s: Seconds of speech so far.
        lead_s: Seconds of silence that it begins with; `None` until a voiced sample came.
        onset: How its voice begins.
    """

    context_id: str | None = None
    number: int = 0
    duration_s: float = 0.0
    lead_s: float | None = None
    onset: Onset = field(default_factory=Onset)


@dataclass(slots=True)
class _Entry(Generic[FrameT]):
    frame: FrameT
    utterance: Utterance
    due_s: float  # position in the utterance at which the frame may leave
    is_speech: bool


class Timeline(Generic[FrameT]):
    """Frames in order, behind the speech that must be played before them."""

    def __init__(self) -> None:
        self._entries: deque[_Entry[FrameT]] = deque()
        self._utterance: Utterance | None = None  # the newest one, while any of it is unplayed

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be played."""
        return self._utterance is None

    @property
    def unplayed_s(self) -> float:
        """Upper bound of the seconds of speech that are still to be played."""
        return sum(
            utterance.duration_s
            for utterance in {id(e.utterance): e.utterance for e in self._entries}.values()
        )

    def add_speech(self, frame: FrameT, utterance: Utterance, seconds: float) -> None:
        """Append speech; `utterance` grows by `seconds`."""
        utterance.duration_s += seconds
        self._utterance = utterance
        self._entries.append(_Entry(frame, utterance, utterance.duration_s, is_speech=True))

    def add(self, frame: FrameT) -> bool:
        """Append a frame that must follow the speech before it; `False` if there is none, so it may pass now."""
        if self._utterance is None:
            return False
        self._entries.append(_Entry(frame, self._utterance, self._utterance.duration_s, is_speech=False))
        return True

    # Each of these gives up a frame when it is asked for the next one: whoever is cancelled between two of them
    # leaves the rest here.

    def advance(self, utterance: Utterance, position_s: float) -> Iterator[FrameT]:
        """Note that `utterance` was played up to `position_s`; yield what is due now, in order.

        What waits for the very end of the speech that has come so far stays until `finish`: more may follow.
        """
        while self._entries and self._entries[0].utterance is utterance:
            entry = self._entries[0]
            if entry.due_s > position_s or (not entry.is_speech and entry.due_s >= utterance.duration_s):
                break
            self._entries.popleft()
            if not entry.is_speech:
                yield entry.frame

    def finish(self, utterance: Utterance) -> Iterator[FrameT]:
        """Note that `utterance` was played to its end; yield what waited for it, in order."""
        while self._entries and self._entries[0].utterance is utterance:
            entry = self._entries.popleft()
            if not entry.is_speech:
                yield entry.frame
        if self._utterance is utterance:
            self._utterance = None

    def drain(self) -> Iterator[FrameT]:
        """Empty the timeline; yield everything unplayed in order, speech included."""
        self._utterance = None
        while self._entries:
            yield self._entries.popleft().frame
