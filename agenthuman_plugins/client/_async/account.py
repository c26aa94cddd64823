"""What an account holds besides sessions."""

import asyncio
from datetime import datetime
from types import EllipsisType
from typing import Unpack

from agenthuman_plugins.client import _pictures
from agenthuman_plugins.client._calls import BodyOptions, CallOptions, OnProgress, with_options
from agenthuman_plugins.client._calls import account as calls
from agenthuman_plugins.client._driver import AsyncDriver
from agenthuman_plugins.client._opening import Opening
from agenthuman_plugins.client._pictures import Picture
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
    Usage,
    VoiceAgentFields,
)
from agenthuman_plugins.client.redaction import hide
from agenthuman_plugins.client.rooms import AspectRatio


class AsyncAvatars:
    """The avatars of an account, and those that everybody may use. Available as `client.avatars`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def upload_face(
        self,
        file: Picture | None = None,
        *,
        image_url: str | None = None,
        image_base64: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[BodyOptions],
    ) -> Avatar:
        """Make an avatar of a picture with exactly one prominent face: jpeg, png, gif or webp, up to 10 MB.

        Each one counts against the plan, so an upload is sent again only if the service cannot have processed it.
        Size and type are checked before anything is sent.

        Example:
            ```python
            avatar = await client.avatars.upload_face("me.jpg")
            print(avatar.avatar_id)
            ```

        Args:
            file: Path, bytes, or a file opened in binary mode, which stays open.
            image_url: Public http(s) address, instead of `file`.
            image_base64: Base64 with or without `data:image/...;base64,` before it, instead of `file`.
            on_progress: Called with the bytes sent so far and in all, for `file`; from 0 again if it is sent again.
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Returns:
            The avatar; its `avatar_id` is what `sessions.create` takes.

        Raises:
            ConfigurationError: The picture is missing, unreadable, too large or of another type; nothing was sent.
            BadRequestError: The service found no face, or more than one.
            PermissionDeniedError: The plan does not allow it.

        Source: docs.agenthuman.com, endpoints/upload-face-avatar.
        """
        content = None if file is None else await asyncio.to_thread(_pictures.read, file)
        call = calls.upload_face(
            content, image_url=image_url, image_base64=image_base64, on_progress=on_progress
        )
        return await self._driver.call(with_options(call, options))

    async def list(self, **options: Unpack[CallOptions]) -> AvatarList:
        """List the avatars that a session can show; no paging is documented.

        Example:
            ```python
            for avatar in (await client.avatars.list()).public_avatars:
                print(avatar.avatar_id, avatar.tags)
            ```

        Args:
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Source: docs.agenthuman.com, endpoints/list-avatars.
        """
        return await self._driver.call(with_options(calls.list_avatars(), options))

    async def preview(self, avatar_id: str, **options: Unpack[BodyOptions]) -> AvatarPreview:
        """Make a link to try an avatar with; opening it starts a live session.

        Example:
            ```python
            preview = await client.avatars.preview("PUBLIC/Avatars/sara-office")
            print(preview.url)
            ```

        Args:
            avatar_id: `avat_...` or `PUBLIC/...`
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Raises:
            NotFoundError: There is no such avatar.

        Source: docs.agenthuman.com, endpoints/preview-avatar.
        """
        return await self._driver.call(with_options(calls.preview_avatar(avatar_id), options))

    async def delete(self, avatar_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete one of the account's own avatars permanently.

        Example:
            ```python
            await client.avatars.delete(avatar.avatar_id)
            ```

        Args:
            avatar_id: `avat_...`
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Raises:
            NotFoundError: There is no such avatar, or it is another account's: in the oldest pages a 404, in today's
                left open.
            PermissionDeniedError: It is another account's, should the service answer with a 403 (inferred).

        Source: docs.agenthuman.com, endpoints/delete-avatar.
        """
        await self._driver.call(with_options(calls.delete_avatar(avatar_id), options))


