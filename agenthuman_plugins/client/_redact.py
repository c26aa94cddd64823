"""Secrets taken out of what the service says, before it becomes an error text or an attribute."""

import re
from collections.abc import Collection
from typing import Any

MASK = "**********"

_SHORTEST = 6  # a shorter value is a word of a test, and masking it would garble every text
_SECRET_KEYS = frozenset(
    {"access_token", "api_key", "participant_token", "participanttoken", "session_token", "token"}
)
_SECRET_TEXT = re.compile(
    r"ah_(?:live|test)_\w+"  # API keys
    r"|eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"  # JSON web tokens
    r"|(?<=[?&])[\w.~-]+=[^\s&\"'<>)]+"  # URL queries
)


def redact(value: Any, secrets: Collection[str] = ()) -> Any:
    """Copy JSON-like `value` with secrets masked: by their key, by their look, and those given in `secrets`."""
    match value:
        case str():
            for secret in secrets:
                if len(secret) >= _SHORTEST:
                    value = value.replace(secret, MASK)
            return _SECRET_TEXT.sub(MASK, value)
        case dict():
            return {
                key: MASK
                if isinstance(item, str) and str(key).lower() in _SECRET_KEYS
                else redact(item, secrets)
                for key, item in value.items()
            }
        case list():
            return [redact(item, secrets) for item in value]
        case _:
            return value
