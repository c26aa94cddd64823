"""The mouth's shape from the sound alone: band energies of each 40 ms block, no model.

Open vowels have energy around their first formant, spread and rounded lips differ in the second, and hiss
sits above 3.5 kHz. That is enough to look right, and costs 0.05 ms a block.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000  # Hz
BLOCK_SAMPLES = 640  # 40 ms: one picture at 25 per second

_FFT_SIZE = 1_024
_BANDS_HZ = ((150, 500), (500, 1_000), (1_000, 1_800), (1_800, 3_000), (3_500, 7_500))
_SILENCE_RMS = 0.004  # below: a pause, whatever its spectrum
_START_LEVEL = 0.06  # the loudness of an ordinary voice, until the speaker's own is known
_MIN_LEVEL = 0.02  # a whisper must not be amplified into a shout


@dataclass(frozen=True, slots=True)
class MouthShape:
    """What the lips do.

    Attributes:
        open: 0 (closed) to 1 (wide open).
        wide: -1 (rounded, as in "oo") to 1 (spread, as in "ee").
        teeth: 0 to 1: how much the teeth close over the sound, as in "s" and "f".
    """

    open: float = 0.0
    wide: float = 0.0
    teeth: float = 0.0


CLOSED = MouthShape()


class Mouth:
    """Follows a voice block by block; adapts to its loudness and moves no faster than lips do.

    Args:
        block_samples: Length of the blocks; at most 1024.
    """

    def __init__(self, block_samples: int = BLOCK_SAMPLES) -> None:
        self._window = np.hanning(block_samples)
        frequencies = np.fft.rfftfreq(_FFT_SIZE, 1 / SAMPLE_RATE)
        self._bands = [slice(*np.searchsorted(frequencies, band)) for band in _BANDS_HZ]
        self._reference = _START_LEVEL
        self._shape = CLOSED

    def close(self) -> None:
        """Close at once, without the usual way back: the speech was cut off."""
        self._shape = CLOSED

    def update(self, block: npt.NDArray[np.int16] | npt.NDArray[np.floating]) -> MouthShape:
        """Hear the next block and return the shape to draw with it.

        Args:
            block: `block_samples` mono samples at 16 kHz; int16, or float in [-1, 1].
        """
        samples = block / 32_768 if block.dtype == np.int16 else np.asarray(block, dtype=np.float64)
        open_target, wide_target, teeth_target = self._targets(samples)
        last = self._shape
        self._shape = MouthShape(
            # Jaws fall faster than they close.
            open=_approach(last.open, open_target, 0.65 if open_target > last.open else 0.4),
            wide=_approach(last.wide, wide_target, 0.5),
            teeth=_approach(last.teeth, teeth_target, 0.6),
        )
        return self._shape

    def _targets(self, samples: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        rms = float(np.sqrt(np.mean(samples**2)))
        level = self._level(rms)
        if level <= 0.05:  # noqa: PLR2004 - too soft to tell one sound from another
            return 0.25 * level, 0.0, 0.0
        power = np.abs(np.fft.rfft(samples * self._window, _FFT_SIZE)) ** 2
        e0, e1, e2, e3, e4 = (float(power[band].sum()) + 1e-12 for band in self._bands)
        voiced = e0 + e1 + e2 + e3
        teeth = _clip((e4 / (voiced + e4) - 0.25) / 0.4, 0.0, 1.0)
        openness = min(1.0, 1.3 * (e1 + 0.6 * e2) / voiced)
        frontness = float(np.log10((e3 + 0.05 * e0) / (e1 + 0.6 * e2 + 0.05 * e0)))
        open_target = min(1.0, level * (0.25 + 0.95 * openness) * (1 - 0.75 * teeth))
        wide_target = _clip(0.9 * frontness, -1.0, 1.0)
        if wide_target < 0:
            wide_target *= 1 - 0.6 * open_target  # "ah" sounds as dark as "oo", but is not round
        return open_target, wide_target, teeth

    def _level(self, rms: float) -> float:
        """Loudness relative to the speaker's usual one, 0 to 1."""
        follow = (
            0.995 * self._reference
            if rms < self._reference
            else self._reference + 0.2 * (rms - self._reference)
        )
        self._reference = max(_MIN_LEVEL, follow)
        return float(min(1.0, rms / self._reference) ** 0.7) if rms > _SILENCE_RMS else 0.0


def _approach(value: float, target: float, share: float) -> float:
    return value + share * (target - value)


def _clip(value: float, low: float, high: float) -> float:
    return min(high, max(low, value))
