"""What moves in a face: eyes, brows, mouth. Drawn anew on every picture, so kept to cheap flat shapes."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from agenthuman_plugins.emulator.face._canvas import Color, color, fixed, mix, shade
from agenthuman_plugins.emulator.face._geometry import Path, Points, ellipse, moved, ribbon, smooth
from agenthuman_plugins.emulator.face._look import Look
from agenthuman_plugins.emulator.face._motion import Pose
from agenthuman_plugins.emulator.face._palette import BLACK, Palette
from agenthuman_plugins.emulator.mouth import MouthShape

Pixels = npt.NDArray[np.uint8]

CAVITY: Color = (36.0, 22.0, 62.0)  # the inside of the mouth
EYES_AREA = (
    -92.0,
    -70.0,
    92.0,
    30.0,
)  # left, top, right, bottom in face units: all that eyes and brows touch
MOUTH_AREA = (-60.0, 64.0, 60.0, 146.0)

_SHIFT = 4
_EYE_X, _EYE_Y = 45.0, -6.0
_EYE_HALF = 24.0  # half the width of an eye
_MOUTH_Y = 92.0
_CLOSED_GAP = 1.6  # face units; lips further apart show what is between
_TEETH = color("#f6f3ee")
_SCLERA = color("#f7f5f1")


class Features:
    """The moving features of a look.

    Args:
        look: Whose.
        scale: Pixels per face unit.
        origin: Pixel position of the face's origin.
    """

    def __init__(self, look: Look, scale: float, origin: tuple[float, float]) -> None:
        self._look = look
        self._palette = Palette(look)
        self._scale = scale
        self._origin = np.asarray(origin)
        palette = self._palette
        brow = shade(palette.hair, 0.72) if look.hair_color < "#b" else shade(palette.hair, 0.52)
        self._brow = mix(brow, palette.skin, 0.12)
        self._lash = mix(palette.hair_dark, (18, 12, 14), 0.72)

    def draw_eyes(self, pixels: Pixels, pose: Pose) -> None:
        """Draw eyes, brows and glasses into the painted head, `(H, W, 3)` BGR; stays inside `EYES_AREA`."""
        for side in (-1, 1):
            self._draw_eye(pixels, side, pose)
            self._draw_brow(pixels, side, pose)
        if self._look.glasses:
            self._draw_glasses(pixels)

    def _fill(self, pixels: Pixels, path: Path, paint: Color) -> None:
        cv2.fillPoly(pixels, [fixed(path * self._scale + self._origin)], paint, cv2.LINE_AA, _SHIFT)

    def _clipped(self, pixels: Pixels, outline: Path, shapes: Sequence[tuple[Path, Color]]) -> None:
        """Fill the outline with shapes that do not show beyond it."""
        corners = outline * self._scale + self._origin
        left, top = np.floor(corners.min(axis=0)).astype(int) - 2
        right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 2
        patch = pixels[top:bottom, left:right]
        inside = patch.copy()
        offset = self._origin - (left, top)
        for path, paint in shapes:
            cv2.fillPoly(inside, [fixed(path * self._scale + offset)], paint, cv2.LINE_AA, _SHIFT)
        coverage = np.zeros(patch.shape[:2], np.uint8)
        cv2.fillPoly(coverage, [fixed(corners - (left, top))], 255, cv2.LINE_AA, _SHIFT)
        weight = coverage.astype(np.float32) / 255
        patch[:] = cv2.blendLinear(inside, patch.copy(), weight, 1 - weight)

    def _draw_eye(self, pixels: Pixels, side: int, pose: Pose) -> None:
        palette, lashes = self._palette, self._look.lashes
        u = np.linspace(-1, 1, 17)  # from the inner to the outer corner
        chord = _EYE_Y + 1.6 - 2.6 * u
        arch = np.sqrt(1 - u**2)
        lower = chord + 8.6 * arch * (1 + 0.12 * u)
        raised = chord - 13.6 * arch * (1 - 0.14 * u)
        upper = raised + (lower - raised) * pose.blink
        x = side * (_EYE_X + _EYE_HALF * u)
        crease = np.column_stack([x, raised - 5.5 - 1.5 * arch + 3.0 * pose.blink])
        self._fill(pixels, ribbon(_points(crease[1::3]), [0.8, 1.7, 1.9, 1.2]), palette.skin_deep)
        under = np.column_stack([x, lower + 3.4])
        self._fill(
            pixels, ribbon(_points(under[3:-2:3]), [0.4, 1.2, 0.4]), mix(palette.skin, palette.skin_deep, 0.4)
        )
        opening = np.vstack([np.column_stack([x, upper]), np.column_stack([x, lower])[::-1]])
        if pose.blink < 0.9:  # noqa: PLR2004 - beyond, lashes cover the slit
            center_x, center_y = side * _EYE_X + pose.gaze[0] - side * 0.8, _EYE_Y - 1.2 + pose.gaze[1]
            shadow = np.vstack([np.column_stack([x, upper]), np.column_stack([x, upper + 4.2])[::-1]])
            self._clipped(
                pixels,
                opening,
                [
                    (opening, _SCLERA),
                    (ellipse(center_x, center_y, 12.6, 12.6), shade(palette.eyes, 0.42)),
                    (ellipse(center_x, center_y, 11.1, 11.1), palette.eyes),
                    (ellipse(center_x, center_y + 3.6, 7.8, 5.8), shade(palette.eyes, 1.3)),
                    (ellipse(center_x, center_y, 5.4, 5.4), (16, 12, 12)),
                    (shadow, mix(palette.skin_deep, self._lash, 0.45)),
                    (ellipse(center_x - 3.6, center_y - 4.4, 2.9, 2.9), (255, 255, 255)),
                    (
                        ellipse(center_x + 3.4, center_y + 4.0, 1.3, 1.3),
                        mix(palette.eyes, (255, 255, 255), 0.7),
                    ),
                ],
            )
        lid = np.column_stack([x, upper - 0.6])[::2]
        if lashes > 0.5:  # noqa: PLR2004 - a wing
            lid = np.vstack([lid, (side * (_EYE_X + _EYE_HALF + 4.5 * lashes), upper[-1] - 3.6 * lashes)])
        weight = 2.2 + 1.7 * lashes
        widths = [weight * share for share in (0.35, 0.7, 0.95, 1.05, 1.1, 1.1, 1.05, 1.0, 0.75)]
        self._fill(pixels, ribbon(_points(lid), [*widths, 0.3] if lashes > 0.5 else widths), self._lash)  # noqa: PLR2004

    def _draw_brow(self, pixels: Pixels, side: int, pose: Pose) -> None:
        weight = 1.12 - 0.42 * self._look.lashes
        lift = pose.brows + 2.0 * self._look.lashes
        points = [(-22, -34.5), (-8, -39), (10, -40.5), (29, -31)]
        spine = [(side * (_EYE_X + x), y - lift) for x, y in points]
        self._fill(pixels, ribbon(spine, [6.2 * weight, 8.6 * weight, 7.2 * weight, 1.4]), self._brow)

    def _draw_glasses(self, pixels: Pixels) -> None:
        frame: Color = mix((40, 34, 38), self._palette.hair_dark, 0.2)
        thickness = max(1, round(3.4 * self._scale))
        bridge = smooth([(-15, -9), (0, -14), (15, -9)], closed=False)
        lines = [bridge]
        for side in (-1, 1):
            lens = smooth([(-31, -20), (0, -25), (30, -21), (33, 0), (24, 20), (0, 24), (-23, 20), (-33, 0)])
            lines.append(moved(np.vstack([lens, lens[:1]]), side * (_EYE_X + 2), _EYE_Y + 2))
            lines.append(np.array([(side * 79.0, -14.0), (side * 92.0, -18.0)]))
        for line in lines:
            path = fixed(line * self._scale + self._origin)
            cv2.polylines(pixels, [path], False, frame, thickness, cv2.LINE_AA, _SHIFT)

    def draw_mouth(self, pixels: Pixels, shape: MouthShape) -> None:
        """Draw the mouth into the painted head, `(H, W, 3)` BGR; stays inside `MOUTH_AREA`."""
        palette = self._palette
        opening, wide, teeth = min(shape.open, 1.0), shape.wide, shape.teeth
        half = 37 + (8 if wide > 0 else 13) * wide - 3 * opening
        gap = max(30 * opening, 10 * min(1.0, 1.6 * teeth))
        u = np.linspace(-1, 1, 25)
        bow = 1 - u**2
        smile = 5.0 * np.abs(u) ** 2.2 * (1 - 0.6 * opening)
        # The upper lip hardly moves; the jaw takes the lower one down.
        upper = _MOUTH_Y - 0.16 * gap * bow - smile + 1.0 * np.exp(-((u / 0.22) ** 2))
        lower = np.maximum(upper, _MOUTH_Y + 0.84 * gap * bow**0.62 - smile)
        x, inner_x = half * u, (half - 2.5) * u
        full = 1 + 0.25 * max(0.0, -wide)
        cupid = 2.6 * np.exp(-((u / 0.16) ** 2))
        top = upper - full * ((9.5 - 2.5 * opening) * (1 - np.abs(u) ** 1.8) ** 0.8 - cupid)
        bottom = lower + full * (12.5 - 3.0 * opening) * bow**0.72
        lip_top = shade(palette.lips, 0.86)
        self._fill(pixels, _band(x, top, upper + 0.6), lip_top)
        self._fill(pixels, _band(x, lower - 0.6, bottom), palette.lips)
        middle = (lower + bottom) / 2 - 0.8
        gleam = _points(np.column_stack([x * 0.62, middle])[4:-4:4])
        self._fill(pixels, ribbon(gleam, [0.4, 2.6, 3.2, 2.6, 0.4]), shade(palette.lips, 1.18))
        if gap > _CLOSED_GAP:
            inside = _band(inner_x, upper, lower)
            shapes: list[tuple[Path, Color]] = [(inside, CAVITY)]
            if gap > 11:  # noqa: PLR2004 - else the teeth hide it
                shapes.append(
                    (ellipse(0, _MOUTH_Y + 0.84 * gap + 3, half * 0.58, 0.42 * gap), color("#b65a62"))
                )
            row = min(0.42 * gap, 8.0) if teeth < 0.35 else 0.62 * gap  # noqa: PLR2004
            dental = _band(inner_x * 0.88, upper - 2, upper + row * bow**0.25)
            shapes.append((dental, shade(_TEETH, 0.97 if gap > 6 else 0.93)))  # noqa: PLR2004
            if teeth >= 0.35:  # noqa: PLR2004 - s, f: the lower row comes up
                shapes.append(
                    (_band(inner_x * 0.8, lower - 0.34 * gap * bow**0.25, lower + 2), shade(_TEETH, 0.86))
                )
            self._clipped(pixels, inside, shapes)
        line = _points(np.column_stack([x, (upper + lower) / 2])[::3])
        if gap <= _CLOSED_GAP:
            self._fill(
                pixels, ribbon(line, [1.2, 2.2, 2.0, 1.6, 2.0, 1.6, 2.0, 2.2, 1.2]), mix(lip_top, BLACK, 0.52)
            )
        for side in (-1, 1):
            corner: Points = [(side * (half - 4), _MOUTH_Y - 4.0), (side * (half + 3), _MOUTH_Y - 6.6)]
            self._fill(pixels, ribbon(corner, [1.2, 2.6]), mix(palette.skin_deep, lip_top, 0.4))


def _band(x: npt.NDArray[np.float64], top: npt.NDArray[np.float64], bottom: npt.NDArray[np.float64]) -> Path:
    return np.vstack([np.column_stack([x, top]), np.column_stack([x, bottom])[::-1]])


def _points(path: Path) -> Points:
    return [(float(x), float(y)) for x, y in path]
