"""What all answers have in common: leniency, what HTTP told beside them, and discretion.

Liberal on purpose: only ids are required, fields that we do not know are kept (`model_extra`), and a known
field with a value that does not fit is `None`. A create that is billed must not be lost to a new date format.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from agenthuman_plugins.client.errors import printable
from agenthuman_plugins.client.redaction import redact

_log = logging.getLogger("agenthuman_plugins.client")

_T = TypeVar("_T")
ModelT = TypeVar("ModelT", bound=BaseModel)

_HEADERS = (
    "_headers"  # key in an answer's `__dict__`; no field, so that it does not count when answers are compared
)
_NO_HEADERS: Mapping[str, str] = {}


def request_id_in(headers: Mapping[str, str]) -> str | None:
    """The service's id of a request, from the headers of its answer."""
    told = headers.get("x-request-id")
    return None if told is None else printable(told)


class Answered(BaseModel):
    """Something that the service answered."""

    # hide_input: the input of a validation error may be a whole reply, tokens included.
    # defer_build: each model is built at its first answer, not at import.
    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True, defer_build=True)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the HTTP answer that this came in, by lower-case name; empty for what was not answered."""
        headers: Mapping[str, str] = self.__dict__.get(_HEADERS, _NO_HEADERS)
        return headers

    @property
    def request_id(self) -> str | None:
        """The service's id of the request, for its support; `None` if it gave none."""
        return request_id_in(self.headers)

    def __hash__(self) -> int:
        # Equal answers have equal texts, ids among them; other fields hold JSON objects, which have no hash.
        return hash((type(self), *(value for value in self.__dict__.values() if isinstance(value, str))))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # Only what the answer told. Secrets of our own fields hide themselves; a field that we do not know, or an
        # address, may hold one too.
        told = [(name, value) for name, value in super().__repr_args__() if name in self.model_fields_set]
        return [(name, redact({name: value})[name]) for name, value in told]


def note_headers(value: object, headers: Mapping[str, str]) -> None:
    """Note with what headers a value was answered, and each item of its lists."""
    if isinstance(value, Answered):
        for field in value.__dict__.values():
            if isinstance(field, list):
                note_headers(field, headers)
        value.__dict__[_HEADERS] = headers
    elif isinstance(value, list):
        for item in value:
            note_headers(item, headers)


def read_each(model: type[ModelT], items: object) -> list[ModelT]:
    """Read a list; an entry that cannot be read is left out, with one warning: it must not hide the others.

    Raises:
        TypeError: It is no list.
    """
    if not isinstance(items, list):
        raise TypeError(f"not a list: {type(items).__name__}")
    read: list[ModelT] = []
    for item in items:
        try:
            read.append(model.model_validate(item))
        except ValidationError:
            continue
    if unreadable := len(items) - len(read):
        _log.warning(
            "%d of %d entries of a list could not be read and were left out.", unreadable, len(items)
        )
    return read


def _or_none(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


def _in_utc(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _object_or_as_it_is(value: Any) -> Any:
    return {} if value is None else value


Lenient = Annotated[_T | None, WrapValidator(_or_none)]
Time = Annotated[datetime, AfterValidator(_in_utc)]
# Any JSON value on reading: one page allows it.
Metadata = Annotated[Any, BeforeValidator(_object_or_as_it_is)]
