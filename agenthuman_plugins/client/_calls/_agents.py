"""The calls of `/v1/agents`. Pages exist for create and update; the others are read as their siblings suggest."""

from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from agenthuman_plugins.client._calls import _checks
from agenthuman_plugins.client._calls._call import Call
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import Agent

AUTH_METHODS = ("public", "api_key", "token")
_VOICE_AGENT = ("provider", "agent_id", "auth_method")


def create_agent(*, name: str, voice_agent: Mapping[str, Any], avatar_image_url: str | None) -> Call[Agent]:
    """`POST /v1/agents`.

    Source: docs.agenthuman.com, endpoints/create-agent.
    """
    body: dict[str, Any] = {"name": _checks.text("name", name), "voice_agent": _voice_agent(voice_agent)}
    if missing := [key for key in _VOICE_AGENT if key not in body["voice_agent"]]:
        raise ConfigurationError(
            f"voice_agent needs {', '.join(_VOICE_AGENT)}; missing: {', '.join(missing)}."
        )
    if avatar_image_url is not None:
        body["avatar_image_url"] = _checks.url("avatar_image_url", avatar_image_url)
    return Call("POST", "/v1/agents", _agent, json=body, repeatable=False)


def list_agents() -> Call[list[Agent]]:
    """`GET /v1/agents`."""
    return Call("GET", "/v1/agents", _agents)


def get_agent(agent_id: str) -> Call[Agent]:
    """`GET /v1/agents/{agent_id}`."""
    return Call("GET", _path(agent_id), _agent)


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
    path = _path(agent_id)
    change: dict[str, Any] = {}
    if name is not None:
        change["name"] = _checks.text("name", name)
    if voice_agent is not None:
        change["voice_agent"] = _checks.some(_voice_agent(voice_agent))
    if avatar_image_url is not ...:
        change["avatar_image_url"] = (
            None if avatar_image_url is None else _checks.url("avatar_image_url", avatar_image_url)
        )
    return Call("PUT", path, _agent, json=_checks.some(change))


def delete_agent(agent_id: str) -> Call[None]:
    """`DELETE /v1/agents/{agent_id}`."""
    return Call("DELETE", _path(agent_id), lambda _: None, repeatable=False)


def _path(agent_id: object) -> str:
    return f"/v1/agents/{_checks.segment('agent_id', agent_id, 'agnt_…')}"


def _voice_agent(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"voice_agent must be a dict, not {type(given).__name__}.")
    for key in given:
        _checks.one_of("A key of voice_agent", key, _VOICE_AGENT)
    checked = {key: _checks.text(f"voice_agent[{key!r}]", value) for key, value in given.items()}
    if "auth_method" in checked:
        _checks.one_of("voice_agent['auth_method']", checked["auth_method"], AUTH_METHODS)
    return checked


def _agent(body: Any) -> Agent:
    return Agent.model_validate(body["agent"])


def _agents(body: Any) -> list[Agent]:
    return [Agent.model_validate(item) for item in body["agents"]]
