"""Life while nothing is said: a function of time alone, so that every picture can be drawn again."""

import math
from dataclasses import dataclass

_BLINK_EVERY_S = 3.6
_CLOSING_S = 0.08
_OPENING_S = 0.16
_GAZE_EVERY_S = 1.9
_SACCADE_S = 0.07  # eyes jump, they do not glide


@dataclass(frozen=True, slots=True)
class Pose:
    """How head and eyes are at a moment.

    Attributes:
        x: Shift of the head in face units.
        y: Shift of the head in face units.
        roll_deg: Tilt of the head.
        yaw: Turn to a side, -1 to 1.
        pitch: Nod, -1 (up) to 1 (down).
        breath: -1 (out) to 1 (in).
        blink: 0 (open) to 1 (closed).
        gaze: Shift of the pupils in face units.
        brows: How far the brows are raised, in face units.
    """

    x: float
    y: float
    roll_deg: float
    yaw: float
    pitch: float
    breath: float
    blink: float
    gaze: tuple[float, float]
    brows: float


def pose(t_s: float, speech: float) -> Pose:
    """How the avatar holds itself.

    Args:
        t_s: Time in seconds.
        speech: How much is being said, 0 to 1; a speaker nods along.
    """
    sin = math.sin
    yaw = 0.55 * sin(0.61 * t_s) + 0.35 * sin(1.07 * t_s + 1.3) + 0.10 * sin(2.31 * t_s)
    pitch = 0.45 * sin(0.83 * t_s + 0.6) + 0.30 * sin(1.71 * t_s) + 0.35 * speech
    return Pose(
        x=3.0 * yaw,
        y=1.5 * sin(1.25 * t_s - 0.7) + 2.2 * pitch,
        roll_deg=0.8 * sin(0.70 * t_s) + 0.4 * sin(1.13 * t_s + 2.0),
        yaw=yaw,
        pitch=pitch,
        breath=sin(2 * math.pi * t_s / 4.2),
        blink=_blink(t_s),
        gaze=_gaze(t_s),
        brows=round(2 * (2.0 * speech + 0.8 * sin(0.47 * t_s))) / 2,  # in steps: see `Face._update_features`
    )


def _chance(index: int, salt: int) -> float:
    """A number from 0 to 1 that belongs to an index."""
    mixed = (index * 2_654_435_761 + salt * 40_503) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2_246_822_519) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 13)) & 0xFFFF) / 0xFFFF


def _blink(t_s: float) -> float:
    index = math.floor(t_s / _BLINK_EVERY_S)
    start = 0.6 + _chance(index, 1) * (_BLINK_EVERY_S - 1.4)
    since = t_s - index * _BLINK_EVERY_S - start
    closed = _lid(since)
    if _chance(index, 2) < 0.2:  # noqa: PLR2004 - now and then twice
        closed = max(closed, _lid(since - 0.34))
    return closed


def _lid(since_s: float) -> float:
    if since_s < 0:
        return 0.0
    closing = since_s / _CLOSING_S
    return max(0.0, min(closing, 1 - (since_s - _CLOSING_S) / _OPENING_S))


def _gaze(t_s: float) -> tuple[float, float]:
    index = math.floor(t_s / _GAZE_EVERY_S)
    share = min(1.0, (t_s - index * _GAZE_EVERY_S) / _SACCADE_S)
    before, after = _target(index - 1), _target(index)
    return before[0] + (after[0] - before[0]) * share, before[1] + (after[1] - before[1]) * share


def _target(index: int) -> tuple[float, float]:
    if _chance(index, 3) < 0.6:  # noqa: PLR2004 - mostly at whoever is watching
        return 0.0, 0.0
    return 7.0 * (_chance(index, 4) - 0.5), 3.0 * (_chance(index, 5) - 0.5)
