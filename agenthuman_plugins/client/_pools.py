"""The httpx clients that requests go through: for each process and each event loop, around proxies, or the caller's own."""

import asyncio
import os
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import ModuleType
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import httpx

from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client.addresses import is_this_machine
from agenthuman_plugins.client.errors import ConfigurationError

_PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


class SyncHttpClient(Protocol):
    """What we need of an `httpx.Client`; a look-alike will do."""

    @property
    def build_request(self) -> Callable[..., Any]:
        """Make a request."""

    @property
    def send(self) -> Callable[..., Any]:
        """Send one request; with `stream=True` its answer is read by the caller."""

    def close(self) -> None:
        """Close all connections."""


class AsyncHttpClient(Protocol):
    """What we need of an `httpx.AsyncClient`; a look-alike will do."""

    @property
    def build_request(self) -> Callable[..., Any]:
        """Make a request."""

    @property
    def send(self) -> Callable[..., Awaitable[Any]]:
        """Send one request; with `stream=True` its answer is read by the caller."""

    async def aclose(self) -> None:
        """Close all connections."""


class Pool:
    """The connections of a blocking client. Threads may share it, and a process that was forked gets one of its own.

    Args:
        settings: Where it leads.
        client: The caller's own, which its owner closes.

    Attributes:
        is_given: Whether the client is the caller's own.
        library: Where its exceptions come from.
    """

    def __init__(self, settings: Settings, client: SyncHttpClient | None) -> None:
        self._settings: Final = settings
        self._given: Final = client
        self.is_given: Final = client is not None
        self.library: Final = _library_of(client)
        _check_address(settings.base_url, self.library)
        if client is None:
            _check_proxies(settings)
        self._trust = _Trust(settings)
        self._pid = os.getpid()
        self._client: SyncHttpClient = client or self._make()
        self._closed = False

    def close(self) -> None:
        """Close the connections, if they are ours."""
        self.refuse_calls()
        if self._given is None and self._pid == os.getpid():
            self._client.close()

    def refuse_calls(self) -> None:
        """Let no call begin any more."""
        self._closed = True

    def current(self) -> SyncHttpClient:
        """The client for a request of this process."""
        _check_open(self._closed, self._given)
        if self._pid != os.getpid():
            _refuse_sharing(self._given, "a forked process")
            self._trust.after_fork()
            # The parent's connections are left alone: closing them here would say goodbye in its name. The new ones come
            # before the mark that another thread of this process goes by.
            self._client, self._pid = self._make(), os.getpid()
        return self._client

    def _make(self) -> httpx.Client:
        return httpx.Client(**_options(self._settings, self._trust.context()))


