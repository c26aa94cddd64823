"""The public names and signatures of the package, as text.

    python -m tests.public_api > tests/public_api.txt

renews the committed copy, after a change that is meant. What a review of that file shows is what users will notice.
"""

import inspect
import types
from collections.abc import Container, Iterator
from importlib import import_module
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel

MODULES = (
    "agenthuman_plugins",  # its names are those of `client`, told there
    "agenthuman_plugins.client",
    "agenthuman_plugins.speech",
    "agenthuman_plugins.langchain",
    "agenthuman_plugins.pipecat",
)


def describe() -> str:
    """Return the whole text."""
    return "".join(f"{line}\n" for module in MODULES for line in _module(module))


def _module(name: str) -> Iterator[str]:
    module = import_module(name)
    yield f"# {name}"
    for public in sorted(module.__all__):
        thing = getattr(module, public)
        if name == MODULES[0]:
            yield public
        elif isinstance(thing, type):
            yield from _class(public, thing)
        elif callable(thing):
            yield f"def {public}{_signature(thing)}"
        elif get_origin(thing) in {Union, types.UnionType}:  # Python 3.14 has one type for both
            yield f"{public}: UnionType"
        else:
            yield f"{public}: {type(thing).__name__}"
    yield ""


def _class(name: str, cls: type) -> Iterator[str]:
    bases = [
        base.__name__
        for base in cls.__bases__
        if base is not object and not base.__name__.startswith("_") and not _is_internal(base)
    ]
    yield f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    annotations = inspect.get_annotations(cls)
    if is_typeddict(cls):
        yield from (f"    {key}: {_hint(hint)}" for key, hint in get_type_hints(cls).items())
        return
    if issubclass(cls, BaseModel):
        for key, field in cls.model_fields.items():
            if key in annotations:
                yield f"    {key}: {_hint(field.annotation)}{'' if field.is_required() else ' = ...'}"
        yield from _members(cls)
        return
    if "__init__" in vars(cls) and not getattr(cls, "_is_protocol", False):
        yield f"    def __init__{_signature(cls.__init__)}"
    for key, hint in annotations.items():
        if key.startswith("_"):
            continue
        yield f"    {key}: {_hint(hint)}"
        if isinstance(hint, type) and hint.__module__.startswith("agenthuman_plugins.client._"):
            # A resource of a client: it has no public name of its own.
            yield from (f"    {line}" for line in _members(hint))
    yield from _inherited(cls)
    yield from _members(cls)


def _inherited(cls: type) -> Iterator[str]:
    """What internal bases bring: users know it as the class's own."""
    for base in filter(_is_internal, cls.__mro__):
        yield from _members(base, without=vars(cls))


def _is_internal(cls: type) -> bool:
    """Whether a class of the package is only there to be the base of public ones."""
    return cls.__module__.startswith("agenthuman_plugins.speech._base")


def _members(cls: type, without: Container[str] = ()) -> Iterator[str]:
    for name, member in vars(cls).items():
        if name.startswith(("_", "model_")) or name in without:
            continue
        if isinstance(member, property):
            yield f"    {name}: {_hint(inspect.signature(member.fget or _class).return_annotation)}  # property"
        elif isinstance(member, classmethod | staticmethod):
            yield f"    {type(member).__name__} {name}{_signature(member.__func__)}"
        elif isinstance(member, types.FunctionType):
            kind = "async def" if inspect.iscoroutinefunction(member) else "def"
            yield f"    {kind} {name}{_signature(member)}"


class _Shown:
    """A stand-in that shows as a text: how Python itself shows annotations differs between its versions."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [
        each.replace(
            annotation=each.annotation if each.annotation is each.empty else _Shown(_hint(each.annotation)),
            default=each.default if each.default is each.empty else _Shown(_default(each.default)),
        )
        for each in signature.parameters.values()
        if not each.name.startswith("_")
    ]
    returned = signature.return_annotation
    if returned is not signature.empty:
        returned = _Shown(_hint(returned))
    return str(signature.replace(parameters=parameters, return_annotation=returned))


def _default(value: object) -> str:
    if value is ...:
        return "..."
    return getattr(value, "__name__", None) or repr(value)


def _hint(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, list):  # the parameters of a Callable
        return f"[{', '.join(map(_hint, hint))}]"
    if hint is types.EllipsisType or hint is ...:
        return "..."
    if hint is None or hint is types.NoneType:
        return "None"
    if isinstance(hint, str):
        return hint.strip("'")
    if origin is Annotated:
        return _hint(arguments[0])
    if origin in {Union, types.UnionType}:
        return " | ".join(map(_hint, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    name = getattr(origin or hint, "__name__", None) or repr(hint)
    return f"{name}[{', '.join(map(_hint, arguments))}]" if arguments else name


if __name__ == "__main__":
    print(describe().rstrip())  # noqa: T201 - the text is meant for a file
