"""Putting the picture together: room, body and head, each moved a little."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from agenthuman_plugins.emulator.face._canvas import Canvas
from agenthuman_plugins.emulator.face._features import EYES_AREA, MOUTH_AREA, Features
from agenthuman_plugins.emulator.face._look import Look
from agenthuman_plugins.emulator.face._motion import Pose, pose
from agenthuman_plugins.emulator.face._portrait import paint_body, paint_head
from agenthuman_plugins.emulator.face._room import paint_room
from agenthuman_plugins.emulator.mouth import MouthShape

_UNITS_WIDE, _UNITS_HIGH = 450.0, 512.0  # face units that must fit into the picture
_CENTER = 0.47  # height of the face's origin in the picture
_HEAD = (-182.0, -246.0, 182.0, 184.0)  # left, top, right, bottom in face units: all that moves with the head
_NECK_Y = 150.0  # the head tilts about it
_JAW_DROP = 8.0  # face units; how far the chin follows a wide open mouth
_SWAY = 10.0  # face units; no movement takes the head further
_BODY_STEPS = 8  # per pixel
_SHEET = 1.3  # the head is kept larger than it is shown, so that moving it does not blur it
_CELL = 8  # pixels; displacements are smooth, so they are computed on a coarse grid

_NO_MAP = np.empty(0, np.float32)  # x and y come in one map

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]


class Face:
    """A face to be drawn again and again.

    Construction paints the portrait, which takes some hundred milliseconds: keep it off an event loop.

    Args:
        width: Pixels.
        height: Pixels.
        look: Whose face.
    """

    def __init__(self, width: int, height: int, look: Look) -> None:
        scale = min(width / _UNITS_WIDE, height / _UNITS_HIGH)
        origin = (width / 2, height * _CENTER)
        self._scale = scale
        self._room = paint_room(width, height, scale, origin, look)

        body = Canvas(width, height, scale, origin)
        paint_body(body, look)
        self._body_area = _covered(body, margin=4)
        self._body = _Layer(body.pixels()[self._body_area])
        self._behind_head = self._room.copy()
        self._body_drawn: tuple[int, ...] = ()

        left, top, right, bottom = _HEAD
        sheet_scale = scale * _SHEET
        sheet_origin = (-left * sheet_scale, -top * sheet_scale)
        head = Canvas(
            round((right - left) * sheet_scale),
            round((bottom - top) * sheet_scale),
            sheet_scale,
            sheet_origin,
        )
        paint_head(head, look)
        self._head = _Layer(head.pixels())
        self._painted = self._head.color.copy()
        self._features = Features(look, sheet_scale, sheet_origin)
        self._eyes_area = _area(EYES_AREA, sheet_scale, sheet_origin, head.alpha.shape)
        self._eyes_drawn: tuple[float, ...] = ()
        self._mouth_area = _area(MOUTH_AREA, sheet_scale, sheet_origin, head.alpha.shape)
        self._mouth_drawn: MouthShape | None = None
        rows, columns = _covered(head, margin=0)
        box = np.array([columns.start, rows.start, columns.stop, rows.stop]) / sheet_scale + (
            left,
            top,
            left,
            top,
        )
        self._warp = _HeadWarp((width, height), scale, origin, head, box)

    def draw(self, t_s: float, shape: MouthShape) -> Picture:
        """Draw the face.

        Args:
            t_s: Time in seconds; decides blink, sway, gaze and breath.
            shape: What the lips do.

        Returns:
            `(height, width, 3)` uint8 BGR; a new array.
        """
        now = pose(t_s, shape.open)
        self._update_body(now)
        self._update_features(now, shape)
        picture = self._behind_head.copy()
        maps = self._warp.maps(now, shape.open)
        self._head.lay(
            picture[self._warp.area],
            lambda pixels, into: cv2.remap(pixels, maps, _NO_MAP, cv2.INTER_LINEAR, into),
        )
        return picture

    def _update_features(self, now: Pose, shape: MouthShape) -> None:
        """Draw eyes and mouth again if they moved."""
        pixels = self._head.color
        eyes = (now.blink, *now.gaze, now.brows)
        if eyes != self._eyes_drawn:
            pixels[self._eyes_area] = self._painted[self._eyes_area]
            self._features.draw_eyes(pixels, now)
            self._eyes_drawn = eyes
        if shape != self._mouth_drawn:
            pixels[self._mouth_area] = self._painted[self._mouth_area]
            self._features.draw_mouth(pixels, shape)
            self._mouth_drawn = shape

    def _update_body(self, now: Pose) -> None:
        """Let chest and shoulders rise with the breath, and follow the head a little."""
        aside = 0.35 * now.x * self._scale
        down = (1.8 - 1.2 * now.breath) * self._scale
        # Steps too small to see; most pictures need none.
        steps = (round(aside * _BODY_STEPS), round(down * _BODY_STEPS))
        if steps == self._body_drawn:
            return
        self._body_drawn = steps
        below = self._behind_head[self._body_area]
        below[:] = self._room[self._body_area]
        size = (below.shape[1], below.shape[0])
        move = np.array([[1, 0, steps[0] / _BODY_STEPS], [0, 1, steps[1] / _BODY_STEPS]])
        edge = cv2.BORDER_REPLICATE  # the body goes on below the picture
        self._body.lay(
            below, lambda pixels, into: cv2.warpAffine(pixels, move, size, into, cv2.INTER_LINEAR, edge)
        )


class _Layer:
    """Premultiplied colour and what it leaves of the picture below.

    Memory for the moved layer is kept: at 25 pictures a second, fresh pages cost more than the drawing.
    """

    def __init__(self, pixels: Picture) -> None:
        self.color = np.ascontiguousarray(pixels[..., :3])
        self._alpha = np.ascontiguousarray(pixels[..., 3])
        self._moved: tuple[Picture, Picture, Picture] | None = None

    def lay(self, below: Picture, move: Callable[[Picture, Picture], object]) -> None:
        """Lay the layer over a picture of the size that `move(pixels, into)` makes, in place."""
        if self._moved is None:
            self._moved = (np.empty_like(below), np.empty(below.shape[:2], np.uint8), np.empty_like(below))
        color, alpha, kept = self._moved
        move(self.color, color)
        move(self._alpha, alpha)
        cv2.cvtColor(cv2.bitwise_not(alpha, alpha), cv2.COLOR_GRAY2BGR, kept)
        cv2.multiply(below, kept, kept, 1 / 255)
        cv2.add(kept, color, below)


class _HeadWarp:
    """Where each pixel of the moved head comes from on its sheet.

    Args:
        size: Of the picture.
        scale: Of the picture.
        origin: Of the picture.
        sheet: The head as it was painted.
        box: Left, top, right and bottom of the head in face units.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: float,
        origin: tuple[float, float],
        sheet: Canvas,
        box: npt.NDArray[np.float64],
    ) -> None:
        left, top, right, bottom = box + np.array([-_SWAY, -_SWAY, _SWAY, _SWAY + _JAW_DROP])
        self.area = _area((left, top, right, bottom), scale, origin, size[::-1])
        rows, columns = self.area
        self._size = (columns.stop - columns.start, rows.stop - rows.start)
        cells = [-(-side // _CELL) for side in self._size]
        x = (np.arange(cells[0]) + 0.5) * self._size[0] / cells[0] - 0.5 + columns.start
        y = (np.arange(cells[1]) + 0.5) * self._size[1] / cells[1] - 0.5 + rows.start
        grid = np.meshgrid((x - origin[0]) / scale, (y - origin[1]) / scale)
        self._x, self._y = (axis.astype(np.float32) for axis in grid)
        # The middle of the face is nearest to the viewer, and moves most when the head turns.
        self._dome = np.exp(-((self._x / 78) ** 2) - ((self._y - 25) / 112) ** 2).astype(np.float32)
        self._jaw = (_ramp(self._y, 90, 136) * (1 - _ramp(np.abs(self._x), 76, 112))).astype(np.float32)
        self._sheet_scale = np.float32(sheet.scale)
        self._sheet_origin = np.float32(sheet.origin[0]), np.float32(sheet.origin[1])

    def maps(self, now: Pose, opening: float) -> Field:
        """Return the map for `cv2.remap`: `(H, W, 2)`, x and y on the sheet."""
        angle = np.deg2rad(now.roll_deg)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        x, y = self._x - np.float32(now.x), self._y - np.float32(_NECK_Y + now.y)
        source_x = x * cos + y * sin - np.float32(6.0 * now.yaw) * self._dome
        source_y = y * cos - x * sin + np.float32(_NECK_Y) - np.float32(4.5 * now.pitch) * self._dome
        source_y -= np.float32(_JAW_DROP * min(opening, 1.0)) * self._jaw
        coarse = np.dstack(
            [
                source_x * self._sheet_scale + self._sheet_origin[0],
                source_y * self._sheet_scale + self._sheet_origin[1],
            ]
        )
        return np.asarray(cv2.resize(coarse, self._size), np.float32)


def _covered(canvas: Canvas, margin: int) -> tuple[slice, slice]:
    """The part of a canvas that is painted on."""
    rows, columns = np.nonzero(canvas.alpha.max(axis=1))[0], np.nonzero(canvas.alpha.max(axis=0))[0]
    height, width = canvas.alpha.shape
    return (
        slice(max(0, int(rows[0]) - margin), min(height, int(rows[-1]) + 1 + margin)),
        slice(max(0, int(columns[0]) - margin), min(width, int(columns[-1]) + 1 + margin)),
    )


def _area(
    box: tuple[float, float, float, float], scale: float, origin: tuple[float, float], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    left, top, right, bottom = box
    columns = slice(max(0, int(left * scale + origin[0])), min(shape[1], int(right * scale + origin[0]) + 1))
    rows = slice(max(0, int(top * scale + origin[1])), min(shape[0], int(bottom * scale + origin[1]) + 1))
    return rows, columns


def _ramp(value: Field, start: float, end: float) -> Field:
    share = np.clip((value - start) / (end - start), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