class AsyncPools:
    """The connections of an async client: each event loop, and each forked process, has some of its own.

    Args:
        settings: Where they lead.
        client: The caller's own, which its owner closes.

    Attributes:
        is_given: Whether the client is the caller's own.
        library: Where its exceptions come from.
    """

    def __init__(self, settings: Settings, client: AsyncHttpClient | None) -> None:
        self._settings: Final = settings
        self._given: Final = client
        self.is_given: Final = client is not None
        self.library: Final = _library_of(client)
        _check_address(settings.base_url, self.library)
        if client is None:
            _check_proxies(settings)
        self._pid = os.getpid()
        self._home: asyncio.AbstractEventLoop | None = None  # of the client that was given
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
        self._trust = _Trust(settings)
        self._closed = False

    async def aclose(self) -> None:
        """Close the connections of the running loop, if they are ours."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None and self._pid == os.getpid():
            await pool.aclose()

    def refuse_calls(self) -> None:
        """Let no call begin any more."""
        self._closed = True

    def other_loops(self) -> list[asyncio.AbstractEventLoop]:
        """The running loops beside this one that have connections to close."""
        here = asyncio.get_running_loop()
        return [loop for loop in self._loops() if loop is not here and loop.is_running()]

    def _loops(self) -> list[asyncio.AbstractEventLoop]:
        # In one step: a loop on another thread may add its pool meanwhile.
        return [loop for known in self._pools.keyrefs() if (loop := known()) is not None]

    async def current(self) -> AsyncHttpClient:
        """The client for a request on the running loop."""
        _check_open(self._closed, self._given)
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            _refuse_sharing(self._given, "a forked process")
            self._trust.after_fork()
            self._pid, self._pools = os.getpid(), WeakKeyDictionary()
        if self._given is not None:
            if self._home not in {None, loop}:
                _refuse_sharing(self._given, "another event loop")
            self._home = loop
            return self._given
        if loop not in self._pools:
            for ended in [other for other in self._loops() if other.is_closed()]:
                self._pools.pop(ended, None)
            trusted = await asyncio.to_thread(self._trust.context)  # reads files, up to 0.1 s
            if loop not in self._pools:  # another task may have come first
                self._pools[loop] = httpx.AsyncClient(**_options(self._settings, trusted))
        return self._pools[loop]


class _Trust:
    """The certificates that are trusted, read at first use."""

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        # Without TLS, and without a proxy that might speak it, none is ever looked at.
        self._needed = not (settings.base_url.startswith("http://") and is_this_machine(settings.host))

    def after_fork(self) -> None:
        """Replace the lock in a forked process, and keep the parent's context.

        A thread of the parent may have held a lock at the fork: ours, or one of OpenSSL's that making a context needs. Nobody
        would release it in the child, which would wait forever.
        """
        self._lock = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """The context for connections."""
        with self._lock:
            if self._context is None:
                self._context = (
                    httpx.create_ssl_context() if self._needed else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                )
            return self._context


def _check_proxies(settings: Settings) -> None:
    """Check that httpx can read the proxies of the environment, where it will be asked to.

    Raises:
        ConfigurationError: It cannot; the text names the variable.
    """
    names = [name for both in _PROXY_VARIABLES for name in (both.lower(), both) if os.environ.get(name)]
    if is_this_machine(settings.host) or not names or (problem := _proxy_problem()) is None:
        return
    proxies = [name for name in names if not name.lower().startswith("no_")]
    # Values stay out of the text: a proxy's address may hold a password.
    culprit = next((name for name in proxies if _proxy_problem(_complete(os.environ[name]))), "NO_PROXY")
    if culprit == "NO_PROXY":
        culprit = next((name for name in names if name not in proxies), culprit)
        problem = "an entry of it cannot be read; host names and addresses without brackets can"
    raise ConfigurationError(f"{culprit} cannot be used: {problem}.")


def _complete(proxy: str) -> str:
    """A proxy's address as httpx reads it from the environment."""
    return proxy if "://" in proxy else f"http://{proxy}"


def _proxy_problem(proxy: str | None = None) -> str | None:
    """What httpx says against a proxy, or against those of the environment."""
    given: dict[str, Any] = {} if proxy is None else {"proxy": proxy, "trust_env": False}
    try:
        httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **given).close()
    except ImportError:
        return "for a socks5:// proxy run `pip install 'httpx[socks]'`"
    except Exception:  # noqa: BLE001 - what it raises differs among versions and values
        return "it must look like http://host:port, https://host:port or socks5://host:port"
    return None


def _options(settings: Settings, trusted: ssl.SSLContext) -> dict[str, Any]:
    """Options of a pool of our own."""
    return {
        "verify": trusted,
        # No proxy gets to see what is meant for this machine.
        "trust_env": not is_this_machine(settings.host),
        # A cookie that the service sets would travel with calls that must not tell who we are.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    }


def _check_address(url: str, library: ModuleType) -> None:
    try:
        parsed = library.URL(url)
        # The library reads it back for proxies, and the system's resolver in a form of its own.
        _ = parsed.host, parsed.raw_host.decode().encode("idna")
    except (library.InvalidURL, ValueError):
        raise ConfigurationError(
            "base_url (or AGENTHUMAN_BASE_URL) has a host that is no valid name."
        ) from None


def _check_open(closed: bool, given: SyncHttpClient | AsyncHttpClient | None) -> None:
    if closed:
        raise ConfigurationError("The client was closed; make a new one.")
    if getattr(given, "is_closed", False) is True:
        raise ConfigurationError("The http_client that was passed in is closed; close it after the client.")


def _refuse_sharing(given: SyncHttpClient | AsyncHttpClient | None, where: str) -> None:
    if given is not None:
        raise ConfigurationError(
            f"The http_client that was passed in belongs elsewhere: in {where} pass another one, or none."
        )


def _library_of(client: object) -> ModuleType:
    """The library that a client comes from: its exceptions are the ones to catch (httpx2 is a fork of httpx)."""
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in {"httpx", "httpx2"}:
            return sys.modules[name]
    return httpx
