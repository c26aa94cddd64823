"""What an account holds besides sessions, for the async client."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import EllipsisType
from typing import Protocol, TypeVar

from agenthuman_plugins.client import _calls, _pictures
from agenthuman_plugins.client._calls import Call, OnProgress
from agenthuman_plugins.client._lease import to_the_end
from agenthuman_plugins.client._pictures import Picture
from agenthuman_plugins.client.errors import AgentHumanError
from agenthuman_plugins.client.models import (
    Agent,
    AgentList,
    Avatar,
    AvatarList,
    AvatarPreview,
    Link,
    LinkFilter,
    LinkList,
    LinkSession,
    LinkStatus,
    Session,
    Usage,
    VoiceAgentFields,
)
from agenthuman_plugins.client.rooms import AspectRatio

T = TypeVar("T")

_log = logging.getLogger("agenthuman_plugins.client")

_LATE_S = 5.0  # a start that nobody waits for may still answer; its answer alone names the session


class AsyncCaller(Protocol):
    """Carries out a call and returns its value, within `limit_s` seconds (`None`: the client's limit)."""

    async def __call__(self, call: Call[T], limit_s: float | None = None) -> T:
        """Carry it out."""


class AsyncAvatars:
    """The avatars of an account, and those that everybody may use. Reached as `client.avatars`."""

    def __init__(self, call: AsyncCaller) -> None:
        self._call = call

    async def upload_face(
        self,
        file: Picture | None = None,
        *,
        image_url: str | None = None,
        image_base64: str | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - covers retries
    ) -> Avatar:
        """Make an avatar of a picture with exactly one prominent face: jpeg, png, gif or webp, up to 10 MB.

        Each one counts against the plan, so an upload is sent again only if the service surely did not process it.
        Size and type are checked before anything is sent.

        Args:
            file: Path, bytes, or a file opened in binary mode, which stays open.
            image_url: Public http(s) address, instead of `file`.
            image_base64: Base64 with or without `data:image/...;base64,` before it, instead of `file`.
            on_progress: Called with the bytes sent so far and in all, for `file`; from 0 again if it is sent again.
            timeout: Limit in seconds for sending, retries included; `None` takes the client's.

        Returns:
            The avatar; its `avatar_id` is what `sessions.create` takes.

        Raises:
            ConfigurationError: The picture is missing, unreadable, too large or of another type; nothing was sent.
            BadRequestError: The service found no face, or more than one.
            PermissionDeniedError: The plan does not allow it.

        Source: docs.agenthuman.com, endpoints/upload-face-avatar.
        """
        content = None if file is None else await asyncio.to_thread(_pictures.read, file)
        call = _calls.upload_face(
            content, image_url=image_url, image_base64=image_base64, on_progress=on_progress
        )
        return await self._call(call, timeout)

    async def list(self) -> AvatarList:
        """List the avatars that a session can show; no paging is documented.

        Source: docs.agenthuman.com, endpoints/list-avatars.
        """
        return await self._call(_calls.list_avatars())

    async def preview(self, avatar_id: str) -> AvatarPreview:
        """Make a link to try an avatar with; opening it starts a live session.

        Args:
            avatar_id: `avat_...` or `PUBLIC/...`

        Raises:
            NotFoundError: There is no such avatar.

        Source: docs.agenthuman.com, endpoints/preview-avatar.
        """
        return await self._call(_calls.preview_avatar(avatar_id))

    async def delete(self, avatar_id: str) -> None:
        """Delete one of the account's own avatars, for good.

        Args:
            avatar_id: `avat_...`

        Raises:
            NotFoundError: There is no such avatar.
            PermissionDeniedError: It is not the account's own.

        Source: docs.agenthuman.com, endpoints/delete-avatar.
        """
        await self._call(_calls.delete_avatar(avatar_id))


class AsyncUsageReports:
    """What the account has used. Reached as `client.usage`."""

    def __init__(self, call: AsyncCaller) -> None:
        self._call = call

    async def get(self) -> Usage:
        """Get the minutes, sessions and plan of the account as they are now.

        Source: docs.agenthuman.com, endpoints/get-usage-summary.
        """
        return await self._call(_calls.get_usage())


class AsyncAgents:
    """The voice agents of an account. Reached as `client.agents`."""

    def __init__(self, call: AsyncCaller) -> None:
        self._call = call

    async def create(
        self, *, name: str, voice_agent: VoiceAgentFields, avatar_image_url: str | None = None
    ) -> Agent:
        """Create an agent; sent again only if the service surely did not process it.

        Args:
            name: Name.
            voice_agent: The voice behind it: `provider`, `agent_id` (at that provider) and `auth_method`
                (`public`, `api_key` or `token`), all three.
            avatar_image_url: Picture of the face; without one, no link to the agent can start a session.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.

        Source: docs.agenthuman.com, endpoints/create-agent.
        """
        call = _calls.create_agent(name=name, voice_agent=voice_agent, avatar_image_url=avatar_image_url)
        return await self._call(call)

    async def get(self, agent_id: str) -> Agent:
        """Get an agent.

        Args:
            agent_id: `agnt_...`

        Raises:
            NotFoundError: There is no such agent.
        """
        return await self._call(_calls.get_agent(agent_id))

    async def list(self) -> AgentList:
        """List the agents of the account; no paging is documented."""
        return await self._call(_calls.list_agents())

    async def update(
        self,
        agent_id: str,
        *,
        name: str | None = None,
        voice_agent: VoiceAgentFields | None = None,
        avatar_image_url: str | EllipsisType | None = ...,
    ) -> Agent:
        """Change an agent; what is left out stays as it is.

        Args:
            agent_id: `agnt_...`
            name: New name.
            voice_agent: The fields of it that change.
            avatar_image_url: New picture; `None` removes it.

        Raises:
            ConfigurationError: An argument is wrong, or nothing would change; nothing was sent.
            NotFoundError: There is no such agent.

        Source: docs.agenthuman.com, endpoints/update-agent.
        """
        call = _calls.update_agent(
            agent_id, name=name, voice_agent=voice_agent, avatar_image_url=avatar_image_url
        )
        return await self._call(call)

    async def delete(self, agent_id: str) -> None:
        """Delete an agent, for good.

        Args:
            agent_id: `agnt_...`

        Raises:
            NotFoundError: There is no such agent.
        """
        await self._call(_calls.delete_agent(agent_id))


class AsyncLinks:
    """The links of an account. Reached as `client.links`."""

    def __init__(self, call: AsyncCaller, end: Callable[[str], Awaitable[Session]]) -> None:
        self._call = call
        self._end = end

    async def create(
        self,
        *,
        agent_id: str,
        name: str | None = None,
        expires_at: datetime | None = None,
        use_limit: int | None = None,
    ) -> Link:
        """Create a link, by which others start sessions at the account's cost.

        Sent again only if the service surely did not process it.

        Args:
            agent_id: The agent that it leads to, `agnt_...`
            name: Name; `None` has the service make one of the date.
            expires_at: Until when it can be used, with a time zone; `None`: for ever.
            use_limit: How often it can be used; `None`: without limit.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.

        Source: docs.agenthuman.com, endpoints/create-link.
        """
        call = _calls.create_link(agent_id=agent_id, name=name, expires_at=expires_at, use_limit=use_limit)
        return await self._call(call)

    async def get(self, link_id: str) -> Link:
        """Get a link.

        Args:
            link_id: `lnk_...`

        Raises:
            NotFoundError: There is no such link.

        Source: docs.agenthuman.com, endpoints/get-link.
        """
        return await self._call(_calls.get_link(link_id))

    async def list(self, status: LinkFilter = "all") -> LinkList:
        """List the links of the account, newest first.

        Args:
            status: `all`, `active`, `paused` or `expired`.

        Source: docs.agenthuman.com, endpoints/list-links.
        """
        return await self._call(_calls.list_links(status))

    async def update(
        self,
        link_id: str,
        *,
        name: str | EllipsisType | None = ...,
        status: LinkStatus | None = None,
        expires_at: datetime | EllipsisType | None = ...,
        use_limit: int | EllipsisType | None = ...,
    ) -> Link:
        """Change a link; what is left out stays as it is.

        Args:
            link_id: `lnk_...`
            name: New name; `None` clears it.
            status: `paused` stops it from being used, `active` lets it.
            expires_at: Until when it can be used, with a time zone; `None`: for ever.
            use_limit: How often it can be used, more than it was already; `None`: without limit.

        Raises:
            ConfigurationError: An argument is wrong, or nothing would change; nothing was sent.
            NotFoundError: There is no such link.

        Source: docs.agenthuman.com, endpoints/update-link.
        """
        call = _calls.update_link(
            link_id, name=name, status=status, expires_at=expires_at, use_limit=use_limit
        )
        return await self._call(call)

    async def delete(self, link_id: str) -> None:
        """Delete a link, for good.

        Args:
            link_id: `lnk_...`

        Raises:
            NotFoundError: There is no such link.

        Source: docs.agenthuman.com, endpoints/delete-link.
        """
        await self._call(_calls.delete_link(link_id))

    async def start_session(
        self,
        link_id: str,
        *,
        aspect_ratio: AspectRatio = "4:3",
        timeout: float | None = None,  # noqa: ASYNC109 - covers retries
    ) -> LinkSession:
        """Start a session by a link, as its visitors do: from here on it is billed until it ends.

        The API key is not sent, because the link is the credential. Nothing in a list tells this session from
        others, so it is started again only if the service surely did not process the first request, and a lost
        answer cannot be looked up. End the session with `sessions.end`.

        Args:
            link_id: `lnk_...`
            aspect_ratio: `4:3`, `3:4` or `1:1`.
            timeout: Limit in seconds for sending, retries included; `None` takes the client's.

        Returns:
            The session, and what to join its room with.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.
            UsageLimitError: Minutes or concurrent sessions are used up.
            SessionOutcomeUnknownError: The answer was lost; the session may be running.

        Source: docs.agenthuman.com, endpoints/start-session-via-link.
        """
        call = _calls.start_session_by_link(link_id, aspect_ratio=aspect_ratio)
        # In a task of its own, so that a cancelled caller still learns which session the answer names.
        task = asyncio.ensure_future(self._call(call, timeout))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await to_the_end(lambda: self._end_late(task))
            raise

    async def _end_late(self, task: asyncio.Future[LinkSession]) -> None:
        await asyncio.wait({task}, timeout=_LATE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if task.cancelled() or task.exception() is not None:
            _log.warning("The start of a session by a link was given up; should it run, the service ends it.")
            return
        try:
            await self._end(task.result().session_id)
        except AgentHumanError as error:
            _log.error("Session %s was given up, but not ended: %s", task.result().session_id, error)
