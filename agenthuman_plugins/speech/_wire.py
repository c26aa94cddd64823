"""What every link does with text from and for the wire."""

import json
from typing import Any
from urllib.parse import urlsplit


def json_object(text: str | bytes) -> dict[str, Any]:
    """The object that a message holds; an empty one if it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def origin(url: str) -> str:
    """The part of a URL that holds no secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
