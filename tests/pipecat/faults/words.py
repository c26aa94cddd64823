"""Speech whose words can be told apart: each is a tone of its own, so that a lost or doubled one shows."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from tests.pipecat.bot import RATE

WORD_S = 0.2
_LOWEST_HZ, _STEP_HZ = 400.0, 80.0
WINDOW_S = 0.02
_WINDOW = round(WINDOW_S * RATE)
_LOUD = 1000
_PITCH_TOLERANCE_HZ = 30.0  # windows over the edge of two words fall between them
_STRAY = 2  # windows; shorter runs are what a codec makes of an edge


def spoken(count: int, first: int = 0) -> bytes:
    """So many words from the first one on, without pauses; the last one there can be is number 90."""
    pitches = np.repeat(_LOWEST_HZ + _STEP_HZ * np.arange(first, first + count), round(WORD_S * RATE))
    phase = np.cumsum(2 * np.pi * pitches / RATE)
    return (8000 * np.sin(phase)).astype(np.int16).tobytes()


def heard(pcm: bytes) -> list[tuple[int, float]]:
    """The words in a recording, in order, each with its seconds."""
    words = [word for word in windows(pcm) if word is not None]
    runs = [(word, len(list(group))) for word, group in groupby(words)]
    said: list[tuple[int, float]] = []
    for word, length in runs:
        if said and said[-1][0] == word:
            said[-1] = word, said[-1][1] + length * WINDOW_S
        elif length >= _STRAY:
            said.append((word, length * WINDOW_S))
    return said


def windows(pcm: bytes) -> Iterator[int | None]:
    """The word in each window of `WINDOW_S`; `None` where there is none, or nothing that is one."""
    voice = np.frombuffer(pcm, np.int16)
    pieces = voice[: len(voice) // _WINDOW * _WINDOW].reshape(-1, _WINDOW).astype(float)
    spectra = np.abs(np.fft.rfft(pieces * np.hanning(_WINDOW), 4096, axis=1))
    pitches, loud = spectra.argmax(axis=1) * RATE / 4096, np.abs(pieces).max(axis=1) > _LOUD
    for pitch, is_loud in zip(pitches, loud, strict=True):
        number = round((pitch - _LOWEST_HZ) / _STEP_HZ)
        is_word = number >= 0 and abs(_LOWEST_HZ + number * _STEP_HZ - pitch) < _PITCH_TOLERANCE_HZ
        yield int(number) if is_loud and is_word else None
