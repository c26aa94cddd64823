"""What a model may say to each tool, and what of it is refused before anything is sent.

Every provider takes these schemas: no free-form object, no `default` keyword, nothing that a converter drops.
Arguments are traced by LangChain and fill the model's context, so they are short and hold no secret.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from langchain_core.tools import InjectedToolArg
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError

from agenthuman_plugins.client.adapters import holds_secret
from agenthuman_plugins.client.rooms import AspectRatio

Status: TypeAlias = Literal["started", "ended", "all"]

# An agent's tool node injects its runtime into any argument of this name; a plain call leaves it None. Declared as
# a bare object, it needs no langgraph. Locked by test_runtime_is_injected_and_hidden.
# Gemini's converter reads the whole schema, injected arguments included, so this one is left out of it.
Runtime: TypeAlias = Annotated[object | None, InjectedToolArg(), SkipJsonSchema()]

TEXT_LIMIT = 2_000  # characters: about two minutes of speech, which a call returns only after
_URL_LIMIT = 2_000  # characters; a picture as base64 would fill context and trace
_SHOWN_NAMES = 5  # of arguments that no tool has

# A public avatar's id has parts, `PUBLIC/Avatars/<name>`; none of them may climb out, as `..` does.
_AVATAR_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}|PUBLIC(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}){1,4}")
# Documented ids are `sess_` and about 25 letters and digits. A key, a token, a path or a query is none.
_SESSION_ID = re.compile(r"sess_[A-Za-z0-9_-]{1,80}")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")  # a name that may be repeated to the model
_NO_WORDS = frozenset({"null", "none", "undefined"})
_JSON_TYPES = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def _refusal(sentence: str) -> PydanticCustomError:
    # As a value: the template itself would have to be a literal.
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def _none() -> None:
    return None


def _started() -> Status:
    return "started"


def _blank_as_none(value: object) -> object:
    """In strict modes a model sends null for what it leaves out; others send an empty string."""
    return None if isinstance(value, str) and not value.strip() else value


def _started_if_none(value: object) -> object:
    return _started() if _blank_as_none(value) is None else value


def _avatar(value: str | None) -> str | None:
    """An avatar id or an https address, without a secret."""
    if value is None:
        return None
    if len(value) > _URL_LIMIT or value.lstrip()[:5].lower() == "data:":
        raise _refusal("avatar must be a short avatar id or https URL, not a picture.")
    if holds_secret(value):
        raise _refusal("avatar holds what looks like a key or a token: leave it out.")
    if "://" in value:
        if not _is_plain_https(value):
            raise _refusal(
                "avatar is a URL, but not an https one without blanks: it needs a host, and must hold no password."
            )
    elif value.lower() in _NO_WORDS or not _AVATAR_ID.fullmatch(value):
        raise _refusal(
            "avatar is not an avatar id (avat_... or PUBLIC/Avatars/...): leave it out for the default one."
        )
    return value


def _session_id(value: str) -> str:
    """What can be the id of a session, and part of an address."""
    if not _SESSION_ID.fullmatch(value):
        raise _refusal("session_id is not the id of a session (sess_...): use one that a tool returned.")
    if holds_secret(value):
        raise _refusal("session_id holds what looks like a key or a token: use an id that a tool returned.")
    return value


def _text(value: str) -> str:
    """What can be spoken."""
    if not value.strip():
        raise _refusal("text is empty: say something, or do not call this.")
    if len(value) > TEXT_LIMIT:
        raise _refusal(
            f"text has {len(value)} characters, and at most {TEXT_LIMIT} are spoken at once: shorten it, or say it in "
            "several calls."
        )
    if not _is_unicode(value):
        raise _refusal("text holds half of a character (a lone surrogate): leave it out.")
    return value


def _bare(schema: dict[str, Any]) -> None:
    """Leave what the model needs. Gemini's converter reads a class's own schema and warns of what it does not know."""
    for keyword in ("title", "description", "additionalProperties"):
        schema.pop(keyword, None)
    for item in schema["properties"].values():
        item.pop("title", None)
    if not schema["properties"]:
        schema.clear()  # Gemini refuses an object without properties, and takes a tool without parameters


# An unknown argument is refused: the call asks for something that the tool does not do. That does not keep a tool
# node from injecting `runtime`, which is declared. Locked by test_refusing_the_unknown_lets_the_runtime_in.
_CONFIG = ConfigDict(extra="forbid", json_schema_extra=_bare)

# Defaults are made by functions, since a plain one would be a `default` keyword, which no strict mode takes.
# `runtime` stands last, since a call with a bare string fills the first argument.


class CreateArgs(BaseModel):
    """Arguments of the create tool."""

    model_config = _CONFIG

    avatar: Annotated[str | None, BeforeValidator(_blank_as_none), AfterValidator(_avatar)] = Field(
        default_factory=_none, description="Avatar id or https image URL. Omit for the default avatar."
    )
    aspect_ratio: Annotated[AspectRatio | None, BeforeValidator(_blank_as_none)] = Field(
        default_factory=_none, description="Shape of the video. Omit for the default."
    )
    runtime: Runtime = None


class SessionArgs(BaseModel):
    """Arguments of the tools for one session."""

    model_config = _CONFIG

    session_id: Annotated[str, AfterValidator(_session_id)] = Field(
        description="Id of the session (sess_...)."
    )
    runtime: Runtime = None


class ListArgs(BaseModel):
    """Arguments of the list tool."""

    model_config = _CONFIG

    status: Annotated[Status, BeforeValidator(_started_if_none)] = Field(
        default_factory=_started, description="started: those that run, which is the default."
    )
    runtime: Runtime = None


class SayArgs(BaseModel):
    """Arguments of the say tool."""

    model_config = _CONFIG

    session_id: Annotated[str, AfterValidator(_session_id)] = Field(
        description="Id of the session (sess_...)."
    )
    text: Annotated[str, AfterValidator(_text)] = Field(
        description=f"Plain words to speak, at most {TEXT_LIMIT} characters. No markup."
    )
    runtime: Runtime = None


class NoArgs(BaseModel):
    """Arguments of a tool that takes none: the lists of avatars and of usage."""

    model_config = _CONFIG

    runtime: Runtime = None


def named(schema: type[BaseModel], bare: Sequence[str]) -> dict[str, Any]:
    """The argument that a call with a bare string is for: LangChain checks that as the first one, and gives no name."""
    name = next(iter(schema.model_fields))
    if not bare or name == "runtime":
        return {}
    return {name: getattr(schema.model_validate({name: bare[0]}), name)}


def explain(schema: type[BaseModel], error: ValidationError | Any) -> str:
    """What the model is told of arguments that do not fit a schema: a sentence for each, without its value."""
    if not isinstance(error, ValidationError):
        return "Nothing was done. The arguments do not fit the tool. Change them and try again."
    wrong: dict[str, str] = {}  # the first problem of each argument
    unknown: list[object] = []
    for item in error.errors(include_url=False):
        name = item["loc"][0] if item["loc"] else ""  # of no place: a name that is no text
        if item["type"] == "extra_forbidden" or not name:
            unknown.append(name)
        else:
            wrong.setdefault(str(name), _sentence(str(name), item, schema))
    problems = list(wrong.values())
    if unknown:
        problems.append(_of_unknown(unknown, list(schema.model_json_schema().get("properties", {}))))
    return f"Nothing was done. {' '.join(problems)} Change this and try again."


def _sentence(name: str, item: ErrorDetails, schema: type[BaseModel]) -> str:
    match item["type"]:
        case "refused":
            return item["msg"]
        case "missing":
            return f"{name} is missing."
        case "literal_error":
            field = schema.model_fields.get(name)
            omit = "" if field is None or field.is_required() else ", or be left out"
            return f"{name} must be {item['ctx']['expected']}{omit}."
        case "string_type":
            return f"{name} must be a string, not {_json_type(item['input'])}."
        case "string_unicode":
            return f"{name} holds half of a character (a lone surrogate): leave it out."
        case _:
            return f"{name} does not fit the tool."


def _of_unknown(names: list[object], arguments: list[str]) -> str:
    """One sentence for all of them. Their names are the model's own, of any length and content."""
    shown = [str(name) for name in names[:_SHOWN_NAMES] if _may_be_repeated(name)]
    said = f"Unknown argument{'s' if len(names) > 1 else ''}"
    if shown:
        left_out = len(names) - len(shown)
        said += f": {', '.join(shown)}" + (f" and {left_out} more" if left_out else "")
    return f"{said}. This tool takes {' and '.join(arguments) or 'no arguments'}."


def _may_be_repeated(name: object) -> bool:
    return isinstance(name, str) and bool(_ARGUMENT.fullmatch(name)) and not holds_secret(name)


def _json_type(value: object) -> str:
    return next((word for kind, word in _JSON_TYPES.items() if isinstance(value, kind)), "something else")


def _is_plain_https(url: str) -> bool:
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


def _is_unicode(text: str) -> bool:
    """Whether a text can be written down: a model may make up half of a character (a lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
