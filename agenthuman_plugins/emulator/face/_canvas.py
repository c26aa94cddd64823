"""Painting in face units on a transparent layer: flat, graded, soft and clipped shapes."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from agenthuman_plugins.emulator.face._geometry import Path

Color = tuple[float, float, float]  # BGR, 0 to 255
Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.float32]  # 0 to 1, as large as its layer

_SHARP = 0.3  # pixels; a softer edge than that is worth a blur
_WIDE_BLUR = 4.0  # pixels
_SHIFT = 4  # fractional bits of coordinates: edges between pixels


def color(hexadecimal: str) -> Color:
    """Read `#rrggbb`."""
    red, green, blue = bytes.fromhex(hexadecimal.removeprefix("#"))
    return (blue, green, red)


def mix(one: Color, other: Color, share: float) -> Color:
    """Blend `share` of the other colour in."""
    return tuple(a + (b - a) * share for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def shade(base: Color, factor: float) -> Color:
    """Make a colour darker (below 1) or lighter (above 1)."""
    return mix(base, (0, 0, 0), 1 - factor) if factor <= 1 else mix(base, (255, 255, 255), factor - 1)


def fixed(path: Path) -> npt.NDArray[np.int32]:
    """Pixel coordinates as OpenCV takes them with `shift=_SHIFT`."""
    return np.round(path * (1 << _SHIFT)).astype(np.int32)


class Canvas:
    """A layer of premultiplied colour and coverage.

    Args:
        width: Pixels.
        height: Pixels.
        scale: Pixels per face unit.
        origin: Pixel position of the face's origin.
    """

    def __init__(self, width: int, height: int, scale: float, origin: tuple[float, float]) -> None:
        self.color = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        self.scale = scale
        self.origin = np.asarray(origin, np.float64)

    def to_pixels(self, path: Path) -> Path:
        """Convert face units."""
        return np.asarray(path * self.scale + self.origin, np.float64)

    def mask(self, *paths: Path, blur: float = 0.0) -> Mask:
        """Cover the outlines; `blur` is the softness of the edge in face units."""
        coverage = np.zeros(self.alpha.shape, np.uint8)
        for path in paths:
            cv2.fillPoly(coverage, [fixed(self.to_pixels(path))], 255, cv2.LINE_AA, _SHIFT)
        return _soften(coverage, blur * self.scale)

    def fill(  # noqa: D417 - the rest is said above
        self,
        path: Path | Sequence[Path],
        top: Color,
        bottom: Color | None = None,
        *,
        blur: float = 0.0,
        opacity: float = 1.0,
        clip: Mask | None = None,
    ) -> None:
        """Paint an outline.

        Args:
            path: One outline or several that count as one.
            top: Colour, or the upper one of a gradient over the height of the outline.
            bottom: Lower colour of the gradient.
            clip: Where to paint at all.
        """
        paths = [path] if isinstance(path, np.ndarray) else list(path)
        outlines = [self.to_pixels(p) for p in paths]
        margin = 3 * blur * self.scale + 2
        corners = np.vstack(outlines)
        height, width = self.alpha.shape
        left, upper = np.clip(np.floor(corners.min(axis=0) - margin), 0, (width, height)).astype(int)
        right, lower = np.clip(np.ceil(corners.max(axis=0) + margin), 0, (width, height)).astype(int)
        if left >= right or upper >= lower:
            return
        coverage = np.zeros((lower - upper, right - left), np.uint8)
        for outline in outlines:
            cv2.fillPoly(coverage, [fixed(outline - (left, upper))], 255, cv2.LINE_AA, _SHIFT)
        weight = _soften(coverage, blur * self.scale) * np.float32(opacity)
        area = np.s_[upper:lower, left:right]
        if clip is not None:
            weight *= clip[area]
        paint: Pixels = np.array(top, np.float32)[None, None]
        if bottom is not None:
            first, last = corners[:, 1].min(), corners[:, 1].max()
            rows = np.clip((np.arange(upper, lower) - first) / (last - first), 0, 1)[:, None, None]
            paint = (np.asarray(top) + np.subtract(bottom, top) * rows).astype(np.float32)
        keep = 1 - weight
        self.color[area] = self.color[area] * keep[..., None] + paint * weight[..., None]
        self.alpha[area] = self.alpha[area] * keep + weight

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Premultiplied BGR and coverage, `(H, W, 4)`."""
        return np.dstack([self.color, self.alpha * 255]).clip(0, 255).round().astype(np.uint8)


def _soften(coverage: npt.NDArray[np.uint8], sigma: float) -> Mask:
    mask: Mask = np.asarray(coverage, np.float32) / np.float32(255)
    if sigma <= _SHARP:
        return mask
    less = int(sigma / _WIDE_BLUR)
    if less <= 1:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)
    # A wide blur has no detail: blur a small copy, which takes a fraction of the time.
    rows, columns = mask.shape
    small = cv2.resize(mask, (-(-columns // less), -(-rows // less)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / less), (columns, rows)), np.float32)
