"""Arguments, checked where the documents are exact. A message says what was wrong and what is allowed."""

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from agenthuman_plugins.client._config import default_avatar
from agenthuman_plugins.client._pictures import decode, read_data_uri
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import CLIENT_REF
from agenthuman_plugins.client.rooms import ASPECT_RATIOS

ID_LIMIT = 256  # characters; documented ids have about 30
_URL_LIMIT = 2_048  # characters, as browsers and proxies take them


def one_of(name: str, value: object, allowed: Collection[str]) -> str:
    """A word that the documents list."""
    if not isinstance(value, str) or value not in allowed:
        raise ConfigurationError(f"{name} must be one of {', '.join(allowed)}, not {quoted(value)}.")
    return value


def aspect_ratio(value: object) -> str:
    """One of the documented ratios; always sent, since not every call refuses a wrong one."""
    return one_of("aspect_ratio", value, ASPECT_RATIOS)


def non_blank(name: str, value: object) -> str:
    """A text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name} must be a non-empty string, not {quoted(value)}.")
    return value


def identifier(name: str, value: object, form: str) -> str:
    """An id. Its form is only named: the service has ids of several forms for one thing."""
    if (
        not isinstance(value, str)
        or not value
        or len(value) > ID_LIMIT
        or value in {".", ".."}
        or not value.isprintable()
    ):
        raise ConfigurationError(f"{name} must be an id ({form}), not {quoted(value)}.")
    return value


def segment(name: str, value: object, form: str) -> str:
    """An id as one segment of a path; an empty one would ask for the whole list instead."""
    return quote(identifier(name, value, form), safe="")


def url(name: str, value: object) -> str:
    """A public http(s) address."""
    # The URL stays out of the text: it may be signed.
    if not isinstance(value, str) or not _is_complete(value):
        raise ConfigurationError(f"{name} is not a complete http:// or https:// URL.")
    if len(value) > _URL_LIMIT or not value.isprintable() or any(map(str.isspace, value)):
        raise ConfigurationError(f"{name} is a URL with blanks in it or longer than {_URL_LIMIT} characters.")
    return value


def utc_time(name: str, value: object) -> str:
    """A point in time, as the service writes them: ISO 8601 in UTC."""
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} must be a datetime, not {quoted(value)}.")
    if value.tzinfo is None:
        raise ConfigurationError(f"{name} must be a datetime with a time zone, such as datetime.now(UTC).")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def positive(name: str, value: object) -> int:
    """A count of at least one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number of 1 or more, not {quoted(value)}.")
    return value


def non_empty(change: Mapping[str, Any]) -> Mapping[str, Any]:
    """A change that changes something."""
    if not change:
        raise ConfigurationError("There is nothing to update: pass at least one field.")
    return change


def metadata(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A JSON object, copied: what the caller changes later must not reach a request that is sent again."""
    if value is None:
        return {}
    copied = json_object("metadata", value)
    ref = copied.get(CLIENT_REF)
    if ref is not None and not (isinstance(ref, str) and ref):
        raise ConfigurationError(
            f"metadata[{CLIENT_REF!r}] must be a non-empty string: lost sessions are found by it."
        )
    return copied


def json_object(name: str, value: object) -> dict[str, Any]:
    """A JSON object, copied."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a JSON object (a dict), not {type(value).__name__}.")
    if not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"{name} must be a JSON object: all of its keys must be strings.")
    copied: dict[str, Any] = json_value(name, dict(value))
    return copied


def json_value(name: str, value: object) -> Any:
    """A JSON value, copied."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        what = "a JSON object" if isinstance(value, dict) else "a JSON value"
        raise ConfigurationError(f"{name} must be {what}: {_cause(error)}.") from None


def avatar(value: object) -> str:
    """An avatar id, an image URL or a data URI; `None` takes the default avatar."""
    if value is None:
        return default_avatar()
    allowed = "Allowed are an avatar id (avat_…), a public http(s) image URL, or a data:image/…;base64 URI"
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"avatar must be a non-empty string. {allowed}.")
    value = value.strip()
    if value[:5].lower() == "data:":
        read_data_uri("avatar", value)
    elif "://" in value:
        url("avatar", value)
    elif len(value) > ID_LIMIT or not value.isprintable() or any(map(str.isspace, value)):
        raise ConfigurationError(f"avatar is not an avatar id: too long, or blanks in it. {allowed}.")
    return value


def base64_picture(name: str, value: object) -> str:
    """A picture in base64, with or without the prefix of a data URI."""
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{name} must be a string, not {type(value).__name__}; bytes belong in file."
        )
    value = value.strip()
    if value[:5].lower() == "data:":
        read_data_uri(name, value)
    else:
        decode(name, value)
    return value


def quoted(value: object) -> str:
    """A value as a message can quote it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"  # noqa: PLR2004 - about a line's rest


def _is_complete(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _cause(error: Exception) -> str:
    # json quotes the offending type or says "circular reference", never the value (NaN and the like aside).
    return (
        str(error).rstrip(".")
        if isinstance(error, TypeError)
        else "it holds a value that JSON cannot express"
    )
