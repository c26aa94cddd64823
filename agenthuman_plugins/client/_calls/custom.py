"""A call to an endpoint that this package has no method for."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from agenthuman_plugins.client._calls import Call, checks
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.redaction import Secrets

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

_LINK_ID = re.compile(r"lnk_[^/]+")  # whoever knows one can start sessions

# What opens a billed session, and the method that does it without losing one.
_BILLED = (
    (re.compile(r"(?:.*/)?v1/sessions"), "POST", "sessions.create(...) or sessions.open(...)"),
    (re.compile(r"(?:.*/)?v1/sessions/[^/]+/start"), "PUT POST", "sessions.start(...)"),
    (re.compile(r"(?:.*/)?v1/links/start-session"), "POST", "links.start_session(...)"),
)


def custom(base_url: str, method: object, path: object, *, json: Any, params: object) -> Call[Any]:
    """Any request that opens no billed session, its answer as it is.

    Raises:
        ConfigurationError: The path leads elsewhere, or to a billed endpoint.
    """
    verb = checks.one_of("method", method.upper() if isinstance(method, str) else method, _METHODS)
    place = _path(path)
    known = _as_read_leniently(urlsplit(base_url).path + place)
    for route, verbs, instead in _BILLED:
        if verb in verbs.split() and route.fullmatch(known):
            raise ConfigurationError(
                f"{verb} {known} opens a billed session, which must have an owner: use {instead}."
            )
    return Call(
        verb,
        place,
        lambda body: body,
        json=None if json is None else checks.json_value("json", json),
        params=_params(params),
        secrets=Secrets(_LINK_ID.findall(place)),
        repeatable=verb == "GET",
        sent_once=verb != "GET",  # nobody knows what it does, and when it did nothing
    )


def _as_read_leniently(path: str) -> str:
    """A path as the most lenient router may read it: nothing billed must be reached under another spelling."""
    while (plain := unquote(path)) != path:
        path = plain
    segments = [segment.partition(";")[0].strip() for segment in re.split(r"[/\\]+", path)]
    return "/".join(segments).rstrip("/").lower()


def _path(path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/") or path.startswith("//"):
        raise ConfigurationError(
            f"path must begin with one '/', such as /v1/usage, not {checks.quoted(path)}."
        )
    if any(char in path for char in "?#\\") or not path.isprintable() or " " in path:
        raise ConfigurationError(
            "path must have no query, fragment, blank or backslash; a query belongs in params."
        )
    if {".", ".."} & set(unquote(unquote(path)).split("/")):
        raise ConfigurationError("path must have no '.' or '..' in it.")
    return path


def _params(params: object) -> dict[str, str]:
    if params is None:
        return {}
    if not isinstance(params, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in params.items()
    ):
        raise ConfigurationError("params must be a dict of strings.")
    return dict(params)
