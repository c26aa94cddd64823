"""The speech around the place that is being said, to know a piece of it again.

A receiver whose packets are late goes on with sound of its own, and says the rest later: by the time that passed, more
was said than really was.
"""

import numpy as np

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE
from agenthuman_plugins.speech.progress._likeness import ALIKE, EQUAL, likeness, wave

_KEPT_S = 1.5  # behind what was said
_AROUND_S = 1.0  # no receiver makes up more, or has lost more when it begins to follow a reply
_MIN_S = 0.06  # of sound: less is alike too many places


class Spoken:
    """The speech of an utterance (16 kHz, mono, 16-bit), collected while it is sent."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._begin = 0  # samples that were forgotten

    def add(self, pcm: bytes, position_s: float) -> None:
        """Take the next piece, and forget what is long said at a position."""
        self._pcm += pcm
        old = min(round((position_s - _KEPT_S) * SPEECH_SAMPLE_RATE) - self._begin, len(self._pcm) // 2)
        if old > 0:
            self._begin += old
            del self._pcm[: 2 * old]

    def find(self, pcm: bytes, sample_rate: int, near_s: float) -> float | None:
        """Seconds at which the place ends that sounds like `pcm` (mono, 16-bit), the nearest of equals; or `None`."""
        heard = wave(pcm, sample_rate)
        near = round(near_s * SPEECH_SAMPLE_RATE) - self._begin
        around = round(_AROUND_S * SPEECH_SAMPLE_RATE)
        first = max(near - around - len(heard), 0)
        sent = wave(bytes(self._pcm[2 * first : 2 * max(near + around, 0)]), SPEECH_SAMPLE_RATE)
        if len(heard) < _MIN_S * SPEECH_SAMPLE_RATE or len(sent) < len(heard):
            return None
        alike = likeness(sent, heard)
        best = alike.max()
        if best < ALIKE:
            return None
        begins = first + np.flatnonzero(alike >= EQUAL * best)
        ends_s = (self._begin + begins + len(heard)) / SPEECH_SAMPLE_RATE
        return float(ends_s[np.abs(ends_s - near_s).argmin()])
