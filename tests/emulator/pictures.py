"""Pictures to make avatars of: drawn faces, which the detector takes for real ones."""

from functools import cache
from typing import Any

import cv2
import numpy as np

from agenthuman_plugins.emulator.face import Face, Look
from agenthuman_plugins.emulator.mouth import MouthShape


@cache
def face() -> Any:
    return Face(480, 360, Look.of("avat_1")).draw(0.0, MouthShape())


def encoded(picture: Any, kind: str = ".png") -> bytes:
    return bytes(cv2.imencode(kind, picture)[1])


def portrait() -> bytes:
    return encoded(face())


def two_faces() -> bytes:
    return encoded(np.hstack([face(), face()]))


def no_face() -> bytes:
    return encoded(np.full((240, 320, 3), 90, np.uint8))
