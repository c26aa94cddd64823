"""Reads a recorded file: pictures, voice, and how open the mouth is in each picture."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.demo._services import VIDEO_SIZE
from agenthuman_plugins.emulator.voice import Voice
from benchmarks import _lips

FPS = 25
_VOICED_RMS = 0.01
_MAX_RED, _MIN_RED_OVER_GREEN = 95, 22
_OPEN_PIXELS = 40  # at 640x480
_STEP_S = 0.01
_MAX_LAG_S = 0.4
_WINDOW_S = 1.2
_SILENCE_S = 0.5  # more than any pause within a sentence


@dataclass(frozen=True)
class Recording:
    """What is in a file; times in seconds of media time."""

    picture_times: npt.NDArray[np.float64]
    cavity: npt.NDArray[np.int64]  # pixels of the mouth's inside, per picture
    voice: npt.NDArray[np.float32]
    sample_rate: int
    codecs: tuple[str, str]

    @property
    def energy(self) -> npt.NDArray[np.float64]:
        return energy(self.voice, self.sample_rate)

    @property
    def speech(self) -> tuple[float, float]:
        return voiced_span(self.voice, self.sample_rate)

    @property
    def speeches(self) -> list[tuple[float, float]]:
        """First and last moment of each stretch of voice between silences."""
        voiced = np.flatnonzero(self.energy > _VOICED_RMS)
        pieces = np.split(voiced, np.flatnonzero(np.diff(voiced) > _SILENCE_S / _STEP_S) + 1)
        return [(float(piece[0] * _STEP_S), float((piece[-1] + 1) * _STEP_S)) for piece in pieces]

    @property
    def mouth_open(self) -> npt.NDArray[np.bool_]:
        return self.cavity > _OPEN_PIXELS

    def fps(self, begin_s: float, end_s: float) -> float:
        inside = (self.picture_times >= begin_s) & (self.picture_times < end_s)
        return float(inside.sum() / (end_s - begin_s))

    def median_lag_s(self) -> float:
        """How much later the mouth moves than the voice sounds: median over windows of the speech."""
        begin_s, end_s = self.speech
        grid = np.arange(0, len(self.energy)) * _STEP_S
        mouth = np.interp(grid, self.picture_times + 0.5 / FPS, self.cavity.astype(np.float64))
        loudness = np.convolve(self.energy, np.ones(4) / 4, mode="same")  # over the length of a picture
        lags = []
        for start_s in np.arange(begin_s - 0.1, end_s - _WINDOW_S + 0.1, 0.2):
            window = slice(int(max(start_s, 0) / _STEP_S), int((start_s + _WINDOW_S) / _STEP_S))
            lags.append(_lag(loudness, mouth, window))
        return float(np.median(lags))


def voice_behind_s(made: Recording, begin_s: float, end_s: float, text: str) -> float:
    """How much later the voice of one speech sounds than the mouth moves, by comparing each with what it should be."""
    steps = np.arange(len(made.energy)) * _STEP_S
    seen = list(zip(made.picture_times.tolist(), made.cavity.tolist(), strict=True))
    heard = list(zip(steps.tolist(), made.energy.tolist(), strict=True))
    speech = _lips.Lips(seen, heard).between(begin_s - 0.6, end_s + 0.6)
    exact = _lips.in_step(Voice().synthesize(text), VIDEO_SIZE, DEFAULT_AVATAR)
    lags = [stretch.voice_behind_s for stretch in _lips.compare(speech, exact)]
    return float(np.median([lag for lag in lags if lag is not None]))


def energy(voice: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float64]:
    """RMS per 10 ms."""
    length = round(sample_rate * _STEP_S)
    blocks = voice[: len(voice) // length * length].reshape(-1, length)
    return np.sqrt((blocks.astype(np.float64) ** 2).mean(axis=1))


def voiced_span(voice: npt.NDArray[np.float32], sample_rate: int) -> tuple[float, float]:
    """First and last moment of voice."""
    voiced = np.flatnonzero(energy(voice, sample_rate) > _VOICED_RMS)
    assert voiced.size, "no voice at all"
    return float(voiced[0] * _STEP_S), float((voiced[-1] + 1) * _STEP_S)


def _lag(loudness: npt.NDArray[np.float64], mouth: npt.NDArray[np.float64], window: slice) -> float:
    """The shift at which the mouth fits the loudness of one window best."""
    steps = range(-round(_MAX_LAG_S / _STEP_S), round(_MAX_LAG_S / _STEP_S) + 1)
    fits = []
    for step in steps:
        moved = np.roll(mouth, -step)[window]
        fits.append(float(np.corrcoef(loudness[window], moved)[0, 1]) if moved.std() > 0 else -1.0)
    return steps[int(np.argmax(fits))] * _STEP_S


def read(path: Path) -> Recording:
    times, cavity = [], []
    with av.open(str(path)) as container:
        codecs = container.streams.video[0].codec_context.name, container.streams.audio[0].codec_context.name
        for frame in container.decode(video=0):
            times.append(frame.time)
            cavity.append(_cavity_pixels(frame.to_ndarray(format="rgb24")))
    with av.open(str(path)) as container:
        sample_rate = container.streams.audio[0].rate
        blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return Recording(
        np.array(times), np.array(cavity), np.concatenate(blocks).astype(np.float32), sample_rate, codecs
    )


def _cavity_pixels(rgb: npt.NDArray[np.uint8]) -> int:
    height, width, _ = rgb.shape
    around_mouth = rgb[height // 2 : height * 4 // 5, width * 2 // 5 : width * 3 // 5].astype(np.int64)
    red, green, blue = (around_mouth[..., channel] for channel in range(3))
    # Dark and purple, as the inside of the mouth alone is: a beard is brown, lips and tongue are light.
    return int(((red < _MAX_RED) & (red - green > _MIN_RED_OVER_GREEN) & (blue > green + 4)).sum())
