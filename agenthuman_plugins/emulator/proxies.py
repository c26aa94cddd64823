"""Rooms on this machine are reached without the proxies of the environment.

LiveKit sends a room's signalling, its token included, through `HTTP_PROXY` (for `wss://`: `HTTPS_PROXY`), whatever
`NO_PROXY` says, and reads the variable anew at every reconnection. So it must be gone for as long as the room is used.
Where the room server refuses, LiveKit asks over HTTP for the reason, and there `NO_PROXY` counts, for `ALL_PROXY` too.
"""

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from agenthuman_plugins.client.addresses import is_this_machine

_PROXIES = {"ws": ("HTTP_PROXY", "http_proxy"), "wss": ("HTTPS_PROXY", "https_proxy")}
_EXCEPTIONS = ("no_proxy", "NO_PROXY")  # programs differ in which of them they look at first


@contextlib.contextmanager
def direct_to(room_server: str) -> Iterator[None]:
    """Keep what LiveKit sends to a room server on this machine clear of proxies while the body runs.

    It changes the environment of the whole process and of the child processes that the body starts. For a server
    elsewhere it does nothing.

    Args:
        room_server: `ws://…` or `wss://…`.
    """
    parts = urlsplit(room_server)
    if not is_this_machine(parts.hostname):
        yield
        return
    names = (*_PROXIES.get(parts.scheme, ()), *_EXCEPTIONS)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    exceptions = next((text for name in _EXCEPTIONS if (text := before.get(name))), "")
    hosts = f"{exceptions},{parts.hostname}" if exceptions else str(parts.hostname)
    os.environ.update(dict.fromkeys(_EXCEPTIONS, hosts))
    try:
        yield
    finally:
        for name in _EXCEPTIONS:
            os.environ.pop(name, None)
        os.environ.update(before)
