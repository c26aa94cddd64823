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
    """The utterance that was playing is over."""

    position_s: float
    interrupted: bool


@dataclass(slots=True)
class _Utterance:
    pcm: bytearray = field(default_factory=bytearray)
    ended: bool = False
    samples_played: int = 0


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
        return sum(len(u.pcm) for u in self._utterances) / _BYTES_PER_SAMPLE / self._sample_rate

    def push(self, pcm: bytes) -> None:
        """Add speech to the newest utterance, or to a new one if that has ended."""
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
            The block, padded with silence, and what happened in it. A block holds one utterance at most, so
            that a report never belongs to two.
        """
        reports: list[Started | Finished] = []
        block = b""
        if self._utterances:
            current = self._utterances[0]
            block = bytes(current.pcm[: samples * _BYTES_PER_SAMPLE])
            del current.pcm[: len(block)]
            if block and current.samples_played == 0:
                reports.append(Started())
            current.samples_played += len(block) // _BYTES_PER_SAMPLE
            if current.ended and not current.pcm:
                # An utterance without a sample was never heard, so there is nothing to report.
                if current.samples_played:
                    reports.append(self._report(interrupted=False))
                self._utterances.popleft()
        return block.ljust(samples * _BYTES_PER_SAMPLE, b"\0"), reports

    def _report(self, *, interrupted: bool) -> Finished:
        return Finished(self._utterances[0].samples_played / self._sample_rate, interrupted)
