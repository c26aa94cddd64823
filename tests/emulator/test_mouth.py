"""The mouth follows the sound."""

import numpy as np
import pytest

from agenthuman_plugins.emulator.mouth import BLOCK_SAMPLES, CLOSED, SAMPLE_RATE, Mouth, MouthShape

FORMANTS_HZ = {"a": (750, 1_250), "i": (300, 2_300), "u": (320, 700)}


def vowel(name: str, *, level: float = 0.12, duration_s: float = 0.4) -> np.ndarray:
    """Harmonics of 120 Hz, strongest at the formants of a vowel."""
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros(len(t))
    for hertz in range(120, 4_000, 120):
        gain = sum(np.exp(-(((hertz - formant) / 150) ** 2)) for formant in FORMANTS_HZ[name])
        sound += gain * np.sin(2 * np.pi * hertz * t)
    return level * sound / np.sqrt((sound**2).mean())


def hiss(*, level: float = 0.08, duration_s: float = 0.4) -> np.ndarray:
    """Noise above 4 kHz, as in "s"."""
    noise = np.random.default_rng(1).normal(size=round(duration_s * SAMPLE_RATE))
    spectrum = np.fft.rfft(noise)
    spectrum[np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE) < 4_000] = 0
    sound = np.fft.irfft(spectrum, len(noise))
    return level * sound / np.sqrt((sound**2).mean())


def settle(sound: np.ndarray) -> MouthShape:
    """The shape at the end of a sound."""
    mouth = Mouth()
    for start in range(0, len(sound) - BLOCK_SAMPLES + 1, BLOCK_SAMPLES):
        shape = mouth.update(sound[start : start + BLOCK_SAMPLES])
    return shape


def test_silence_keeps_the_mouth_closed() -> None:
    """Without sound the mouth stays shut."""
    assert settle(np.zeros(6_400)) == CLOSED


def test_open_vowel_opens_more_than_closed_ones() -> None:
    """An "a" opens the mouth wide, an "i" and an "u" much less."""
    assert settle(vowel("a")).open > 0.7
    assert settle(vowel("a")).open > settle(vowel("i")).open + 0.2
    assert settle(vowel("a")).open > settle(vowel("u")).open + 0.1


def test_lips_spread_for_i_and_round_for_u() -> None:
    """The second formant decides between spread and rounded lips."""
    assert settle(vowel("i")).wide > 0.2
    assert settle(vowel("u")).wide < -0.3


def test_open_vowel_is_less_round_than_u() -> None:
    """An "a" is dark too, but not spoken with rounded lips."""
    assert settle(vowel("a")).wide > settle(vowel("u")).wide


def test_hiss_shows_teeth_and_vowels_do_not() -> None:
    """An "s" is spoken through the teeth, with hardly an opening."""
    assert settle(hiss()).teeth > 0.8
    assert settle(hiss()).open < 0.3
    assert settle(vowel("a")).teeth < 0.05


def test_soft_voice_moves_the_lips_as_well() -> None:
    """The mouth adapts to how loud a speaker is."""
    assert settle(vowel("a", level=0.02, duration_s=30)).open > 0.6


def test_mouth_closes_soon_after_speech_and_at_once_when_told() -> None:
    """After the sound the mouth falls shut within five blocks; `close` does it in none."""
    mouth = Mouth()
    speech = vowel("a")
    for start in range(0, len(speech) - BLOCK_SAMPLES + 1, BLOCK_SAMPLES):
        mouth.update(speech[start : start + BLOCK_SAMPLES])
    silence = np.zeros(BLOCK_SAMPLES)
    assert mouth.update(silence).open > 0.2
    falling = [mouth.update(silence).open for _ in range(4)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.1
    mouth.update(speech[:BLOCK_SAMPLES])
    mouth.close()
    assert mouth.update(silence) == CLOSED


@pytest.mark.parametrize("block_samples", [320, 640, 1_000])
def test_int16_and_float_mean_the_same(block_samples: int) -> None:
    """Integer PCM gives the shape of the same sound as floats, at every block length."""
    sound = vowel("a")[:block_samples]
    pcm = np.round(sound * 32_768).astype(np.int16)
    by_float, by_int = Mouth(block_samples).update(sound), Mouth(block_samples).update(pcm)
    assert by_int.open == pytest.approx(by_float.open, abs=0.01)
    assert by_int.wide == pytest.approx(by_float.wide, abs=0.02)


@pytest.mark.parametrize(
    "sound", [np.ones(640), -np.ones(640), np.tile([1.0, -1.0], 320)], ids=["dc", "-dc", "nyquist"]
)
def test_extreme_sound_stays_in_range(sound: np.ndarray) -> None:
    """No sound makes a shape that a face cannot draw."""
    shape = Mouth().update(sound)
    assert 0 <= shape.open <= 1
    assert -1 <= shape.wide <= 1
    assert 0 <= shape.teeth <= 1
