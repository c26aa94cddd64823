"""Links that let anyone who has one start a session with an agent, at the account's cost."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from agenthuman_plugins.emulator._agents import Agent, Agents
from agenthuman_plugins.emulator._errors import ServiceError, bad_request, link_not_found
from agenthuman_plugins.emulator._ids import ulid
from agenthuman_plugins.emulator._store import Clock, timestamp, utc_now

LinkState = Literal["active", "paused", "expired"]
STATES: tuple[LinkState, ...] = get_args(LinkState)
PREVIEW_TTL = timedelta(minutes=5)  # documented, as is the single use


@dataclass(slots=True)
class Link:
    """A link to one agent.

    Attributes:
        state: What its owner has set; an active or paused link is expired once a limit is reached.
        uses: Sessions that it started.
        use_limit: Sessions that it may start; `None` is as many as one likes.
        expires_at: When it ends; `None` is never.
    """

    link_id: str
    name: str | None
    agent: Agent
    created_at: datetime
    use_limit: int | None = None
    expires_at: datetime | None = None
    state: LinkState = "active"
    uses: int = 0

    def status(self, now: datetime) -> LinkState:
        """Return the status as the service shows it."""
        too_late = self.expires_at is not None and now >= self.expires_at
        used_up = self.use_limit is not None and self.uses >= self.use_limit
        return "expired" if too_late or used_up else self.state


class Links:
    """The links of one account.

    Args:
        agents: Whom links can lead to.
        clock: Tells the time.
    """

    def __init__(self, agents: Agents, clock: Clock = utc_now) -> None:
        self._agents = agents
        self._clock = clock
        self._links: dict[str, Link] = {}
        self._previews: dict[str, Link] = {}

    def clear(self) -> None:
        """Forget all links."""
        self._links.clear()
        self._previews.clear()

    def create(self, body: Any) -> Link:
        """Make a link of a request body.

        Raises:
            ServiceError: A rule is broken, or the agent is not the account's.
        """
        if not isinstance(body, dict):
            raise bad_request("The request body must be a JSON object")
        if not isinstance(body.get("agent_id"), str) or not body["agent_id"]:
            raise bad_request("agent_id required")
        agent = self._agents.get(body["agent_id"])
        now = self._clock()
        link = Link(f"lnk_{ulid(now)}", f"Link {now:%Y-%m-%d}", agent, now)
        # What is null here was left out, which update tells apart.
        self._apply(link, {name: value for name, value in body.items() if value is not None})
        self._links[link.link_id] = link
        return link

    def update(self, link_id: str, body: Any) -> Link:
        """Change a link: what is left out stays, null clears.

        Raises:
            ServiceError: There is none with this id, or a rule is broken.
        """
        link = self.get(link_id)
        if not isinstance(body, dict):
            raise bad_request("The request body must be a JSON object")
        self._apply(link, body)
        return link

    def preview(self, avatar_image_url: str) -> Link:
        """Make a link to an avatar without an agent of its own: for one use, within 5 minutes."""
        now = self._clock()
        agent = self._agents.add("Preview", avatar_image_url, {})
        link = Link(f"lnk_{ulid(now)}", None, agent, now, use_limit=1, expires_at=now + PREVIEW_TTL)
        self._previews[link.link_id] = link
        return link

    def get(self, link_id: str) -> Link:
        """Return a link.

        Raises:
            ServiceError: There is none with this id.
        """
        try:
            return self._links[link_id]
        except KeyError:
            raise link_not_found() from None

    def usable(self, link_id: object) -> Link:
        """Return a link, or a preview, that a session can be started with.

        Raises:
            ServiceError: There is none with this id, or it cannot be used.
        """
        if not isinstance(link_id, str) or not link_id:
            raise bad_request("link_id required")
        link = self._previews.get(link_id) or self.get(link_id)
        if (status := link.status(self._clock())) != "active":
            raise ServiceError(403, f"Link is {status}")
        if not link.agent.avatar_image_url:
            raise bad_request("The agent of this link has no avatar_image_url")
        return link

    def newest_first(self, status: str) -> list[Link]:
        """Return the links with this status; any word that is none means all of them."""
        now = self._clock()
        every = reversed(self._links.values())
        return [link for link in every if status not in STATES or link.status(now) == status]

    def delete(self, link_id: str) -> None:
        """Delete a link for good.

        Raises:
            ServiceError: There is none with this id.
        """
        self.get(link_id)
        del self._links[link_id]

    def describe(self, link: Link, base_url: str) -> dict[str, Any]:
        """Return a link as the service tells it."""
        return {
            "link_id": link.link_id,
            "name": link.name,
            "url": f"{base_url}/s/{link.link_id}",
            "agent": link.agent.describe(),
            "status": link.status(self._clock()),
            "uses": link.uses,
            "use_limit": link.use_limit,
            "created_at": timestamp(link.created_at),
            "expires_at": link.expires_at and timestamp(link.expires_at),
        }

    def _apply(self, link: Link, body: dict[str, Any]) -> None:
        """Check every field, then change them all: a refused call changes nothing."""
        name = body.get("name", link.name)
        if name is not None and not isinstance(name, str):
            raise bad_request("name must be a string")
        state = body.get("status", link.state)
        if state not in STATES:
            raise bad_request("Invalid status", f"Use one of {', '.join(STATES)}")
        expires_at = _moment(body["expires_at"]) if "expires_at" in body else link.expires_at
        use_limit = body.get("use_limit", link.use_limit)
        if use_limit is not None and (type(use_limit) is not int or use_limit <= 0):
            raise bad_request("use_limit must be a positive integer")
        if use_limit is not None and "use_limit" in body and use_limit <= link.uses:
            raise bad_request("use_limit must be above uses")
        link.name, link.state, link.expires_at, link.use_limit = name, state, expires_at, use_limit


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise bad_request("expires_at must be an ISO 8601 date and time") from None
