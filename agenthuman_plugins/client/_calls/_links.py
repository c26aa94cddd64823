"""The calls of `/v1/links`."""

from datetime import datetime
from types import EllipsisType
from typing import Any

from agenthuman_plugins.client._calls import _checks
from agenthuman_plugins.client._calls._call import Call, told
from agenthuman_plugins.client.models import Link, LinkSession

STATES = ("active", "paused", "expired")
_FORM = "lnk_…"


def create_link(
    *, agent_id: str, name: str | None, expires_at: datetime | None, use_limit: int | None
) -> Call[Link]:
    """`POST /v1/links`.

    Source: docs.agenthuman.com, endpoints/create-link.
    """
    body: dict[str, Any] = {"agent_id": _checks.identifier("agent_id", agent_id, "agnt_…")}
    if name is not None:
        body["name"] = _checks.text("name", name)
    if expires_at is not None:
        body["expires_at"] = _checks.moment("expires_at", expires_at)
    if use_limit is not None:
        body["use_limit"] = _checks.positive("use_limit", use_limit)
    return Call("POST", "/v1/links", _link, json=body, repeatable=False)


def list_links(status: str = "all") -> Call[list[Link]]:
    """`GET /v1/links`."""
    wanted = _checks.one_of("status", status, (*STATES, "all"))
    return Call("GET", "/v1/links", _links, params={"status": wanted})


def get_link(link_id: str) -> Call[Link]:
    """`GET /v1/links/{link_id}`."""
    return Call("GET", _path(link_id), _link)


def update_link(
    link_id: str,
    *,
    name: str | EllipsisType | None,
    status: str | None,
    expires_at: datetime | EllipsisType | None,
    use_limit: int | EllipsisType | None,
) -> Call[Link]:
    """`PUT /v1/links/{link_id}`: what is left out stays.

    Source: docs.agenthuman.com, endpoints/update-link.
    """
    path = _path(link_id)
    change: dict[str, Any] = {}
    if name is not ...:
        change["name"] = None if name is None else _checks.text("name", name)
    if status is not None:
        change["status"] = _checks.one_of("status", status, STATES)
    if expires_at is not ...:
        change["expires_at"] = None if expires_at is None else _checks.moment("expires_at", expires_at)
    if use_limit is not ...:
        change["use_limit"] = None if use_limit is None else _checks.positive("use_limit", use_limit)
    return Call("PUT", path, _link, json=_checks.some(change))


def delete_link(link_id: str) -> Call[None]:
    """`DELETE /v1/links/{link_id}`."""
    return Call("DELETE", _path(link_id), lambda _: None, repeatable=False)


def start_session_by_link(link_id: str, *, aspect_ratio: str) -> Call[LinkSession]:
    """`POST /v1/links/start-session`: a session that is billed, and that nothing in a list tells from others.

    Source: docs.agenthuman.com, endpoints/start-session-via-link.
    """
    link = _checks.identifier("link_id", link_id, _FORM)
    return Call(
        "POST",
        "/v1/links/start-session",
        _started,
        json={"link_id": link, "aspect_ratio": _checks.aspect_ratio(aspect_ratio)},
        secrets=(link,),
        repeatable=False,
        billed=True,
        keyless=True,  # the link is the credential
    )


def _path(link_id: object) -> str:
    return f"/v1/links/{_checks.segment('link_id', link_id, _FORM)}"


def _link(body: Any) -> Link:
    return Link.model_validate(body["link"])


def _links(body: Any) -> list[Link]:
    return [Link.model_validate(item) for item in body["links"]]


def _started(body: Any) -> LinkSession:
    return LinkSession.model_validate(told(body))
