"""One pure function per endpoint: its arguments checked, and its request as a value. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypedDict, TypeVar

from agenthuman_plugins.client._calls import checks
from agenthuman_plugins.client._config import seconds
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.redaction import Secrets

T_co = TypeVar("T_co", covariant=True)

OnProgress = Callable[[int, int], object]

_OURS = frozenset({"room", "avatar", "avatar_id", "link_id"})  # decided by arguments, which were checked
_FORBIDDEN_HEADERS = frozenset(
    {"x-api-key", "authorization", "cookie", "host", "content-type", "content-length", "transfer-encoding"}
)


class CallOptions(TypedDict, total=False):
    """Options that every call takes.

    Attributes:
        timeout: Limit in seconds for the whole call, retries included; `None` takes the client's.
        extra_headers: Headers to send beside ours, in ASCII; never the key, a cookie, the host or what frames the body.
    """

    timeout: float | None
    extra_headers: Mapping[str, str] | None


class BodyOptions(CallOptions, total=False):
    """Options of a call that sends a body.

    Attributes:
        extra_body: Fields to send beside ours, such as one that this package does not know yet; objects are merged.
    """

    extra_body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture to send as the field `file` of a form.

    Attributes:
        content: The picture. It is held whole, so that a request can be sent again from its start.
        media_type: Such as `image/png`.
        on_progress: Called with the bytes sent so far and in all; from 0 again if the request is sent again.
    """

    content: bytes = field(repr=False)
    media_type: str
    on_progress: OnProgress | None = None


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One request of the API.

    Attributes:
        method: HTTP method.
        path: Path below the base URL, encoded.
        parse: Makes the value of the parsed body; raises `ValueError` or the like if it does not fit.
        json: Body, or `None` for none.
        params: Query.
        headers: Headers beside ours.
        upload: Picture to send instead of a JSON body.
        secrets: Values that must not show in an error.
        older: The same call in an older form, for a service that does not know this one.
        repeatable: Whether it may be sent again although it may have been processed.
        sent_once: Whether it is not even sent again if the service surely did not process it.
        billed: Whether it opens a billed session, so that whatever it opens must be ended if nobody waits for it.
        keyless: Whether the API key stays out of it.
        timeout_s: Limit for the whole call, retries included; `None` takes the client's.
    """

    method: str
    path: str = field(repr=False)
    parse: Callable[[Any], T_co]
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    upload: Upload | None = None
    secrets: Secrets = field(default_factory=Secrets)
    older: "Call[T_co] | None" = None
    repeatable: bool = True
    sent_once: bool = False
    billed: bool = False
    keyless: bool = False
    timeout_s: float | None = None


def without_success(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a flat reply, without the one that says that it is a success."""
    return {key: value for key, value in body.items() if key != "success"}


def with_options(call: Call[T_co], options: Mapping[str, Any]) -> Call[T_co]:
    """The call with the options of `CallOptions` or `BodyOptions`.

    Raises:
        ConfigurationError: A value makes no sense.
        TypeError: There is no such option.
    """
    if not options:
        return call
    takes_body = (call.json is not None or call.upload is not None) and call.method != "GET"
    known = BodyOptions.__annotations__ if takes_body else CallOptions.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"got an unexpected keyword argument {name!r}")
    headers, body, timeout = (options.get(name) for name in ("extra_headers", "extra_body", "timeout"))
    if body is not None and call.upload is not None:
        raise ConfigurationError("extra_body goes with a JSON body; a file is sent as a form.")
    return _with(
        call,
        timeout_s=None if timeout is None else seconds("timeout", timeout),
        headers={} if headers is None else _headers(headers),
        body={} if body is None else checks.json_object("extra_body", body),
    )


def _with(
    call: Call[T_co], *, timeout_s: float | None, headers: Mapping[str, str], body: Mapping[str, Any]
) -> Call[T_co]:
    return replace(
        call,
        timeout_s=timeout_s,
        headers={**call.headers, **headers},
        json=_merged(call.json or {}, body) if body else call.json,
        older=None
        if call.older is None
        else _with(call.older, timeout_s=timeout_s, headers=headers, body=body),
    )


def _headers(given: object) -> dict[str, str]:
    # Values stay out of the texts: they may be secrets.
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"extra_headers must be a dict of strings, not {type(given).__name__}.")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError("extra_headers must be a dict of strings.")
        if not name or not name.isascii() or not name.isprintable() or set(name) & set(' :"(),/;<=>?@[\\]{}'):
            raise ConfigurationError(
                f"extra_headers holds {checks.quoted(name)}, which is no name of a header."
            )
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise ConfigurationError(
                f"extra_headers[{name!r}] must be plain ASCII, without control characters or blanks around it."
            )
        if name.lower() in _FORBIDDEN_HEADERS:
            raise ConfigurationError(
                f"extra_headers must not hold {name!r}: the client itself decides where a request goes and how it "
                "is authorized."
            )
    return {name.lower(): value for name, value in given.items()}  # none may be said twice


def _merged(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    if clash := sorted(_OURS & extra.keys()):
        raise ConfigurationError(f"extra_body must not hold {', '.join(clash)}: pass it as an argument.")
    merged = dict(body)
    for key, value in extra.items():
        ours = merged.get(key)
        if isinstance(ours, dict) and not isinstance(value, dict):
            raise ConfigurationError(f"extra_body[{key!r}] must be a JSON object, which is merged with ours.")
        merged[key] = {**ours, **value} if isinstance(ours, dict) else value
    if isinstance(body.get("metadata"), dict):
        checks.metadata(merged["metadata"])
    return merged
