"""Voice agents with a face: the account's list of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agenthuman_plugins.emulator._errors import AgentNotFoundError, bad_request
from agenthuman_plugins.emulator._ids import ulid
from agenthuman_plugins.emulator._store import Clock, timestamp, utc_now

AUTH_METHODS = ("public", "api_key", "token")
_VOICE_AGENT = ("provider", "agent_id", "auth_method")


@dataclass(slots=True)
class Agent:
    """A voice agent of another provider, with a name and a face."""

    agent_id: str
    name: str
    avatar_image_url: str | None
    voice_agent: dict[str, str]
    created_at: datetime

    def describe(self) -> dict[str, Any]:
        """Return it as the service tells it."""
        return {
            "agent_id": self.agent_id,
            "name": self.name,
            "avatar_image_url": self.avatar_image_url,
            "created_at": timestamp(self.created_at),
            "voice_agent": dict(self.voice_agent),
        }


class Agents:
    """The agents of one account.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._agents: dict[str, Agent] = {}

    def clear(self) -> None:
        """Forget all agents."""
        self._agents.clear()

    def create(self, body: Any) -> Agent:
        """Make an agent of a request body.

        Raises:
            ServiceError: A rule is broken.
        """
        fields = _checked(body)
        for name in ("name", "voice_agent"):
            if name not in fields:
                raise bad_request(f"{name} required")
        if missing := [name for name in _VOICE_AGENT if name not in fields["voice_agent"]]:
            raise bad_request(f"voice_agent.{missing[0]} required")
        agent = self.add(fields["name"], fields.get("avatar_image_url"), fields["voice_agent"])
        self._agents[agent.agent_id] = agent
        return agent

    def add(self, name: str, avatar_image_url: str | None, voice_agent: dict[str, str]) -> Agent:
        """Make an agent that is in no list; previews have such."""
        now = self._clock()
        return Agent(f"agnt_{ulid(now)}", name, avatar_image_url, voice_agent, now)

    def update(self, agent_id: str, body: Any) -> Agent:
        """Change an agent: what is left out stays, `voice_agent` field by field.

        Raises:
            ServiceError: There is none with this id, or a rule is broken.
        """
        agent = self.get(agent_id)
        fields = _checked(body)
        agent.name = fields.get("name", agent.name)
        agent.avatar_image_url = fields.get("avatar_image_url", agent.avatar_image_url)
        agent.voice_agent |= fields.get("voice_agent", {})
        return agent

    def get(self, agent_id: str) -> Agent:
        """Return an agent.

        Raises:
            AgentNotFoundError: There is none with this id.
        """
        try:
            return self._agents[agent_id]
        except KeyError:
            raise AgentNotFoundError from None

    def newest_first(self) -> list[Agent]:
        """Return all of them."""
        return list(reversed(self._agents.values()))

    def delete(self, agent_id: str) -> None:
        """Delete an agent; links to it keep what they knew.

        Raises:
            AgentNotFoundError: There is none with this id.
        """
        self.get(agent_id)
        del self._agents[agent_id]


def _checked(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad_request("The request body must be a JSON object")
    fields = {name: body[name] for name in ("name", "avatar_image_url", "voice_agent") if name in body}
    if "name" in fields and (not isinstance(fields["name"], str) or not fields["name"].strip()):
        raise bad_request("name must be a non-empty string")
    url = fields.get("avatar_image_url")
    if url is not None and (not isinstance(url, str) or not url.startswith(("https://", "http://"))):
        raise bad_request("avatar_image_url must be a URL or null")
    if "voice_agent" in fields:
        fields["voice_agent"] = _checked_voice_agent(fields["voice_agent"])
    return fields


def _checked_voice_agent(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise bad_request("voice_agent must be an object")
    voice_agent = {name: value[name] for name in _VOICE_AGENT if name in value}
    for name, text in voice_agent.items():
        if not isinstance(text, str) or not text:
            raise bad_request(f"voice_agent.{name} must be a non-empty string")
    if voice_agent.get("auth_method", "public") not in AUTH_METHODS:
        raise bad_request("Invalid voice_agent.auth_method", f"Use one of {', '.join(AUTH_METHODS)}")
    return voice_agent
