"""Secrets taken out of what others say, before it becomes an error text, a log line or a repr."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeVar, cast

_T = TypeVar("_T")

MASK = "**********"

_SHORTEST = 6  # a shorter value is a word of a test, and masking it would garble every text
_DEEPEST = 50  # levels of an answer that is meant to be read; Python itself follows some hundred
_SECRET_KEY = re.compile(r"(?:token|secret|password|api_?key)$", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"ah_(?:live|test)_\w+"  # API keys
    r"|(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"  # JSON web tokens; begun nowhere else, or the search is quadratic
    r"|(?<=[?&])[\w.~-]+=[^\s&\"'<>)]+"  # URL queries
)


class Secrets(Collection[str]):
    """Texts that nobody must see: what prints the variables of a traceback gets a mask."""

    __slots__ = ("_texts",)

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: Final = tuple(texts)

    def __contains__(self, text: object) -> bool:
        return text in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"Secrets({MASK})"


class _Hidden(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


def hide(value: _T) -> _T:
    """The same text, whose repr is a mask; what is no text stays as it is."""
    return cast("_T", _Hidden(value)) if isinstance(value, str) else value


def redact(value: Any, secrets: Collection[str] = (), *, levels: int = _DEEPEST) -> Any:
    """Copy JSON-like `value` with secrets masked: by their key, by their look, and those given in `secrets`.

    What is nested deeper than `levels` is masked, too.
    """
    match value:
        case str():
            for secret in secrets:
                if len(secret) >= _SHORTEST:
                    value = value.replace(secret, MASK)
            return _SECRET_TEXT.sub(MASK, value)
        case dict() | list() if not levels:
            return MASK
        case dict():
            return {
                key: MASK
                if isinstance(item, str) and _SECRET_KEY.search(str(key))
                else redact(item, secrets, levels=levels - 1)
                for key, item in value.items()
            }
        case list():
            return [redact(item, secrets, levels=levels - 1) for item in value]
        case _:
            return value
