"""How far the lips are from the voice, from what is seen and heard: the opening of the mouth, and the loudness.

Both are noted with the moment at which they appear, on one clock. What was said is known, so each is compared with
itself: where in time the mouth of a stretch of speech was seen, and where its voice was heard, is the difference between
the two. To compare the mouth with the voice would not do: they are alike enough to find each other within a second, and
in a sentence of even syllables also a syllable away.

It leaves out what nobody could judge: a stretch in which the mouth hardly moves, and one that was so torn that it is
not known again. The share of those that count is part of the result.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agenthuman_plugins.emulator.face import Face, Look
from agenthuman_plugins.emulator.mouth import Mouth

_STEP_S = 0.01
_WINDOW_S = 0.8
_HOP_S = 0.1
_MAX_LAG_S = 0.5
_PROBE_S = 2.0  # of speech, by which a reply is found
_MIN_LOUDNESS = 0.01
_STILL = 0.2  # of the mouth's usual movement
# Of 1, which is the very same curve; 0 is as far from it as its own mean. A voice comes back nearly as it was, unless it
# was torn, and then each half of it has a place of its own.
_MIN_FIT_OF_VOICE = 0.7
_MIN_FIT_OF_MOUTH = 0.3
_DISTINCT = 0.2  # by which the best place must be better than any other
_APART_S = 0.08  # from which on a place is another one
_LEAD_S = 0.5  # of silence around the speech
_FIRST_S = 1.0
_RATE, _FPS = 16_000, 25

Curve = npt.NDArray[np.float64]


@dataclass
class Lips:
    """What was seen and heard; times in seconds.

    Attributes:
        seen: Moment and openness of each picture.
        heard: Moment and loudness, every 10 ms or so.
    """

    seen: list[tuple[float, float]] = field(default_factory=list)
    heard: list[tuple[float, float]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> "Lips":
        """What was seen and heard in a span of time."""
        return Lips(*([p for p in points if begin <= p[0] <= end] for points in (self.seen, self.heard)))


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a reply.

    Attributes:
        at_s: Where it begins, from the reply's first sample.
        voice_behind_s: How much later its voice came than its lips; `None` if that cannot be told.
    """

    at_s: float
    voice_behind_s: float | None

    @property
    def is_first(self) -> bool:
        """Whether it lies within the first second of the reply."""
        return self.at_s + _WINDOW_S <= _FIRST_S + _STEP_S


def compare(reply: Lips, exact: Lips) -> list[Stretch]:
    """Judge a reply, stretch by stretch.

    Args:
        reply: What came of it, silence around it included. It may have been cut; then it ends where it was.
        exact: The same speech `in_step`.
    """
    begin = max(reply.seen[0][0], reply.heard[0][0])
    grid = np.arange(begin, min(reply.seen[-1][0], reply.heard[-1][0]), _STEP_S)
    mouth, voice = _mouth(reply, grid), _voice(reply, grid)
    exact_grid = np.arange(0, min(exact.seen[-1][0], exact.heard[-1][0]), _STEP_S)
    exact_mouth, exact_voice = _mouth(exact, exact_grid), _voice(exact, exact_grid)
    offset = _find(exact_voice, voice)
    length = min(len(exact_grid), len(grid) - offset)  # of the reply, as far as it came
    exact_mouth, exact_voice = exact_mouth[:length], exact_voice[:length]
    # The browser looks at fewer pixels and has a volume of its own.
    mouth *= _level(exact_mouth) / _level(mouth[max(offset, 0) :])
    voice *= _level(exact_voice) / _level(voice[max(offset, 0) :])
    width, hop, reach = _steps(_WINDOW_S), _steps(_HOP_S), _steps(_MAX_LAG_S)
    stretches = []
    for start in range(_steps(_LEAD_S - _WINDOW_S / 4), length - width - reach, hop):
        spoken, moved = exact_voice[start : start + width], exact_mouth[start : start + width]
        from_ = start + offset - reach
        if spoken.max() < _MIN_LOUDNESS or moved.std() < _STILL * exact_mouth.std() or from_ < 0:
            continue
        span = slice(from_, from_ + width + 2 * reach)
        heard_at = _place(spoken, voice[span], _MIN_FIT_OF_VOICE)
        seen_at = _place(moved, mouth[span], _MIN_FIT_OF_MOUTH)
        lag_s = None
        if heard_at is not None and seen_at is not None:
            lag_s = (heard_at - seen_at) * _STEP_S
            offset += heard_at - reach  # a voice with holes gets later and later
        stretches.append(Stretch(start * _STEP_S - _LEAD_S, lag_s))
    return stretches


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
    silence = bytes(2 * round(_RATE * _LEAD_S))
    # Blocks are counted from the first sample of speech, as the avatar does.
    ahead = len(silence) // block * block
    pcm = silence[:ahead] + pcm + silence
    shift_s = _LEAD_S - ahead / 2 / _RATE
    for number, start in enumerate(range(0, len(pcm) - block + 1, block)):
        shape = mouth.update(np.frombuffer(pcm[start : start + block], np.int16))
        bgr: npt.NDArray[np.uint8] = face.draw(number / _FPS, shape)
        lips.seen.append((number / _FPS + shift_s, openness(bgr[..., ::-1].tobytes(), *size)))
    piece = round(2 * _RATE * _STEP_S)
    lips.heard = [
        (start / 2 / _RATE + shift_s, loudness(pcm[start : start + piece]))
        for start in range(0, len(pcm), piece)
    ]
    return lips


