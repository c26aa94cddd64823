"""Which pictures make an avatar: those with exactly one prominent face, found by OpenCV's bundled cascade."""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from agenthuman_plugins.emulator._errors import ServiceError, bad_request
from agenthuman_plugins.emulator._pictures import MAX_BYTES

_PREVIEW_SIDE = 500  # pixels, as documented
_IMAGE_WIDTH = 1_200  # pixels at most, as documented
_SEARCH_SIDE = 640  # pixels; larger pictures are searched in a smaller copy
# A face's side against the picture's shorter one; smaller ones are people in the background.
_PROMINENT = 1 / 6
_KEPT_SIDE = 2 * _IMAGE_WIDTH  # pixels; a picture that lies on its side is still wide enough when turned
_MAX_PIXELS = 25_000_000  # a small file can hold a picture that fills the memory
_MAX_SCANS = 32  # of a progressive JPEG, where ten are usual: each goes over all pixels once more
_START_OF_SCAN = b"\xff\xda"
_ROTATIONS = (None, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180)

_SUGGESTION = "Use a picture of exactly one clearly visible face"

Picture = npt.NDArray[Any]  # (H, W, 3) uint8, BGR

_CASCADES = Path(cv2.__file__).parent / "data"  # they come with the package
# One thread for all pictures: a classifier keeps state between calls of its own, a large picture takes some 100 MB, of
# which each thread would keep a part, and whatever else needs a thread must not wait for pictures.
READER = ThreadPoolExecutor(1, "pictures")


def make_avatar_pictures(content: bytes) -> tuple[bytes, bytes]:
    """Check a picture and return what the service serves of it: preview and image, both JPEG. To be called in `READER`.

    Raises:
        ServiceError: It is too large, no picture, or has not exactly one prominent face.
    """
    picture = _decode(content)
    for rotation in _ROTATIONS:
        upright = picture if rotation is None else cv2.rotate(picture, rotation)
        if faces := _prominent_faces(upright):
            break
    else:
        raise bad_request("No face detected", _SUGGESTION)
    if len(faces) > 1:
        raise bad_request("Multiple faces detected", _SUGGESTION)
    return _jpeg(_around(upright, faces[0])), _jpeg(_narrower(upright))


def _decode(content: bytes) -> Picture:
    if len(content) > MAX_BYTES:
        raise bad_request("The image is too large", "Use an image of at most 10 MB")
    if not _is_supported(content):
        raise bad_request("Unsupported image format", "Use a jpeg, png, gif or webp image")
    try:
        return _read(content)
    except Exception:  # noqa: BLE001 - a broken picture raises nearly anything
        raise bad_request(
            "The image could not be read", "Use a jpeg, png, gif or webp image of at most 25 megapixels"
        ) from None


def _read(content: bytes) -> Picture:
    # Opening reads only the header. Of an animation the first frame counts.
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "GIF", "WEBP")) as image:
        if image.width * image.height > _MAX_PIXELS or content.count(_START_OF_SCAN) > _MAX_SCANS:
            raise ValueError("It takes too much to decode.")
        image.thumbnail((_KEPT_SIDE, _KEPT_SIDE))
        rgb = ImageOps.exif_transpose(image).convert("RGB")
    return np.ascontiguousarray(np.asarray(rgb, np.uint8)[:, :, ::-1])


def _is_supported(content: bytes) -> bool:
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return webp or content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))


@cache
def _cascade() -> Any:
    return cv2.CascadeClassifier(f"{_CASCADES}/haarcascade_frontalface_default.xml")


def _prominent_faces(picture: Picture) -> list[tuple[int, int, int, int]]:
    scale = min(1.0, _SEARCH_SIDE / max(picture.shape[:2]))
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    size = [max(1, round(side * scale)) for side in reversed(grey.shape)]
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    side = max(24, round(min(small.shape[:2]) * _PROMINENT))
    if min(small.shape[:2]) < side:
        return []
    found = _cascade().detectMultiScale(small, scaleFactor=1.1, minNeighbors=6, minSize=(side, side))
    return [tuple(round(value / scale) for value in face) for face in found]


def _around(picture: Picture, face: tuple[int, int, int, int]) -> Picture:
    """Cut a square with the face in its middle, twice as wide as the face where the picture allows it."""
    x, y, width, height = face
    side = min(2 * max(width, height), *picture.shape[:2])
    left = min(max(0, x + width // 2 - side // 2), picture.shape[1] - side)
    top = min(max(0, y + height // 2 - side // 2), picture.shape[0] - side)
    square = picture[top : top + side, left : left + side]
    return np.asarray(
        cv2.resize(square, (_PREVIEW_SIDE, _PREVIEW_SIDE), interpolation=cv2.INTER_AREA), np.uint8
    )


def _narrower(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    if width <= _IMAGE_WIDTH:
        return picture
    size = (_IMAGE_WIDTH, max(1, round(height * _IMAGE_WIDTH / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: Picture) -> bytes:
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise ServiceError(500, "Something went wrong")
    return bytes(encoded)
