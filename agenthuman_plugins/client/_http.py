"""The only import of httpx: one request at a time, and what became of it."""

import asyncio
import json
import platform
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any, Final, Protocol

import httpx

from agenthuman_plugins._version import __version__
from agenthuman_plugins.client._answers import Answer, NoAnswer, Outcome
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Send
from agenthuman_plugins.client._upload import UploadFile

_CONNECT_S = 5.0  # also the wait for a free connection of the pool
_TRANSFER_S = 30.0  # a create allocates a GPU server before it answers

_USER_AGENT = (
    f"agenthuman-plugins/{__version__} (httpx/{httpx.__version__}; python/{platform.python_version()})"
)


class SyncHttpClient(Protocol):
    """What we need of an `httpx.Client`; a look-alike will do."""

    @property
    def request(self) -> Callable[..., Any]:
        """Send one request and read its answer whole."""

    def close(self) -> None:
        """Close all connections."""


class AsyncHttpClient(Protocol):
    """What we need of an `httpx.AsyncClient`; a look-alike will do."""

    @property
    def request(self) -> Callable[..., Awaitable[Any]]:
        """Send one request and read its answer whole."""

    async def aclose(self) -> None:
        """Close all connections."""


class Http:
    """Carries out `Send` steps, blocking."""

    def __init__(self, settings: Settings, client: SyncHttpClient | None) -> None:
        self._settings: Final = settings
        self._owned: Final = client is None  # a client that was given is closed by its owner
        self._client: Final[SyncHttpClient] = client or httpx.Client()
        self._library: Final = _library_of(self._client)

    def send(self, step: Send) -> Outcome:
        """Send one request; only failures of the transport become a `NoAnswer`."""
        try:
            return _answer(self._client.request(**_request(step, self._settings, self._library)))
        except self._library.RequestError as error:
            return _no_answer(error, self._settings, self._library)

    def close(self) -> None:
        """Close the connections, if they are ours."""
        if self._owned:
            self._client.close()


class AsyncHttp:
    """Carries out `Send` steps on the event loop."""

    def __init__(self, settings: Settings, client: AsyncHttpClient | None) -> None:
        self._settings: Final = settings
        self._owned: Final = client is None  # a client that was given is closed by its owner
        self._client: Final[AsyncHttpClient] = client or httpx.AsyncClient()
        self._library: Final = _library_of(self._client)

    async def send(self, step: Send) -> Outcome:
        """Send one request; only failures of the transport become a `NoAnswer`."""
        limit = asyncio.timeout(step.limit_s)
        try:
            # httpx limits each phase and each read on its own; this is the limit for them all.
            async with limit:
                return _answer(await self._client.request(**_request(step, self._settings, self._library)))
        except self._library.RequestError as error:
            return _no_answer(error, self._settings, self._library)
        except TimeoutError:
            if not limit.expired():
                raise
            return NoAnswer(
                f"{self._settings.host} (time limit of the call reached)",
                may_have_arrived=True,
                timed_out=True,
            )

    async def aclose(self) -> None:
        """Close the connections, if they are ours."""
        if self._owned:
            await self._client.aclose()


def _request(step: Send, settings: Settings, library: ModuleType) -> dict[str, Any]:
    call = step.call
    headers = {"accept": "application/json", "user-agent": _USER_AGENT}
    if not call.keyless:
        headers["x-api-key"] = settings.api_key
    content = None
    if call.json is not None:
        headers["content-type"] = "application/json"
        # In ASCII: half of a surrogate pair has a form in JSON, but none in UTF-8.
        content = json.dumps(call.json, allow_nan=False).encode()
    if step.attempt:
        headers["x-retry-count"] = str(step.attempt)
    connect, transfer = min(_CONNECT_S, step.limit_s), min(_TRANSFER_S, step.limit_s)
    return {
        "method": call.method,
        "url": settings.base_url + call.path,
        "params": dict(call.params) or None,
        "headers": headers,
        "content": content,
        "files": UploadFile(call.upload).as_form() if call.upload else None,
        "timeout": library.Timeout(transfer, connect=connect, pool=connect),
        # A redirected create might be sent twice, and would take the key to another host.
        "follow_redirects": False,
    }


def _answer(response: Any) -> Answer:
    # The headers as they are, in whatever case: few answers have theirs read, and a copy costs more than the rest.
    return Answer(response.status_code, response.headers, response.content)


def _no_answer(error: Exception, settings: Settings, library: ModuleType) -> NoAnswer:
    # The exception itself ends here: it holds the request, and so the key. What the system said is worth keeping.
    never_connected = (library.ConnectError, library.ConnectTimeout, library.PoolTimeout)
    said = next(
        (f": {cause}" for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror), ""
    )
    return NoAnswer(
        f"{settings.host} ({type(error).__name__}{said})",
        may_have_arrived=not isinstance(error, never_connected),
        timed_out=isinstance(error, library.TimeoutException),
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _library_of(client: object) -> ModuleType:
    """The library that a client comes from: its exceptions are the ones to catch (httpx2 is a fork of httpx)."""
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in {"httpx", "httpx2"}:
            return sys.modules[name]
    return httpx
