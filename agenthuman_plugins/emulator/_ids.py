"""Ids and keys in the service's forms."""

import secrets
from datetime import datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_LENGTH = 26
_RANDOM_BITS = 80


def ulid(now: datetime) -> str:
    """Return 26 characters that sort by time (milliseconds) and never repeat (80 random bits)."""
    number = int(now.timestamp() * 1000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_CROCKFORD[number >> 5 * place & 31] for place in reversed(range(_ULID_LENGTH)))


def new_api_key() -> str:
    """Return a new key in the form of the service's test keys."""
    return f"ah_test_{secrets.token_hex(16)}"
