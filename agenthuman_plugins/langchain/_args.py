"""What a model may say, and what of it is refused before anything is sent.

Arguments are traced by LangChain and fill the model's context, so they are short and hold no secret.
"""

import re
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from agenthuman_plugins.client.adapters import MARKS, holds_secret
from agenthuman_plugins.client.rooms import AspectRatio
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._structured import Runtime

Status: TypeAlias = Literal["started", "ended", "all"]

_URL_LIMIT = 2_000  # characters; a picture as base64 would fill context and trace
_METADATA_LIMIT = 1_000  # characters in all
_AVATAR_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class CreateArgs(BaseModel):
    """Arguments of the create tool."""

    avatar: str | None = Field(
        default=None, description="Avatar id or https image URL. Omit for the default avatar."
    )
    aspect_ratio: AspectRatio | None = Field(
        default=None, description="Shape of the picture. Omit for the default."
    )
    metadata: dict[str, str] | None = Field(default=None, description="Short notes to keep with the session.")
    runtime: Runtime = None


class SessionArgs(BaseModel):
    """Arguments of the tools for one session."""

    session_id: str = Field(description="Id of the session (sess_...).")
    runtime: Runtime = None


class ListArgs(BaseModel):
    """Arguments of the list tool."""

    status: Status = Field(default="started", description="started: those that run.")
    runtime: Runtime = None


def avatar(value: str) -> str:
    """An avatar id or an https address.

    Raises:
        ToolException: It is something else. Nothing was sent.
    """
    if len(value) > _URL_LIMIT or value.lstrip()[:5].lower() == "data:":
        raise ToolException(
            "avatar must be a short avatar id or https URL, not a picture. Change it and try again."
        )
    if holds_secret(value):
        raise ToolException(_texts.looks_secret("avatar"))
    if "://" in value:
        if not _is_plain_https(value):
            raise ToolException(
                "avatar is a URL, but not an https one without blanks: it needs a host, and must hold no password. "
                "Use an avatar id or an https URL."
            )
    elif not _AVATAR_ID.fullmatch(value):
        raise ToolException("avatar is not an avatar id (avat_...). Omit it for the default avatar.")
    return value


def metadata(value: dict[str, str]) -> dict[str, str]:
    """Short notes under keys of the model's own.

    Raises:
        ToolException: They are long, secret, or under a key that is reserved. Nothing was sent.
    """
    if sum(len(key) + len(text) for key, text in value.items()) > _METADATA_LIMIT:
        raise ToolException(f"metadata is too long: at most {_METADATA_LIMIT} characters in all. Shorten it.")
    if not all(is_unicode(text) for item in value.items() for text in item):
        raise ToolException("metadata holds half of a character (a lone surrogate). Leave it out.")
    if reserved := MARKS & value.keys():
        raise ToolException(f"metadata must not hold {min(reserved)!r}, which is reserved. Leave it out.")
    if holds_secret(value) or any(map(holds_secret, value)):
        raise ToolException(_texts.looks_secret("metadata"))
    return value


def _is_plain_https(url: str) -> bool:
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: a model may make up half of a character (a lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
