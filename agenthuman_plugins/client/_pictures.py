"""Pictures of faces: read from where the caller has them, and checked by size and first bytes.

Limits and types are those of docs.agenthuman.com, endpoints/upload-face-avatar.
"""

import base64
import binascii
import os
import re
from pathlib import Path
from typing import BinaryIO, TypeAlias

from agenthuman_plugins.client.errors import ConfigurationError

Picture: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO

_LIMIT = 10 * 1024 * 1024  # bytes, decoded
_TYPES = ("jpeg", "jpg", "png", "gif", "webp")
_FIRST_BYTES = {
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_DATA_URI = re.compile(rf"data:image/(?:{'|'.join(_TYPES)});base64,", re.IGNORECASE)


def read(picture: Picture) -> bytes:
    """Read a picture whole; blocks if it is a path or a file.

    Args:
        picture: Path, content, or a file opened in binary mode, which is read from where it stands.

    Raises:
        ConfigurationError: It is none of these, or cannot be read.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str) and ("://" in picture or picture[:5].lower() == "data:"):
        raise ConfigurationError("file is a path; a URL belongs in image_url, a data URI in image_base64.")
    try:
        # One byte more than allowed tells a picture that is too large, without reading all of it.
        if isinstance(picture, str | os.PathLike):
            with Path(picture).open("rb") as opened:
                return opened.read(_LIMIT + 1)
        content = picture.read(_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"file could not be read: {error}.") from error
    except AttributeError:
        raise ConfigurationError(
            f"file must be a path, bytes or a binary file, not {type(picture).__name__}."
        ) from None
    if not isinstance(content, bytes):
        raise ConfigurationError("file was opened as text; open it with mode 'rb'.")
    return content


def media_type(name: str, content: bytes) -> str:
    """The type of a picture by its first bytes.

    Raises:
        ConfigurationError: It is empty, too large, or of no type that the service takes.
    """
    if not content:
        raise ConfigurationError(f"{name} is empty: there is no picture in it.")
    if len(content) > _LIMIT:
        raise ConfigurationError(
            f"{name} is a picture of more than {_LIMIT // 1024**2} MiB, which is the most that the service takes."
        )
    for kind, first_bytes in _FIRST_BYTES.items():
        if first_bytes.match(content):
            return kind
    raise ConfigurationError(
        f"{name} is not a picture in a type that the service takes: jpeg, png, gif or webp."
    )


def decode(name: str, text: str) -> bytes:
    """Decode base64 and check the picture in it."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{name} holds base64 that cannot be decoded.") from None
    media_type(name, content)
    return content


def read_data_uri(name: str, uri: str) -> bytes:
    """Decode a `data:image/…;base64,…` URI and check the picture in it."""
    start = _DATA_URI.match(uri)
    if start is None:
        raise ConfigurationError(
            f"{name} is a data URI, but not data:image/<{'|'.join(_TYPES)}>;base64,… as the service takes it."
        )
    return decode(name, uri[start.end() :])
