"""One request at a time, and what became of it."""

import asyncio
import io
import json
import math
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final

import httpx

from agenthuman_plugins._version import __version__
from agenthuman_plugins.client._answers import Answer, NoAnswer, Outcome
from agenthuman_plugins.client._calls import Upload
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Send
from agenthuman_plugins.client._opening import TRANSFER_S
from agenthuman_plugins.client._pools import AsyncHttpClient, AsyncPools, Pool, SyncHttpClient
from agenthuman_plugins.client.redaction import Secrets

_CONNECT_S = 5.0  # also the wait for a free connection of the pool
_READ_S = 30.0  # of a call that may be sent again: a new connection then does better than patience
_ANSWER_LIMIT = 16 * 1024 * 1024  # bytes; the largest answers are lists, of some hundred kB
_ENCODINGS = "gzip, deflate"  # decoded chunk by chunk; more than one at a time, and what we did not ask for, is refused

_USER_AGENT = (
    f"agenthuman-plugins/{__version__} (httpx/{httpx.__version__}; python/{platform.python_version()})"
)


class Gate:
    """Where a billed request leaves: open only while somebody waits for its answer.

    httpcore calls `trace` before it sends a request's head. A transport that does not is taken to have sent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = False
        self._passed = False
        self._closed = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note what the transport does; stop it at the closed gate."""
        with self._lock:
            self._seen = True
            # Whatever is about to be done with our request counts as sending it, under whatever name: a mistake to
            # the other side would let a billed request be sent twice. One that asks a proxy to connect us is not ours.
            request = info.get("request") if event.endswith(".started") else None
            if request is None or event.startswith("connection.") or request.method == b"CONNECT":
                return
            if self._closed and not self._passed:
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
    """Carries out `Send` steps, blocking."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._settings: Final = settings
        self._pool: Final = pool

    def send(self, step: Send, key: Secrets | None, gate: Gate | None = None) -> Outcome:
        """Send one request; only failures of the transport become a `NoAnswer`."""
        pool, library = self._pool.current(), self._pool.library
        request = _request(pool, step, self._settings, key, library, None if gate is None else gate.trace)
        limits = request.extensions["timeout"]
        left = _TimeLeft(self._settings, max(step.limit_s, TRANSFER_S if gate else 0.0), limits["read"])
        if not self._pool.is_given:
            limits["read"] = left
        response = None
        try:
            response = pool.send(request, stream=True, follow_redirects=False)
            body = _Body(response)
            if body.is_readable:
                for chunk in response.iter_bytes():
                    if not body.take(chunk):
                        break
                    if left.is_over:
                        return out_of_time(self._settings)
            return body.answer()
        except (library.RequestError, GateClosedError) as error:
            return _no_answer(error, self._settings, library, gate)
        except Exception as error:  # noqa: BLE001 - whatever it is
            del request
            raise _without_frames(error)  # noqa: B904
        finally:
            if response is not None:
                response.close()


class AsyncHttp:
    """Carries out `Send` steps on the event loop."""

    def __init__(self, settings: Settings, pools: AsyncPools) -> None:
        self._settings: Final = settings
        self._pools: Final = pools

    async def send(self, step: Send, key: Secrets | None, gate: Gate | None = None) -> Outcome:
        """Send one request; only failures of the transport become a `NoAnswer`."""
        pool, library = await self._pools.current(), self._pools.library
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


class _TimeLeft:
    """The time left for a blocking request, as a limit of each read: else one that drips would never be given up.

    httpcore hands the limit to the socket before each read, which takes a float or what has an index: whole seconds.

    Args:
        settings: The clock.
        limit_s: Seconds for the whole request.
        read_s: Seconds for a single read.
    """

    def __init__(self, settings: Settings, limit_s: float, read_s: float) -> None:
        self._now = settings.clock.monotonic
        self._until = self._now() + limit_s
        self._read_s = read_s

    @property
    def is_over(self) -> bool:
        """Whether there is none."""
        return self._now() >= self._until

    def __index__(self) -> int:
        if self.is_over:
            raise TimeoutError
        return math.ceil(min(self._until - self._now(), self._read_s))


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
