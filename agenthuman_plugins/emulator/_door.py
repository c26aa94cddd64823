"""What every request passes first: who may call without a key, and how large a body may be."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agenthuman_plugins.emulator._errors import bad_request
from agenthuman_plugins.emulator._keys import Keys
from agenthuman_plugins.viewer.web import OwnPages

_MB = 1024 * 1024
_MAX_BODY = 1 * _MB
_MAX_PICTURE_BODY = 16 * _MB  # a picture of 10 MB in base64, with what is around it
_PICTURE_PATHS = ("/v1/sessions", "/v1/avatars/upload-face", "/window/avatars")


class Door:
    """Middleware for the whole application.

    A request with the key is answered wherever it comes from. Without it, only programs and the emulator's own pages are
    answered (see `OwnPages`). WebSockets are open to every page: their first message needs a token.

    Args:
        app: The application.
        keys: The account's.
        allow_hosts: See `OwnPages`.
    """

    def __init__(self, app: ASGIApp, keys: Keys, allow_hosts: Iterable[str]) -> None:
        self._app = app
        self._own_pages = OwnPages(app, allow_hosts)
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _MAX_PICTURE_BODY if scope["path"] in _PICTURE_PATHS else _MAX_BODY
        app = self._app if self._keys.has(Headers(scope=scope).get("x-api-key", "")) else self._own_pages
        await app(scope, _bounded(receive, limit), send)


def _bounded(receive: Receive, limit: int) -> Receive:
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise bad_request("The request body is too large", f"Send at most {limit // _MB} MB")
        return message

    return receive_bounded
