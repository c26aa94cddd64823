"""The async client: a thin driver of the flows, and the methods that users call."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from agenthuman_plugins.client import _calls
from agenthuman_plugins.client._answers import Outcome
from agenthuman_plugins.client._async_account import AsyncAgents, AsyncAvatars, AsyncLinks, AsyncUsageReports
from agenthuman_plugins.client._calls import Call
from agenthuman_plugins.client._clock import Clock
from agenthuman_plugins.client._config import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_S, resolve
from agenthuman_plugins.client._flow import Creation, Flows, Pause, Send, Steps, log_abandoned
from agenthuman_plugins.client._http import AsyncHttp, AsyncHttpClient
from agenthuman_plugins.client._lease import AsyncLease, to_the_end
from agenthuman_plugins.client._reap import check_owner, left_open
from agenthuman_plugins.client._starting import starting
from agenthuman_plugins.client.errors import AgentHumanError
from agenthuman_plugins.client.models import Session, SessionList, SessionStatus
from agenthuman_plugins.client.rooms import AspectRatio, Room

_T = TypeVar("_T")

_ABANDON_S = 5.0  # a create that nobody waits for may still answer; its answer names the session best


class AsyncSessions:
    """The sessions of an account. Reached as `client.sessions`."""

    def __init__(self, client: "AsyncAgentHuman") -> None:
        self._client = client

    async def create(
        self,
        *,
        avatar: str | None = None,
        room: Room | None = None,
        aspect_ratio: AspectRatio = "4:3",
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - covers retries, not the wait for a lost session
    ) -> Session:
        """Create a session, which also starts it: from here on it is billed until it ends.

        Sent again only if the service surely did not process it. An answer that is lost is looked up by
        the reference in `metadata["client_ref"]`; a session found that way has no `session_token` and no
        `room.token`, which only the create's own answer carries. A call that is interrupted (cancellation,
        KeyboardInterrupt) ends what it may have opened. `open` also ends the session afterwards.

        Args:
            avatar: Avatar id (`avat_...`); `None` takes `AGENTHUMAN_AVATAR`, then the default one. A public
                image URL or a `data:image/...` URI needs a paid plan and takes longer.
            room: Room for the avatar to join; `None` has the service make one, told in `session.room`.
            aspect_ratio: `4:3`, `3:4` or `1:1`.
            metadata: JSON object to keep with the session. A `client_ref` of your own, unique to the wanted
                session, replaces the generated one; so does a `client_owner` (see `reap`).
            timeout: Limit in seconds for sending, retries included; `None` takes the client's. Looking for
                a lost session may take 10 s more.

        Returns:
            The session. Only this reply carries `session_token`.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.
            UsageLimitError: Minutes or concurrent sessions are used up.
            PermissionDeniedError: The avatar is not yours, or the plan does not allow images.
            SessionOutcomeUnknownError: The answer was lost and no session carries our reference.

        Source: docs.agenthuman.com, endpoints/create-session.
        """
        call = _calls.create_session(avatar=avatar, room=room, aspect_ratio=aspect_ratio, metadata=metadata)
        return await self._client._create(self._client._begin(call), timeout)  # noqa: SLF001 - the driver is shared

    async def get(self, session_id: str) -> Session:
        """Get a session as it is now.

        Args:
            session_id: `sess_...`

        Raises:
            NotFoundError: There is no such session.
        """
        return await self._client._call(_calls.get_session(session_id))  # noqa: SLF001 - the driver is shared

    async def list(self, status: SessionStatus = "all") -> SessionList:
        """List the sessions of the account; no paging is documented.

        Args:
            status: `all`, `started` or `ended`.
        """
        return await self._client._call(_calls.list_sessions(status))  # noqa: SLF001 - the driver is shared

    async def find(self, client_ref: str) -> Session | None:
        """Find a session, running or ended, by the reference of its create; `None` if there is none.

        Asks for the list, and for up to 20 single sessions if the list leaves metadata out.

        Args:
            client_ref: What stands in its `metadata["client_ref"]`; `SessionOutcomeUnknownError` carries it.

        Raises:
            ConfigurationError: The reference is empty.
        """
        return await self._client._run(self._client._flows.find(client_ref))  # noqa: SLF001 - the driver is shared

    async def start(self, session_id: str, *, timeout: float | None = None) -> Session:  # noqa: ASYNC109 - covers many calls, not one wait
        """Start a session of the older, Daily-managed generation, and wait until its server has booted.

        Only needed for a session that `create` returned with status `created`; today's are started by it. It is
        billed from here on. Harmless when repeated.

        Args:
            session_id: `sess_...`
            timeout: Limit in seconds for the whole wait; `None` takes the client's.

        Returns:
            The session, with `ws_uri` (the speech gateway) and `daily_room`. Its `session_token` is only in what
            `create` returned.

        Raises:
            NotFoundError: There is no such session.
            APITimeoutError: The server is not ready yet; call again to go on waiting, or end the session.

        Source: docs.agenthuman.com, endpoints/start-session.
        """
        client = self._client
        return await client._run(starting(client._flows, client._settings, session_id, timeout))  # noqa: SLF001 - the driver is shared

    async def end(self, session_id: str) -> Session:
        """End a session, and with it its billing. Harmless when repeated.

        The reply has few fields; `get` tells the rest, `billing` included.

        Args:
            session_id: `sess_...`

        Raises:
            NotFoundError: There is no such session.
        """
        return await self._client._call(_calls.end_session(session_id))  # noqa: SLF001 - the driver is shared

    def open(
        self,
        *,
        avatar: str | None = None,
        room: Room | None = None,
        aspect_ratio: AspectRatio = "4:3",
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        handle_signals: bool = False,
    ) -> AbstractAsyncContextManager[Session]:
        """Create a session for a `with` block (`async with` in the async client) and end it on every way out.

        Return, exception, cancellation and KeyboardInterrupt all end it. If ending fails, that is raised,
        unless the block raised something itself: then it is logged.

        Args:
            avatar: As in `create`.
            room: As in `create`.
            aspect_ratio: As in `create`.
            metadata: As in `create`.
            timeout: As in `create`.
            handle_signals: Whether SIGTERM is a way out, too: the block is cancelled (or interrupted, in the
                sync client), the session ended, then the handler called that was set before, and the program
                left with `SystemExit(143)`. For programs, not for libraries; in the main thread only.
        """
        call = _calls.create_session(avatar=avatar, room=room, aspect_ratio=aspect_ratio, metadata=metadata)
        client = self._client
        return AsyncLease(
            client._begin(call),  # noqa: SLF001 - the driver is shared
            create=lambda creation: client._create(creation, timeout),  # noqa: SLF001 - the driver is shared
            end=self.end,
            handle_signals=handle_signals,
        )

    async def reap(self, *, owner: str | None = None, dry_run: bool = False) -> SessionList:
        """End the sessions that a process left open when it crashed or was killed.

        Every create marks its session with this machine and process (`metadata["client_owner"]`, switched off by
        `track_owner=False`). Without `owner`, those sessions are ended whose process ran on this machine and is
        proven dead. After a reboot, from another machine or container, or when in doubt, nothing is proven: then
        name the owner.

        Args:
            owner: Whose sessions to end, running or not: the whole `client_owner`.
            dry_run: End nothing; tell what would be ended.

        Returns:
            The sessions as they were found.

        Raises:
            ConfigurationError: `owner` names nobody.
            AgentHumanError: A session could not be ended; all others were.
        """
        check_owner(owner)
        sessions = await self._client._run(self._client._flows.running())  # noqa: SLF001 - the driver is shared
        # The proof may take a moment of the operating system's time.
        found = await asyncio.to_thread(left_open, sessions, owner)
        if not dry_run:
            await self._client._run(self._client._flows.end_each(found))  # noqa: SLF001 - the driver is shared
        return found


class AsyncAgentHuman:
    """Client of the Agent Human API.

    Use it as a context manager, or `aclose` it when done. Tasks of one event loop may share it.
    The async and the sync client have the same methods.

    Args:
        api_key: API key; `None` reads `AGENTHUMAN_API_KEY`.
        base_url: Address of the service; `None` reads `AGENTHUMAN_BASE_URL`, then takes the public one.
        timeout: Limit for a whole call in seconds, retries included.
        max_retries: How often a failed request is sent again: `2` means three attempts.
        track_owner: Whether sessions carry a mark of this machine and process, by which `sessions.reap` finds
            what a crash left open. It holds the host name.
        http_client: An `httpx.AsyncClient` of your own (proxies, certificates); you close it.

    Attributes:
        sessions: The sessions of the account.
        avatars: Its avatars, and those that everybody may use.
        usage: Its minutes, limits and plan.
        agents: Its voice agents.
        links: Its links, by which others start sessions.

    Raises:
        ConfigurationError: The key is missing or empty, or a value makes no sense.
    """

    sessions: AsyncSessions
    avatars: AsyncAvatars
    usage: AsyncUsageReports
    agents: AsyncAgents
    links: AsyncLinks

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        track_owner: bool = True,
        http_client: AsyncHttpClient | None = None,
        _clock: Clock | None = None,
    ) -> None:
        self._settings = resolve(
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            track_owner=track_owner,
            clock=_clock,
        )
        self._flows = Flows(self._settings)
        self._http = AsyncHttp(self._settings, http_client)
        self.sessions = AsyncSessions(self)
        self.avatars = AsyncAvatars(self._call)
        self.usage = AsyncUsageReports(self._call)
        self.agents = AsyncAgents(self._call)
        self.links = AsyncLinks(self._call, self.sessions.end)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(host={self._settings.host!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Sessions stay open: they are ended, not closed."""
        await self._http.aclose()

    async def _call(self, call: Call[_T], limit_s: float | None = None) -> _T:
        return await self._run(self._flows.call(call, limit_s))

    def _begin(self, call: Call[Session]) -> Creation:
        return Creation.of(call, self._settings)

    async def _create(self, creation: Creation, limit_s: float | None) -> Session:
        # In a task of its own, so that a cancelled caller still learns which session the answer names.
        task = asyncio.ensure_future(self._run(self._flows.create(creation, limit_s)))
        try:
            return await asyncio.shield(task)
        except AgentHumanError:
            raise
        except BaseException:  # cancellation, or what a driver of the loop raises
            if not creation.may_exist:
                task.cancel()
            await to_the_end(lambda: self._abandon(creation, task))
            raise

    async def _abandon(self, creation: Creation, task: asyncio.Task[Session]) -> None:
        await asyncio.wait({task}, timeout=_ABANDON_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen: the caller is gone, and what matters is in `creation`
        if not creation.may_exist:
            return
        try:
            await self._run(self._flows.abandon(creation))
        except Exception as error:  # noqa: BLE001 - what interrupted the create must not be hidden
            log_abandoned(creation, error)

    async def _run(self, steps: Steps[_T]) -> _T:
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return cast("_T", stop.value)
            match step:
                case Send():
                    outcome = await self._http.send(step)
                case Pause():
                    await self._settings.clock.asleep(step.seconds)
                    outcome = None
