"""One request as it is sent, and its answer as it is read. The library is handed in: httpx, or its fork."""

import functools
import io
import json
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from agenthuman_plugins._version import __version__
from agenthuman_plugins.client._answers import Answer, NoAnswer
from agenthuman_plugins.client._calls import Upload
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Send
from agenthuman_plugins.client._opening import TRANSFER_S
from agenthuman_plugins.client.redaction import Secrets

_CONNECT_S = 5.0  # also the wait for a free connection of the pool
_READ_S = 30.0  # of a call that may be sent again: a new connection then does better than patience
_ANSWER_LIMIT = 16 * 1024 * 1024  # bytes; the largest answers are lists, of some hundred kB
_ENCODINGS = "gzip, deflate"  # decoded chunk by chunk; more than one at a time, and what we did not ask for, is refused


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


class Body:
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


def request_of(
    pool: Any,
    step: Send,
    settings: Settings,
    key: Secrets | None,
    library: ModuleType,
    trace: Callable[..., Any] | None,
) -> Any:
    """The request of a step.

    Args:
        pool: The HTTP client that makes it.
        step: What to send.
        settings: Of our client.
        key: The API key; `None` sends none.
        library: Where `pool` comes from.
        trace: Is called with what the transport does; given for what goes on when its caller has gone.
    """
    call = step.call
    headers = {**call.headers, "accept": "application/json", "accept-encoding": _ENCODINGS}
    headers.setdefault("user-agent", _user_agent(library))
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


def no_answer(error: Exception, settings: Settings, library: ModuleType, gate: Gate | None) -> NoAnswer:
    """What a failure of the transport means for the request."""
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


def out_of_time(settings: Settings, *, may_have_arrived: bool = True) -> NoAnswer:
    """What becomes of a request when the time of its call is up."""
    return NoAnswer(
        f"{settings.host} (time limit of the call reached)", may_have_arrived=may_have_arrived, timed_out=True
    )


def without_frames(error: Exception) -> Exception:
    """A defect of somebody, without the frames that hold the key; those of its chain, too."""
    for each in _causes(error):
        each.__traceback__ = None
    return error


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


def _form(upload: Upload) -> dict[str, tuple[str, _UploadFile, str]]:
    """The form with the one field `file`, as httpx takes it."""
    # What the file is called on the caller's machine is nobody's business.
    name = f"face.{upload.media_type.rpartition('/')[2]}"
    return {"file": (name, _UploadFile(upload), upload.media_type)}


@functools.cache
def _user_agent(library: ModuleType) -> str:
    return (
        f"agenthuman-plugins/{__version__} "
        f"({library.__name__}/{library.__version__}; python/{platform.python_version()})"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
