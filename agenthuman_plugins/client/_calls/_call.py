"""One request of the API, as a value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)

OnProgress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture to send as the field `file` of a form.

    Attributes:
        content: The picture. It is held whole, so that a request can be sent again from its start.
        media_type: Such as `image/png`.
        on_progress: Told the bytes sent so far and in all; from 0 again if the request is sent again.
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
        upload: Picture to send instead of a JSON body.
        secrets: Values of the body that must not show in an error.
        older: The same call in an older form, for a service that does not know this one.
        repeatable: Whether it may be sent again although it may have been processed.
        billed: Whether it opens a billed session, so that a lost answer is worth an error of its own.
        keyless: Whether the API key stays out of it.
    """

    method: str
    path: str
    parse: Callable[[Any], T_co]
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    older: "Call[T_co] | None" = None
    repeatable: bool = True
    billed: bool = False
    keyless: bool = False


def told(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a flat reply tells, beside that it is a success."""
    return {key: value for key, value in body.items() if key != "success"}
