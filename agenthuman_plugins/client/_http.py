"""The only import of httpx: one request at a time, and what became of it."""

import asyncio
import io
import json
import os
import platform
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import ModuleType
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import httpx

from agenthuman_plugins._version import __version__
from agenthuman_plugins.client._answers import Answer, NoAnswer, Outcome
from agenthuman_plugins.client._calls import Upload
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Send
from agenthuman_plugins.client._opening import TRANSFER_S
from agenthuman_plugins.client.addresses import is_this_machine
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.redaction import Secrets

_CONNECT_S = 5.0  # also the wait for a free connection of the pool
_READ_S = 30.0  # of a call that may be sent again: a new connection then does better than patience
_ANSWER_LIMIT = 16 * 1024 * 1024  # bytes; the largest answers are lists, of some hundred kB
_ENCODINGS = "gzip, deflate"  # decoded chunk by chunk; more than one at a time, and what we did not ask for, is refused

_PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")

_USER_AGENT = (
    f"agenthuman-plugins/{__version__} (httpx/{httpx.__version__}; python/{platform.python_version()})"
)


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


class Gate:
    """Where a billed request leaves: open only while somebody waits for its answer.

    httpcore calls `trace` before it sends a request's head. A transport that does not is taken to have sent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = False  # whether the transport reports at all; ours does, at its first step or later
        self._passed = False
        self._closed = False

    def rely_on_trace(self) -> None:
        """The transport is known to report: as long as it has not, nothing has left."""
        self._seen = True

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note what the transport does; stop it at the closed gate."""
        with self._lock:
            self._seen = True
            # The request to a proxy to connect us is none of ours.
            if not event.endswith("send_request_headers.started") or info["request"].method == b"CONNECT":
                return
            if self._closed:
                raise GateClosedError
            self._passed = True

    async def atrace(self, event: str, info: Mapping[str, Any]) -> None:
        """The same for the async transport."""
        self.trace(event, info)

    def close(self) -> bool:
        """Let nothing leave any more; return whether nothing has."""
        with self._lock:
            self._closed = True
            return self._has_let_nothing_pass()

    @property
    def may_have_passed(self) -> bool:
        """Whether the request may have left."""
        with self._lock:
            return not self._has_let_nothing_pass()

    def _has_let_nothing_pass(self) -> bool:
        return self._seen and not self._passed


class GateClosedError(Exception):
    """Raised inside of the transport when nobody waits for the request that it is about to send."""


class Http:
    """Carries out `Send` steps, blocking. Threads may share it, and a process that was forked gets a pool of its own."""

    def __init__(self, settings: Settings, client: SyncHttpClient | None) -> None:
        self._settings: Final = settings
        self._given: Final = client  # closed by its owner
        self._library: Final = _library_of(client)
        _check_address(settings.base_url, self._library)
        if client is None:
            check_proxies(settings)
        self._pid = os.getpid()
        self._pool: SyncHttpClient = client or self._make()
        self._closed = False

    def send(self, step: Send, key: Secrets | None, gate: Gate | None = None) -> Outcome:
        """Send one request; only failures of the transport become a `NoAnswer`."""
        if gate is not None and self._given is None:
            gate.rely_on_trace()
        pool, library = self._current(), self._library
        request = _request(pool, step, self._settings, key, library, None if gate is None else gate.trace)
        deadline = self._settings.clock.monotonic() + max(step.limit_s, TRANSFER_S if gate else 0.0)
        response = None
        try:
            response = pool.send(request, stream=True, follow_redirects=False)
            body = _Body(response)
            if body.is_readable:
                for chunk in response.iter_bytes():
                    if not body.take(chunk):
                        break
                    if self._settings.clock.monotonic() > deadline:
                        return out_of_time(self._settings, may_have_arrived=True)
            return body.answer()
        except (library.RequestError, GateClosedError) as error:
            return _no_answer(error, self._settings, library, gate)
        except Exception as error:  # noqa: BLE001 - whatever it is
            del request
            raise _without_frames(error)  # noqa: B904
        finally:
            if response is not None:
                response.close()

    def close(self) -> None:
        """Close the connections, if they are ours."""
        self.refuse_calls()
        if self._given is None and self._pid == os.getpid():
            self._pool.close()

    def refuse_calls(self) -> None:
        """Let no call begin any more."""
        self._closed = True

    def _current(self) -> SyncHttpClient:
        _check_open(self._closed, self._given)
        if self._pid != os.getpid():
            _refuse_sharing(self._given, "a forked process")
            # The parent's connections are left alone: closing them here would say goodbye in its name.
            self._pid, self._pool = os.getpid(), self._make()
        return self._pool

    def _make(self) -> httpx.Client:
        return httpx.Client(**_options(self._settings, _Trust(self._settings).context()))


