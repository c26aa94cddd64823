"""How far the lips are from the voice, from what is seen and heard: the opening of the mouth, and the loudness.

Both are noted with the moment at which they appear, on one clock. Where the two curves fit best over each stretch of
speech is the lag between them; the same face and voice in perfect step say what that is without any delay.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agenthuman_plugins.emulator.face import Face, Look
from agenthuman_plugins.emulator.mouth import Mouth

_STEP_S = 0.01
_WINDOW_S = 1.2
_HOP_S = 0.3
_MAX_LAG_S = 0.6
_MIN_LOUDNESS = 0.01
_MIN_FIT = 0.6  # of 1; a stretch whose lips do not follow its voice has no lag to speak of
_RATE, _FPS = 16_000, 25


@dataclass
class Lips:
    """What was seen and heard; times in seconds.

    Attributes:
        seen: Moment and openness of each picture.
        heard: Moment and loudness, every 10 ms or so.
    """

    seen: list[tuple[float, float]] = field(default_factory=list)
    heard: list[tuple[float, float]] = field(default_factory=list)

    def voice_behind_s(self) -> list[float]:
        """How much later the voice comes than the lips, for each stretch of speech."""
        seen_at, openness = np.array(self.seen).T
        heard_at, loudness = np.array(self.heard).T
        grid = np.arange(max(seen_at[0], heard_at[0]), min(seen_at[-1], heard_at[-1]), _STEP_S)
        # A picture stays until the next one.
        mouth = openness[np.searchsorted(seen_at, grid, side="right") - 1]
        voice = np.convolve(np.interp(grid, heard_at, loudness), np.ones(4) / 4, mode="same")
        width, hop, reach = (round(s / _STEP_S) for s in (_WINDOW_S, _HOP_S, _MAX_LAG_S))
        lags = []
        for start in range(reach, len(grid) - width - reach, hop):
            spoken = voice[start : start + width]
            if spoken.max() < _MIN_LOUDNESS:
                continue
            fits = [
                _fit(spoken, mouth[start - lag : start - lag + width]) for lag in range(-reach, reach + 1)
            ]
            if max(fits) >= _MIN_FIT:
                lags.append((int(np.argmax(fits)) - reach) * _STEP_S)
        return lags


def openness(rgb: bytes | memoryview, width: int, height: int) -> float:
    """Pixels of the mouth's inside: dark and purple, as nothing else around it."""
    picture = np.frombuffer(rgb, np.uint8).reshape(height, width, 3)
    mouth = picture[height // 2 : height * 4 // 5, width * 2 // 5 : width * 3 // 5].astype(np.int16)
    red, green, blue = (mouth[..., channel] for channel in range(3))
    return float(((red < 95) & (red - green > 22) & (blue > green + 4)).sum())


def loudness(pcm: bytes) -> float:
    """RMS of 16-bit samples, 0 to 1."""
    samples = np.frombuffer(pcm, np.int16).astype(float)
    return float(np.sqrt(np.mean(samples**2)) / 32_768) if len(samples) else 0.0


def in_step(pcm: bytes, size: tuple[int, int], avatar: str) -> Lips:
    """The avatar saying `pcm` (16 kHz) with every picture shown at the first sample of its block."""
    face, mouth, lips = Face(*size, Look.of(avatar)), Mouth(), Lips()
    block = 2 * _RATE // _FPS
    pcm = bytes(_RATE) + pcm + bytes(_RATE)
    for number, start in enumerate(range(0, len(pcm) - block + 1, block)):
        shape = mouth.update(np.frombuffer(pcm[start : start + block], np.int16))
        bgr: npt.NDArray[np.uint8] = face.draw(number / _FPS, shape)
        lips.seen.append((number / _FPS, openness(bgr[..., ::-1].tobytes(), *size)))
    piece = round(2 * _RATE * _STEP_S)
    lips.heard = [
        (start / 2 / _RATE, loudness(pcm[start : start + piece])) for start in range(0, len(pcm), piece)
    ]
    return lips


def _fit(voice: npt.NDArray[np.float64], mouth: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(voice, mouth)[0, 1]) if mouth.std() > 0 and voice.std() > 0 else -1.0