class AsyncUsageReports:
    """What the account has used. Available as `client.usage`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def get(self, **options: Unpack[CallOptions]) -> Usage:
        """Get the minutes, sessions and plan of the account as they are now.

        Example:
            ```python
            usage = await client.usage.get()
            print(usage.total_remaining)
            ```

        Args:
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Source: docs.agenthuman.com, endpoints/get-usage-summary.
        """
        return await self._driver.call(with_options(calls.get_usage(), options))


class AsyncAgents:
    """The voice agents of an account. Available as `client.agents`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def create(
        self,
        *,
        name: str,
        voice_agent: VoiceAgentFields,
        avatar_image_url: str | None = None,
        **options: Unpack[BodyOptions],
    ) -> Agent:
        """Create an agent; sent again only if the service cannot have processed it.

        Example:
            ```python
            agent = await client.agents.create(
                name="Support",
                voice_agent={"provider": "ElevenLabs", "agent_id": "el_agent_1", "auth_method": "public"},
                avatar_image_url="https://example.com/face.jpg",
            )
            print(agent.agent_id)
            ```

        Args:
            name: Name.
            voice_agent: The voice behind it: `provider`, `agent_id` (at that provider) and `auth_method`
                (`public`, `api_key` or `token`), all three.
            avatar_image_url: Picture of the face; without one, no link to the agent can start a session.
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.

        Source: docs.agenthuman.com, endpoints/create-agent.
        """
        call = calls.create_agent(name=name, voice_agent=voice_agent, avatar_image_url=avatar_image_url)
        return await self._driver.call(with_options(call, options))

    async def get(self, agent_id: str, **options: Unpack[CallOptions]) -> Agent:
        """Get an agent.

        Example:
            ```python
            agent = await client.agents.get(agent.agent_id)
            print(agent.name)
            ```

        Args:
            agent_id: `agnt_...`
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Raises:
            NotFoundError: There is no such agent.
        """
        return await self._driver.call(with_options(calls.get_agent(agent_id), options))

    async def list(self, **options: Unpack[CallOptions]) -> AgentList:
        """List the agents of the account; no paging is documented.

        Example:
            ```python
            for agent in await client.agents.list():
                print(agent.agent_id, agent.name)
            ```

        Args:
            options: `timeout` and `extra_headers`, see `CallOptions`.
        """
        return await self._driver.call(with_options(calls.list_agents(), options))

    async def update(
        self,
        agent_id: str,
        *,
        name: str | None = None,
        voice_agent: VoiceAgentFields | None = None,
        avatar_image_url: str | EllipsisType | None = ...,
        **options: Unpack[BodyOptions],
    ) -> Agent:
        """Change an agent; what is left out stays as it is.

        Example:
            ```python
            agent = await client.agents.update(agent.agent_id, name="Sales")
            print(agent.name)
            ```

        Args:
            agent_id: `agnt_...`
            name: New name.
            voice_agent: The fields of it that change.
            avatar_image_url: New picture; `None` removes it.
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Raises:
            ConfigurationError: An argument is wrong, or nothing would change; nothing was sent.
            NotFoundError: There is no such agent.

        Source: docs.agenthuman.com, endpoints/update-agent.
        """
        call = calls.update_agent(
            agent_id, name=name, voice_agent=voice_agent, avatar_image_url=avatar_image_url
        )
        return await self._driver.call(with_options(call, options))

    async def delete(self, agent_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete an agent permanently.

        Example:
            ```python
            await client.agents.delete(agent.agent_id)
            ```

        Args:
            agent_id: `agnt_...`
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Raises:
            NotFoundError: There is no such agent.
        """
        await self._driver.call(with_options(calls.delete_agent(agent_id), options))


class AsyncLinks:
    """The links of an account. Available as `client.links`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def create(
        self,
        *,
        agent_id: str,
        name: str | None = None,
        expires_at: datetime | None = None,
        use_limit: int | None = None,
        **options: Unpack[BodyOptions],
    ) -> Link:
        """Create a link, by which others start sessions at the account's cost.

        Sent again only if the service cannot have processed it.

        Example:
            ```python
            link = await client.links.create(agent_id=agent.agent_id, use_limit=100)
            print(link.url)
            ```

        Args:
            agent_id: The agent that it leads to, `agnt_...`
            name: Name; `None` has the service make one of the date.
            expires_at: Until when it can be used, with a time zone; `None`: forever.
            use_limit: How often it can be used; `None`: without limit.
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.

        Source: docs.agenthuman.com, endpoints/create-link.
        """
        call = calls.create_link(agent_id=agent_id, name=name, expires_at=expires_at, use_limit=use_limit)
        return await self._driver.call(with_options(call, options))

    async def get(self, link_id: str, **options: Unpack[CallOptions]) -> Link:
        """Get a link.

        Example:
            ```python
            link = await client.links.get(link.link_id)
            print(link.uses)
            ```

        Args:
            link_id: `lnk_...`
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Raises:
            NotFoundError: There is no such link.

        Source: docs.agenthuman.com, endpoints/get-link.
        """
        link_id = hide(link_id)  # whoever knows it can start sessions, and tracebacks show variables
        return await self._driver.call(with_options(calls.get_link(link_id), options))

    async def list(self, status: LinkFilter = "all", **options: Unpack[CallOptions]) -> LinkList:
        """List the links of the account, newest first.

        Example:
            ```python
            for link in await client.links.list("active"):
                print(link.name, link.uses)
            ```

        Args:
            status: `all`, `active`, `paused` or `expired`.

        Source: docs.agenthuman.com, endpoints/list-links.
        """
        return await self._driver.call(with_options(calls.list_links(status), options))

    async def update(
        self,
        link_id: str,
        *,
        name: str | EllipsisType | None = ...,
        status: LinkStatus | None = None,
        expires_at: datetime | EllipsisType | None = ...,
        use_limit: int | EllipsisType | None = ...,
        **options: Unpack[BodyOptions],
    ) -> Link:
        """Change a link; what is left out stays as it is.

        Example:
            ```python
            link = await client.links.update(link.link_id, status="paused")
            print(link.status)
            ```

        Args:
            link_id: `lnk_...`
            name: New name; `None` clears it.
            status: `paused` stops it from being used, `active` lets it.
            expires_at: Until when it can be used, with a time zone; `None`: forever.
            use_limit: How often it can be used, more than it was already; `None`: without limit.
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Raises:
            ConfigurationError: An argument is wrong, or nothing would change; nothing was sent.
            NotFoundError: There is no such link.

        Source: docs.agenthuman.com, endpoints/update-link.
        """
        link_id = hide(link_id)
        call = calls.update_link(
            link_id, name=name, status=status, expires_at=expires_at, use_limit=use_limit
        )
        return await self._driver.call(with_options(call, options))

    async def delete(self, link_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete a link permanently.

        Example:
            ```python
            await client.links.delete(link.link_id)
            ```

        Args:
            link_id: `lnk_...`
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Raises:
            NotFoundError: There is no such link.

        Source: docs.agenthuman.com, endpoints/delete-link.
        """
        link_id = hide(link_id)
        await self._driver.call(with_options(calls.delete_link(link_id), options))

    async def start_session(
        self,
        link_id: str,
        *,
        aspect_ratio: AspectRatio = "4:3",
        **options: Unpack[BodyOptions],
    ) -> LinkSession:
        """Start a session by a link, as its visitors do: from here on it is billed until it ends.

        The API key is not sent, because the link is the credential. Nothing in a list distinguishes this session from
        others, so it is started again only if the service cannot have processed the first request, and a lost
        answer cannot be looked up. A call that is given up returns at once, and what it opens is ended in the
        background. End the session with `sessions.end`.

        Example:
            ```python
            started = await client.links.start_session(link.link_id)
            await client.sessions.end(started.session_id)
            ```

        Args:
            link_id: `lnk_...`
            aspect_ratio: `4:3`, `3:4` or `1:1`.
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Returns:
            The session, and what to join its room with.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.
            UsageLimitError: Minutes or concurrent sessions are used up.
            SessionOutcomeUnknownError: The answer was lost; the session may be running.

        Source: docs.agenthuman.com, endpoints/start-session-via-link.
        """
        link_id = hide(link_id)
        call = calls.start_session_by_link(link_id, aspect_ratio=aspect_ratio)
        return await self._driver.open(Opening(with_options(call, options)))