def _mouth(lips: Lips, grid: Curve) -> Curve:
    """A picture stays until the next one."""
    at, openness_ = np.array(lips.seen).T
    return np.asarray(openness_[np.maximum(np.searchsorted(at, grid, side="right") - 1, 0)])


def _voice(lips: Lips, grid: Curve) -> Curve:
    at, loudness_ = np.array(lips.heard).T
    return np.convolve(np.interp(grid, at, loudness_), np.ones(4) / 4, mode="same")


def _find(exact: Curve, heard: Curve) -> int:
    """Where a reply begins, by the part of it that is known best: any may be torn."""
    width, best, offset = min(_steps(_PROBE_S), len(heard)), -1.0, 0
    for start in range(_steps(_LEAD_S), max(len(exact) - width, _steps(_LEAD_S) + 1), width // 2):
        probe = exact[start : start + width]
        alike = _likeness(probe, heard)
        if probe.max() >= _MIN_LOUDNESS and alike.size and alike.max() > best:
            best, offset = float(alike.max()), int(alike.argmax()) - start
    return offset


def _place(part: Curve, whole: Curve, min_fit: float) -> int | None:
    """Where a curve holds a part; `None` if that is nowhere, or not certain."""
    if len(whole) < len(part):
        return None
    fit = _fit(part, whole)
    best = int(fit.argmax())
    inner = fit[1:-1]
    peaks = 1 + np.flatnonzero((inner >= fit[:-2]) & (inner >= fit[2:]))
    others = fit[peaks[np.abs(peaks - best) > _steps(_APART_S)]]
    distinct = not others.size or fit[best] - others.max() >= _DISTINCT
    return best if fit[best] >= min_fit and distinct else None


def _fit(part: Curve, whole: Curve) -> Curve:
    """How much of a curve is explained at each place of another one (R²)."""
    squares = np.convolve(whole**2, np.ones(len(part)), "valid")
    error = (part**2).sum() - 2 * np.correlate(whole, part, "valid") + squares
    return np.asarray(1 - error / (len(part) * part.var()))


def _likeness(part: Curve, whole: Curve) -> Curve:
    """The same, whatever the volume (correlation)."""
    count, ones = len(part), np.ones(len(part))
    mean = np.convolve(whole, ones, "valid") / count
    spread = np.sqrt(np.maximum(np.convolve(whole**2, ones, "valid") / count - mean**2, 1e-12))
    return np.asarray(np.correlate(whole, part - part.mean(), "valid") / count / (part.std() or 1.0) / spread)


def _level(curve: Curve) -> float:
    """What a curve reaches where there is something."""
    high = curve[curve > curve.max() / 10]
    return float(np.quantile(high, 0.8)) if high.size else 1.0


def _steps(seconds: float) -> int:
    return round(seconds / _STEP_S)
