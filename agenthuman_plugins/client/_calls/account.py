"""The calls of what an account holds besides sessions: avatars, usage, agents and links.

Pages exist for most of them; the others are read as their siblings suggest.
"""

from collections.abc import Mapping
from datetime import datetime
from types import EllipsisType
from typing import Any
from urllib.parse import quote

from agenthuman_plugins.client import _pictures
from agenthuman_plugins.client._calls import Call, OnProgress, Upload, checks, without_success
from agenthuman_plugins.client._model import read_each
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import (
    Agent,
    Avatar,
    AvatarList,
    AvatarPreview,
    Link,
    LinkSession,
    Usage,
)
from agenthuman_plugins.client.redaction import Secrets

_AVATAR_FORM = "avat_… or PUBLIC/…"
_LINK_FORM = "lnk_…"
_AUTH_METHODS = ("public", "api_key", "token")
_VOICE_AGENT = ("provider", "agent_id", "auth_method")
_LINK_STATES = ("active", "paused", "expired")

# --- avatars and usage


def upload_face(
    content: bytes | None,
    *,
    image_url: str | None = None,
    image_base64: str | None = None,
    on_progress: OnProgress | None = None,
) -> Call[Avatar]:
    """`POST /v1/avatars/upload-face`, in one of its three forms; each success counts against the plan.

    Source: docs.agenthuman.com, endpoints/upload-face-avatar.
    """
    forms = {"file": content, "image_url": image_url, "image_base64": image_base64}
    given = [name for name, value in forms.items() if value is not None]
    if len(given) != 1:
        raise ConfigurationError(
            f"Pass one of file, image_url and image_base64, not {' and '.join(given) or 'none of them'}."
        )
    upload, body = None, None
    if content is not None:
        upload = Upload(content, _pictures.media_type("file", content), on_progress)
    elif image_url is not None:
        body = {"image_url": checks.url("image_url", image_url)}
    else:
        body = {"image_base64": checks.base64_picture("image_base64", image_base64)}
    return Call(
        "POST",
        "/v1/avatars/upload-face",
        _uploaded,
        json=body,
        upload=upload,
        repeatable=False,
        secrets=Secrets(() if image_url is None else (image_url,)),
    )


def list_avatars() -> Call[AvatarList]:
    """`GET /v1/avatars`."""
    return Call("GET", "/v1/avatars", _avatars)


def preview_avatar(avatar_id: str) -> Call[AvatarPreview]:
    """`POST /v1/avatars/preview`."""
    return Call(
        "POST",
        "/v1/avatars/preview",
        lambda body: AvatarPreview.model_validate(without_success(body)),
        json={"avatar_id": checks.identifier("avatar_id", avatar_id, _AVATAR_FORM)},
        repeatable=False,
    )


def delete_avatar(avatar_id: str) -> Call[None]:
    """`DELETE /v1/avatars/{id}`."""
    path = f"/v1/avatars/{checks.segment('avatar_id', avatar_id, _AVATAR_FORM)}"
    return Call("DELETE", path, lambda _: None, repeatable=False)


def get_usage() -> Call[Usage]:
    """`GET /v1/usage`."""
    return Call("GET", "/v1/usage", lambda body: Usage.model_validate(body["usage"]))


def _uploaded(body: Any) -> Avatar:
    return Avatar.model_validate(without_success(body))


def _avatars(body: Any) -> AvatarList:
    # A bare array is what the oldest pages show.
    content = {"avatars": body} if isinstance(body, list) else without_success(body)
    lists = AvatarList.model_fields.keys() & content.keys()
    if not lists:
        raise LookupError("no list of avatars")  # which is not the same as no avatars
    return AvatarList.model_validate(
        {**content, **{name: read_each(Avatar, content[name]) for name in lists}}
    )


# --- agents


def create_agent(*, name: str, voice_agent: Mapping[str, Any], avatar_image_url: str | None) -> Call[Agent]:
    """`POST /v1/agents`.

    Source: docs.agenthuman.com, endpoints/create-agent.
    """
    body: dict[str, Any] = {"name": checks.non_blank("name", name), "voice_agent": _voice_agent(voice_agent)}
    if missing := [key for key in _VOICE_AGENT if key not in body["voice_agent"]]:
        raise ConfigurationError(
            f"voice_agent needs {', '.join(_VOICE_AGENT)}; missing: {', '.join(missing)}."
        )
    if avatar_image_url is not None:
        body["avatar_image_url"] = checks.url("avatar_image_url", avatar_image_url)
    return Call("POST", "/v1/agents", _agent, json=body, repeatable=False)


def list_agents() -> Call[list[Agent]]:
    """`GET /v1/agents`."""
    return Call("GET", "/v1/agents", _agents)


def get_agent(agent_id: str) -> Call[Agent]:
    """`GET /v1/agents/{agent_id}`."""
    return Call("GET", _agent_path(agent_id), _agent)


