"""Keeps LiveKit's connections to this machine away from the proxies of the environment.

LiveKit's client reads `HTTP_PROXY` for `ws://` and `HTTPS_PROXY` for `wss://` at each of its connection attempts, and
no `NO_PROXY`: the token of a room on this machine would go to the proxy. It takes no setting for that. So the variables
are hidden from it while it connects: from the process's environment, not from `os.environ`, where Python looks.
Programs that are started in these moments with the inherited environment do not see them either.
"""

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from agenthuman_plugins.client.addresses import is_this_machine

_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

_hidden_by: set[object] = set()


def hide_proxies(owner: object) -> None:
    """Hide the proxies until `show_proxies` is called for the same owner; harmless when repeated."""
    if not _hidden_by:
        for name in _NAMES:
            if name in os.environ:
                os.unsetenv(name)
    _hidden_by.add(owner)


def show_proxies(owner: object) -> None:
    """Show the proxies again unless somebody else needs them hidden; harmless when repeated."""
    if owner not in _hidden_by:
        return
    _hidden_by.discard(owner)
    if not _hidden_by:
        for name in _NAMES:
            if name in os.environ:
                os.putenv(name, os.environ[name])


@contextlib.contextmanager
def direct_to(room_server: str) -> Iterator[None]:
    """Hide the proxies while the body runs, if it uses a room server on this machine.

    Args:
        room_server: `ws://…` or `wss://…`.
    """
    if not is_this_machine(urlsplit(room_server).hostname):
        yield
        return
    owner = object()
    hide_proxies(owner)
    try:
        yield
    finally:
        show_proxies(owner)
