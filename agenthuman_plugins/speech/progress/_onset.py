"""How a reply begins, to know it again among other sound."""

import numpy as np

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE
from agenthuman_plugins.speech.progress._likeness import ALIKE, EQUAL, likeness, wave

# Peak of 16-bit samples above which a block counts as voice; an idle avatar's coded silence stays below it.
VOICE_PEAK = 40
ONSET_S = 0.08  # long enough to reach beyond a breath, which codecs replace by noise of their own
_MIN_ONSET_S = 0.02
_PAST_S = 0.005


class Onset:
    """The first moment of voice in an utterance, collected while it is sent."""

    def __init__(self) -> None:
        self._pcm = np.zeros(0, np.int16)

    @property
    def known(self) -> bool:
        """Whether there is enough of it to be found."""
        return len(self._pcm) >= _MIN_ONSET_S * SPEECH_SAMPLE_RATE

    def add(self, pcm: bytes) -> None:
        """Take the next piece of the utterance (16 kHz, mono, 16-bit)."""
        missing = round(ONSET_S * SPEECH_SAMPLE_RATE) - len(self._pcm)
        if missing <= 0:
            return
        if not len(self._pcm):
            span = voiced_span(pcm)
            pcm = b"" if span is None else pcm[2 * span[0] :]
        self._pcm = np.concatenate([self._pcm, np.frombuffer(pcm, np.int16)[:missing]])

    def find(self, pcm: bytes, sample_rate: int) -> float | None:
        """Seconds into `pcm` (mono, 16-bit) at which the utterance's voice begins; `None` if it does not."""
        sent, heard = wave(self._pcm.tobytes(), SPEECH_SAMPLE_RATE), wave(pcm, sample_rate)
        if len(heard) < len(sent):
            return None
        alike = likeness(heard, sent)
        best = alike.max()
        begin = int(np.argmax(alike >= EQUAL * best))  # the first of equals
        # While it is still coming in, half of it is alike half of itself: the best place is known a moment later.
        settled = begin < len(alike) - _PAST_S * SPEECH_SAMPLE_RATE
        return begin / SPEECH_SAMPLE_RATE if settled and best >= ALIKE else None


def voiced_span(pcm: bytes) -> tuple[int, int] | None:
    """Indices of the first sample (16-bit, mono) above `VOICE_PEAK` and of the one after the last, or `None`."""
    # int32: the absolute value of the lowest 16-bit sample does not fit into 16 bits.
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm, np.int16).astype(np.int32)) > VOICE_PEAK)
    return (int(loud[0]), int(loud[-1]) + 1) if loud.size else None