class AsyncHttp:
    """Carries out `Send` steps on the event loop; each loop, and each forked process, has a pool of its own."""

    def __init__(self, settings: Settings, client: AsyncHttpClient | None) -> None:
        self._settings: Final = settings
        self._given: Final = client  # closed by its owner
        self._library: Final = _library_of(client)
        _check_address(settings.base_url, self._library)
        if client is None:
            check_proxies(settings)
        self._pid = os.getpid()
        self._home: asyncio.AbstractEventLoop | None = None  # of the client that was given
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
        self._trust = _Trust(settings)
        self._closed = False

    async def send(self, step: Send, key: Secrets | None, gate: Gate | None = None) -> Outcome:
        """Send one request; only failures of the transport become a `NoAnswer`."""
        if gate is not None and self._given is None:
            gate.rely_on_trace()
        pool, library = await self._current(), self._library
        request = _request(pool, step, self._settings, key, library, None if gate is None else gate.atrace)
        limit = asyncio.timeout(max(step.limit_s, TRANSFER_S if gate else 0.0))
        response = None
        try:
            # httpx limits each phase and each read on its own; this is the limit for them all.
            async with limit:
                response = await pool.send(request, stream=True, follow_redirects=False)
                body = _Body(response)
                if body.is_readable:
                    async for chunk in response.aiter_bytes():
                        if not body.take(chunk):
                            break
                return body.answer()
        except (library.RequestError, GateClosedError) as error:
            return _no_answer(error, self._settings, library, gate)
        except TimeoutError:
            if not limit.expired():
                raise
            return out_of_time(self._settings, may_have_arrived=gate is None or not gate.close())
        except Exception as error:  # noqa: BLE001 - whatever it is
            del request
            raise _without_frames(error)  # noqa: B904
        finally:
            if response is not None:
                await response.aclose()

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

    async def _current(self) -> AsyncHttpClient:
        _check_open(self._closed, self._given)
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            _refuse_sharing(self._given, "a forked process")
            self._pid, self._pools, self._trust = os.getpid(), WeakKeyDictionary(), _Trust(self._settings)
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

    def context(self) -> ssl.SSLContext:
        """The context for connections."""
        with self._lock:
            if self._context is None:
                self._context = (
                    httpx.create_ssl_context() if self._needed else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                )
            return self._context


class _UploadFile(io.BytesIO):
    """What httpx reads an upload from; each attempt has one of its own."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(upload.content)
        self._upload = upload

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next part, and report it."""
        part = super().read(size)
        if part and self._upload.on_progress is not None:
            self._upload.on_progress(self.tell(), len(self._upload.content))
        return part


