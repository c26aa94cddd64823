"""Outlines in face units: x to the right, y down, the origin between the eyes; a head is some 330 units high."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Path = npt.NDArray[np.float64]  # (N, 2)
Points = Sequence[tuple[float, float]]

_STEPS = 10  # per control point: smooth at every size that a face is drawn in
_T = np.linspace(0, 1, _STEPS, endpoint=False)[:, None, None]
# The Catmull-Rom basis, one weight for each of four neighbouring points.
_BASIS = 0.5 * np.array(
    [2 * _T**2 - _T**3 - _T, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, _T**3 - _T**2]
)
_ROUND = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_CIRCLE = np.column_stack([np.cos(_ROUND), np.sin(_ROUND)])


def smooth(points: Points, *, closed: bool = True) -> Path:
    """Lay a Catmull-Rom spline through the points."""
    control = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.vstack([control[-1], control, control[:2]])
    else:
        padded = np.vstack([2 * control[0] - control[1], control, 2 * control[-1] - control[-2]])
    neighbours = (padded[:-3], padded[1:-2], padded[2:-1], padded[3:])
    curve = sum(weight * point for weight, point in zip(_BASIS, neighbours, strict=True))
    path = curve.transpose(1, 0, 2).reshape(-1, 2)
    return path if closed else np.vstack([path, control[-1]])


def mirrored(right: Points) -> Path:
    """Close an outline whose right half is given from top to bottom, both ends on the axis."""
    return smooth([*right, *((-x, y) for x, y in right[-2:0:-1])])


def ellipse(x: float, y: float, half_width: float, half_height: float, turn_deg: float = 0.0) -> Path:
    """An ellipse, turned clockwise."""
    path = _CIRCLE * (half_width, half_height)
    if turn_deg:
        turn = np.deg2rad(turn_deg)
        path @= np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    return moved(path, x, y)


def moved(path: Path, x: float, y: float) -> Path:
    """The same outline elsewhere."""
    return np.asarray(path + (x, y), np.float64)  # noqa: RUF005 - vectors are added


def ribbon(points: Points, widths: Sequence[float]) -> Path:
    """A brush stroke: a curve with a width at each point."""
    spine = smooth(points, closed=False)
    along = np.empty_like(spine)
    along[1:-1] = spine[2:] - spine[:-2]
    along[0], along[-1] = spine[1] - spine[0], spine[-1] - spine[-2]
    normal = along[:, ::-1] * (-1, 1) / (np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-9)
    width = np.interp(np.linspace(0, 1, len(spine)), np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    return np.vstack([spine + normal * width, (spine - normal * width)[::-1]])
