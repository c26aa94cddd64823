"""What a server needs for a page with a viewer: its files, and who may call it. Needs FastAPI or Starlette.

The page's files are served at `/viewer/`: `base.css`, `call.js`, `stage.js`, `watcher.js`, `icons.svg`, `icon.svg`; a page
with more on it than the viewer's own `index.html` uses the same ones.
"""

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agenthuman_plugins.speech._wire import json_object

FILES = Path(__file__).parent / "page"

_UNKNOWN_NAME = "Unknown host name: use localhost, an IP address, or a name that is allowed."
_MAX_OFFER = 64 * 1024  # bytes; Chromium's have 6 kB
_HEADERS = {
    # The page needs nothing from elsewhere, and must not start to.
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob: mediastream:; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # the next version has the same address
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RefusedError(Exception):
    """Raised when a browser is not let in; the text is one sentence for its page.

    Attributes:
        status: HTTP status of the refusal.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class OwnPages:
    """Middleware that answers pages of this server only, and keeps them from loading anything from elsewhere.

    Another site in the same browser cannot call it: neither by its own name (`Origin`), nor by giving that name our
    address (`Host`). Programs send no `Origin`, and are answered.

    Args:
        app: What answers.
        allow_hosts: Names of this server besides `localhost` and its addresses, such as that of a container.
    """

    def __init__(self, app: ASGIApp, allow_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", *map(str.lower, allow_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            refusal = JSONResponse({"error": _UNKNOWN_NAME}, 400)
            await refusal(scope, receive, send_with_headers)
        elif origin not in (None, f"http://{host}"):
            refusal = JSONResponse({"error": "Requests from other pages are refused."}, 403)
            await refusal(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _is_ours(self, host: str) -> bool:
        """Whether a `Host` header names this machine by a name or an address that no other site can have."""
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def files() -> StaticFiles:
    """Return the application that serves the files at `/viewer`."""
    return StaticFiles(directory=FILES)


async def read_offer(request: Request) -> dict[str, Any]:
    """Return the browser's offer, a JSON object with `sdp` and `type`.

    Raises:
        RefusedError: The body is too long, or no offer.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_OFFER:
            raise RefusedError(413, "The offer is too long.")
    offer = json_object(body)
    if not isinstance(offer.get("sdp"), str) or offer.get("type") != "offer":
        raise RefusedError(400, "The request holds no offer for a call.")
    return {"sdp": offer["sdp"], "type": offer["type"]}
