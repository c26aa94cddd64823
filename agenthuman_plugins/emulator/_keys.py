"""The API keys of the account, and who has one."""

import hmac
from collections.abc import Iterable

from fastapi import Request

from agenthuman_plugins.emulator._errors import UnauthorizedError

# The web app's session, which the usage call takes in place of a key. Name and value are ours: a key does for the value.
SESSION_COOKIE = "agenthuman_session"


class Keys:
    """The keys that `x-api-key` may hold; all of them belong to the same account."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def has(self, key: str) -> bool:
        """Whether this is one of them."""
        return any(hmac.compare_digest(key.encode(), known) for known in self._keys)

    async def check(self, request: Request) -> None:
        """Refuse a request without a key."""
        self._check(request.headers.get("x-api-key", ""))

    async def check_also_cookie(self, request: Request) -> None:
        """Refuse a request with neither a key nor the cookie of the web app."""
        self._check(request.headers.get("x-api-key") or request.cookies.get(SESSION_COOKIE, ""))

    def _check(self, key: str) -> None:
        if not key:
            raise UnauthorizedError("API key required")
        if not self.has(key):
            raise UnauthorizedError("Invalid API key")