def update_agent(
    agent_id: str,
    *,
    name: str | None,
    voice_agent: Mapping[str, Any] | None,
    avatar_image_url: str | EllipsisType | None,
) -> Call[Agent]:
    """`PUT /v1/agents/{agent_id}`: what is left out stays, `voice_agent` field by field.

    Source: docs.agenthuman.com, endpoints/update-agent.
    """
    path = _agent_path(agent_id)
    change: dict[str, Any] = {}
    if name is not None:
        change["name"] = checks.non_blank("name", name)
    if voice_agent is not None:
        change["voice_agent"] = checks.non_empty(_voice_agent(voice_agent))
    if avatar_image_url is not ...:
        change["avatar_image_url"] = (
            None if avatar_image_url is None else checks.url("avatar_image_url", avatar_image_url)
        )
    return Call("PUT", path, _agent, json=checks.non_empty(change))


def delete_agent(agent_id: str) -> Call[None]:
    """`DELETE /v1/agents/{agent_id}`."""
    return Call("DELETE", _agent_path(agent_id), lambda _: None, repeatable=False)


def _agent_path(agent_id: object) -> str:
    return f"/v1/agents/{checks.segment('agent_id', agent_id, 'agnt_…')}"


def _voice_agent(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"voice_agent must be a dict, not {type(given).__name__}.")
    for key in given:
        checks.one_of("A key of voice_agent", key, _VOICE_AGENT)
    checked = {key: checks.non_blank(f"voice_agent[{key!r}]", value) for key, value in given.items()}
    if "auth_method" in checked:
        checks.one_of("voice_agent['auth_method']", checked["auth_method"], _AUTH_METHODS)
    return checked


def _agent(body: Any) -> Agent:
    return Agent.model_validate(body["agent"])


def _agents(body: Any) -> list[Agent]:
    return read_each(Agent, body["agents"])


# --- links


def create_link(
    *, agent_id: str, name: str | None, expires_at: datetime | None, use_limit: int | None
) -> Call[Link]:
    """`POST /v1/links`.

    Source: docs.agenthuman.com, endpoints/create-link.
    """
    body: dict[str, Any] = {"agent_id": checks.identifier("agent_id", agent_id, "agnt_…")}
    if name is not None:
        body["name"] = checks.non_blank("name", name)
    if expires_at is not None:
        body["expires_at"] = checks.utc_time("expires_at", expires_at)
    if use_limit is not None:
        body["use_limit"] = checks.positive("use_limit", use_limit)
    return Call("POST", "/v1/links", _link, json=body, repeatable=False)


def list_links(status: str = "all") -> Call[list[Link]]:
    """`GET /v1/links`."""
    wanted = checks.one_of("status", status, (*_LINK_STATES, "all"))
    return Call("GET", "/v1/links", _links, params={"status": wanted})


def get_link(link_id: str) -> Call[Link]:
    """`GET /v1/links/{link_id}`."""
    return Call("GET", _link_path(link_id), _link, secrets=_secret(link_id))


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
    change: dict[str, Any] = {}
    if name is not ...:
        change["name"] = None if name is None else checks.non_blank("name", name)
    if status is not None:
        change["status"] = checks.one_of("status", status, _LINK_STATES)
    if expires_at is not ...:
        change["expires_at"] = None if expires_at is None else checks.utc_time("expires_at", expires_at)
    if use_limit is not ...:
        change["use_limit"] = None if use_limit is None else checks.positive("use_limit", use_limit)
    return Call("PUT", _link_path(link_id), _link, json=checks.non_empty(change), secrets=_secret(link_id))


def delete_link(link_id: str) -> Call[None]:
    """`DELETE /v1/links/{link_id}`."""
    return Call("DELETE", _link_path(link_id), lambda _: None, repeatable=False, secrets=_secret(link_id))


def start_session_by_link(link_id: str, *, aspect_ratio: str) -> Call[LinkSession]:
    """`POST /v1/links/start-session`: a session that is billed, and that nothing in a list tells from others.

    Source: docs.agenthuman.com, endpoints/start-session-via-link.
    """
    link = checks.identifier("link_id", link_id, _LINK_FORM)
    return Call(
        "POST",
        "/v1/links/start-session",
        _started,
        json={"link_id": link, "aspect_ratio": checks.aspect_ratio(aspect_ratio)},
        secrets=_secret(link),
        repeatable=False,
        billed=True,
        keyless=True,  # the link is the credential
    )


def _link_path(link_id: object) -> str:
    return f"/v1/links/{checks.segment('link_id', link_id, _LINK_FORM)}"


def _secret(link_id: str) -> Secrets:
    """A link's id, which lets anybody start sessions; as it is, and as a path spells it."""
    return Secrets((link_id, quote(link_id, safe="")))


def _link(body: Any) -> Link:
    return Link.model_validate(body["link"])


def _links(body: Any) -> list[Link]:
    return read_each(Link, body["links"])


def _started(body: Any) -> LinkSession:
    return LinkSession.model_validate(without_success(body))
