"""What an avatar plays: utterances in order, block by block, on a clock that the caller drives.

The in-process link and the emulator's avatar worker share it, so that both report playback by the same rules.
"""

from collections import deque
from dataclasses import dataclass, field

_BYTES_PER_SAMPLE = 2  # signed 16-bit, mono


@dataclass(frozen=True, slots=True)
class Started:
    """The first sample of an utterance is in the block just taken."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The utterance that was playing is over.

    Attributes:
        position_s: Seconds of the utterance that were taken.
        interrupted: Whether `Playout.clear` cut it short.
    """

    position_s: float
    interrupted: bool


@dataclass(slots=True)
class _Utterance:
    pcm: bytearray = field(default_factory=bytearray)
    ended: bool = False
    samples_played: int = 0

    @property
    def samples_queued(self) -> int:
        """Whole samples only: a chunk may be cut in the middle of one, and the next chunk brings its other half."""
        return len(self.pcm) // _BYTES_PER_SAMPLE


class Playout:
    """A queue of utterances that is played in blocks.

    Args:
        sample_rate: Hz of the pushed PCM (signed 16-bit, mono).
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._utterances: deque[_Utterance] = deque()

    @property
    def playing(self) -> bool:
        """Whether an utterance has started and is not over."""
        return bool(self._utterances) and self._utterances[0].samples_played > 0

    @property
    def queued_s(self) -> float:
        """Seconds of speech that wait to be played."""
        return sum(utterance.samples_queued for utterance in self._utterances) / self._sample_rate

    def push(self, pcm: bytes) -> None:
        """Add speech to the newest utterance, or to a new one if that has ended; chunks may split a sample."""
        if not self._utterances or self._utterances[-1].ended:
            self._utterances.append(_Utterance())
        self._utterances[-1].pcm += pcm

    def end(self) -> None:
        """Mark the end of the newest utterance."""
        if self._utterances:
            self._utterances[-1].ended = True

    def clear(self) -> Finished | None:
        """Drop everything; return the report of the utterance that was playing, if one was."""
        finished = self._report(interrupted=True) if self.playing else None
        self._utterances.clear()
        return finished

    def take(self, samples: int) -> tuple[bytes, list[Started | Finished]]:
        """Take the next block.

        Args:
            samples: Length of the block.

        Returns:
            The block and what happened in it. It is whole or all silence, and padded with silence only at the
            end of an utterance. It holds one utterance at most, so that a report never belongs to two.
        """
        self._drop_unheard()
        if not self._utterances:
            return bytes(samples * _BYTES_PER_SAMPLE), []
        reports: list[Started | Finished] = []
        current = self._utterances[0]
        taken = min(samples, current.samples_queued)
        if taken < samples and not current.ended:
            taken = 0  # more is to come: a part of a block now would put silence into a word
        block = bytes(current.pcm[: taken * _BYTES_PER_SAMPLE])
        del current.pcm[: len(block)]
        if taken and current.samples_played == 0:
            reports.append(Started())
        current.samples_played += taken
        if current.ended and current.samples_queued == 0:
            reports.append(self._report(interrupted=False))
            self._utterances.popleft()
        return block.ljust(samples * _BYTES_PER_SAMPLE, b"\0"), reports

    def _drop_unheard(self) -> None:
        """Drop utterances that ended without a sample: nobody heard them, so there is nothing to report."""
        while self._utterances and self._utterances[0].ended and not self.playing:
            if self._utterances[0].samples_queued:
                return
            self._utterances.popleft()

    def _report(self, *, interrupted: bool) -> Finished:
        return Finished(self._utterances[0].samples_played / self._sample_rate, interrupted)