class _Body:
    """The body of an answer while it comes, up to a limit: what the other side sends must not fill the memory."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._chunks: list[bytes] = []
        self._size = 0
        self._unread: str | None = None
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip", "deflate", ""}:
            self._unread = "it is encoded in a way that was not asked for"

    @property
    def is_readable(self) -> bool:
        """Whether the body can be decoded within bounds."""
        return self._unread is None

    def take(self, chunk: bytes) -> bool:
        """Add a part; `False` if that was too much."""
        self._size += len(chunk)
        if self._size > _ANSWER_LIMIT:
            self._unread = f"it has more than {_ANSWER_LIMIT // 1024**2} MiB"
            self._chunks.clear()
            return False
        self._chunks.append(chunk)
        return True

    def answer(self) -> Answer:
        """What was read."""
        # The headers as they are, in whatever case: few answers have theirs read, and a copy costs more than the rest.
        return Answer(
            self._response.status_code, self._response.headers, b"".join(self._chunks), self._unread
        )


def check_proxies(settings: Settings) -> None:
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


def _request(
    pool: SyncHttpClient | AsyncHttpClient,
    step: Send,
    settings: Settings,
    key: Secrets | None,
    library: ModuleType,
    trace: Callable[..., Any] | None,
) -> Any:
    call = step.call
    headers = {**call.headers, "accept": "application/json", "accept-encoding": _ENCODINGS}
    headers.setdefault("user-agent", _USER_AGENT)
    content = None
    if call.json is not None:
        headers["content-type"] = "application/json"
        # In ASCII: half of a surrogate pair has a form in JSON, but none in UTF-8.
        content = json.dumps(call.json, allow_nan=False).encode()
    if step.attempt:
        headers["x-retry-count"] = str(step.attempt)
    connect = min(_CONNECT_S, step.limit_s)
    transfer = min(_READ_S, step.limit_s) if call.repeatable else step.limit_s
    if trace is not None:
        transfer = max(transfer, TRANSFER_S)  # it goes on when its caller has gone
    request = pool.build_request(
        method=call.method,
        url=settings.base_url + call.path,
        params=dict(call.params) or None,
        headers=headers,
        content=content,
        files=_form(call.upload) if call.upload else None,
        timeout=library.Timeout(transfer, connect=connect, pool=connect),
        extensions=None if trace is None else {"trace": trace},
    )
    for value in key or ():
        request.headers["x-api-key"] = (
            value  # here: the repr of a request shows no headers, that of a dict does
        )
    if call.keyless:
        request.headers.pop("cookie", None)
    return request


def _form(upload: Upload) -> dict[str, tuple[str, _UploadFile, str]]:
    """The form with the one field `file`, as httpx takes it."""
    # What the file is called on the caller's machine is nobody's business.
    name = f"face.{upload.media_type.rpartition('/')[2]}"
    return {"file": (name, _UploadFile(upload), upload.media_type)}


def _no_answer(error: Exception, settings: Settings, library: ModuleType, gate: Gate | None) -> NoAnswer:
    # The exception itself ends here: it holds the request, and so the key. What the system said is worth keeping.
    if isinstance(error, GateClosedError):
        return out_of_time(settings, may_have_arrived=False)
    never_sent = (
        library.ConnectError,  # TLS included
        library.ConnectTimeout,
        library.PoolTimeout,
        library.ProxyError,
        library.UnsupportedProtocol,
    )
    said = next(
        (f": {cause}" for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror), ""
    )
    return NoAnswer(
        f"{settings.host} ({type(error).__name__}{said})",
        # A proxy that fails while it is asked to connect us may look like a service that hangs up.
        may_have_arrived=not isinstance(error, never_sent) and (gate is None or gate.may_have_passed),
        timed_out=isinstance(error, library.TimeoutException),
    )


def _without_frames(error: Exception) -> Exception:
    """A defect of somebody, without the frames that hold the key; those of its chain, too."""
    for each in _causes(error):
        each.__traceback__ = None
    return error


def out_of_time(settings: Settings, *, may_have_arrived: bool = True) -> NoAnswer:
    """What becomes of a request when the time of its call is up."""
    return NoAnswer(
        f"{settings.host} (time limit of the call reached)", may_have_arrived=may_have_arrived, timed_out=True
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
