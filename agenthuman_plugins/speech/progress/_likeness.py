"""How alike two sounds are.

Codecs change loudness and quality, and a jitter buffer moves the sound by milliseconds; the wave stays alike.
"""

import numpy as np
import numpy.typing as npt

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

ALIKE = 0.7  # of 1; speech that came through Opus reaches 0.9, another voice stays below 0.5
EQUAL = 0.98  # of the best: a vowel goes on to be alike its own beginning

Wave = npt.NDArray[np.float64]


def wave(pcm: bytes, sample_rate: int) -> Wave:
    """The samples (mono, 16-bit) at 16 kHz."""
    samples = np.frombuffer(pcm, np.int16).astype(float)
    if sample_rate == SPEECH_SAMPLE_RATE:
        return samples
    times = np.arange(0, len(samples) / sample_rate, 1 / SPEECH_SAMPLE_RATE)
    at_16_khz: Wave = np.interp(times * sample_rate, np.arange(len(samples)), samples)
    return at_16_khz


def likeness(sound: Wave, sample: Wave) -> Wave:
    """How alike `sample` is to each place of a `sound` that is no shorter: 1 where it differs in loudness alone."""
    places = len(sound) - len(sample) + 1
    size = 1 << (len(sound) - 1).bit_length()
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(sample, size).conj()
    correlation: Wave = np.fft.irfft(spectrum, size)[:places]
    energies = np.concatenate([[0.0], np.cumsum(sound**2)])
    energy = (energies[len(sample) :] - energies[:places]) * np.sum(sample**2)
    alike: Wave = correlation / np.sqrt(np.maximum(energy, 1.0))
    return alike
