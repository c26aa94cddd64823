"""Proxies of the environment that lead nowhere: what is addressed to this machine must not go through them."""

from collections.abc import Mapping
from types import MappingProxyType

import pytest

_DEAD = "127.0.0.1:9"  # port 9 is `discard`
_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def _environment(scheme: str) -> Mapping[str, str]:
    exceptions = "example.org,::1,[::1]"  # httpx cannot read the last one
    proxies = dict.fromkeys(_NAMES, f"{scheme}://{_DEAD}")
    return MappingProxyType({**proxies, "NO_PROXY": exceptions, "no_proxy": exceptions})


HTTP, SOCKS5, SOCKS = (_environment(scheme) for scheme in ("http", "socks5", "socks"))
# Each kind where it is decided, at the emulator; what is built on that is tried with one of them.
every_kind = pytest.mark.parametrize(
    "proxies",
    [pytest.param(HTTP, id="http"), pytest.param(SOCKS5, id="socks5"), pytest.param(SOCKS, id="socks")],
)
