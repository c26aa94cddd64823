"""The room behind the avatar, out of focus."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from agenthuman_plugins.emulator.face._canvas import Canvas, Color, color, mix, shade
from agenthuman_plugins.emulator.face._geometry import ellipse, smooth
from agenthuman_plugins.emulator.face._look import Look, Room

_CANVAS_SIDE = 400  # pixels
_DITHER = 1.2  # levels; hides the steps of a soft gradient from the eye and from the video codec

Picture = npt.NDArray[np.uint8]


def paint_room(width: int, height: int, scale: float, origin: tuple[float, float], look: Look) -> Picture:
    """Paint what is behind; covers the whole picture.

    Args:
        width: Pixels.
        height: Pixels.
        scale: Pixels per face unit.
        origin: Pixel position of the face's origin.
        look: Whose room.

    Returns:
        `(height, width, 3)` BGR.
    """
    # Nothing here is sharp, so a small canvas is enough.
    less = min(1.0, _CANVAS_SIDE / max(width, height))
    canvas = Canvas(
        round(width * less), round(height * less), scale * less, (origin[0] * less, origin[1] * less)
    )
    light, dark = (color(c) for c in look.room_colors)
    rows, columns = canvas.alpha.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    center_x, center_y = canvas.origin[0] - 0.10 * columns, canvas.origin[1] - 0.05 * rows
    far = np.hypot((x - center_x) / (0.75 * columns), (y - center_y) / (0.80 * rows))
    share = np.clip(far, 0, 1.1)[..., None] / 1.1
    canvas.color[:] = np.array(light, np.float32) * (1 - share) + np.array(dark, np.float32) * share
    canvas.alpha[:] = 1
    _ROOMS[look.room](canvas, light, dark)
    vignette = 1 - 0.22 * np.clip(far - 0.6, 0, 1)[..., None]
    painted = cv2.resize(canvas.color * vignette, (width, height), interpolation=cv2.INTER_LINEAR)
    noise = np.random.default_rng(1).uniform(-_DITHER, _DITHER, (height, width, 1))
    return np.asarray(np.clip(painted + noise, 0, 255).round(), np.uint8)


def _box(left: float, top: float, right: float, bottom: float) -> npt.NDArray[np.float64]:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def _studio(canvas: Canvas, light: Color, dark: Color) -> None:
    canvas.fill(ellipse(-170, -120, 210, 210), shade(light, 1.25), blur=70, opacity=0.5)
    canvas.fill(ellipse(240, 190, 170, 230), dark, blur=70, opacity=0.5)


def _window(canvas: Canvas, light: Color, dark: Color) -> None:
    canvas.fill(_box(-420, -320, 420, 520), mix(dark, light, 0.45), opacity=0.75)
    bright = (250.0, 252.0, 248.0)
    for left in (-330, -212, 196, 314):
        for top, bottom in ((-300, -110), (-96, 96)):
            canvas.fill(
                _box(left, top, left + 104, bottom), bright, mix(bright, light, 0.5), blur=9, opacity=0.85
            )
    for x, y, size in ((-300, 52, 60), (-236, 74, 46), (286, 40, 56), (350, 62, 50)):
        canvas.fill(ellipse(x, y, size, size * 0.8), (128.0, 160.0, 138.0), blur=16, opacity=0.55)
    canvas.fill(_box(-420, 108, 420, 128), shade(light, 1.05), blur=6, opacity=0.8)


def _evening(canvas: Canvas, light: Color, dark: Color) -> None:
    canvas.fill(_box(-420, -320, 420, 520), dark, mix(dark, (20, 20, 30), 0.3), blur=30, opacity=0.72)
    random = np.random.default_rng(5)
    tones = (light, (90.0, 150.0, 245.0), (210.0, 180.0, 150.0), (130.0, 110.0, 220.0))
    for index in range(34):
        x, y = random.uniform(-380, 380), random.uniform(-270, 210)
        radius = random.uniform(12, 34)
        tone = tones[index % len(tones)]
        canvas.fill(ellipse(x, y, radius, radius), tone, blur=3.2, opacity=random.uniform(0.14, 0.4))
        canvas.fill(ellipse(x, y, radius * 0.86, radius * 0.86), tone, blur=2.4, opacity=0.10)


def _shelf(canvas: Canvas, light: Color, dark: Color) -> None:
    random = np.random.default_rng(9)
    wall = mix(light, dark, 0.35)
    canvas.fill(_box(-460, -340, 460, 560), wall, mix(wall, dark, 0.5), opacity=0.8)
    spines = ("#8c4b3c", "#3f5d73", "#c7a05a", "#5d6f4e", "#e0d4c0", "#6a4a63", "#2f3a4a", "#b9786a")
    for shelf in (-170, 10, 190):
        x = -440.0
        while x < 440:  # noqa: PLR2004 - beyond the widest picture
            width, tall = random.uniform(14, 34), random.uniform(88, 140)
            if random.random() < 0.82:  # noqa: PLR2004 - some gaps
                tone = mix(color(spines[random.integers(len(spines))]), wall, 0.28)
                canvas.fill(_box(x, shelf - tall, x + width, shelf), tone, shade(tone, 0.85), blur=4.5)
            x += width + 2
        canvas.fill(_box(-460, shelf, 460, shelf + 14), shade(dark, 0.9), blur=4.5)
        canvas.fill(_box(-460, shelf + 14, 460, shelf + 34), (0, 0, 0), blur=9, opacity=0.28)
    canvas.fill(ellipse(-60, -80, 260, 200), light, blur=90, opacity=0.28)


def _garden(canvas: Canvas, light: Color, dark: Color) -> None:
    random = np.random.default_rng(12)
    canvas.fill(ellipse(-120, -150, 260, 170), (235.0, 248.0, 244.0), blur=80, opacity=0.6)
    for index in range(46):
        side = -1 if index % 2 else 1
        x, y = side * random.uniform(150, 400), random.uniform(-280, 330)
        length, turn = random.uniform(40, 92), random.uniform(-70, 70) + 90 * side
        leaf = smooth([(0, 0), (length * 0.5, -length * 0.17), (length, 0), (length * 0.5, length * 0.17)])
        angle = np.deg2rad(turn)
        rotation = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
        tone = mix(dark, light, random.uniform(0, 0.7))
        canvas.fill(leaf @ rotation + (x, y), tone, blur=random.uniform(4, 9), opacity=0.6)


_ROOMS: dict[Room, Callable[[Canvas, Color, Color], None]] = {
    "studio": _studio, "window": _window, "evening": _evening, "shelf": _shelf, "garden": _garden,
}  # fmt: skip
