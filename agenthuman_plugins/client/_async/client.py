"""The async client. The sync one is generated from it, as its resources are: see `scripts/generate_sync`."""

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from agenthuman_plugins.client._async.account import AsyncAgents, AsyncAvatars, AsyncLinks, AsyncUsageReports
from agenthuman_plugins.client._async.sessions import AsyncSessions
from agenthuman_plugins.client._background import CLOSE_S
from agenthuman_plugins.client._calls import CallOptions, with_options
from agenthuman_plugins.client._calls.custom import custom
from agenthuman_plugins.client._config import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT_S,
    AsyncKeySource,
    Clock,
    hide_key,
    resolve,
    retries,
    seconds,
)
from agenthuman_plugins.client._driver import AsyncDriver
from agenthuman_plugins.client._pools import AsyncHttpClient, AsyncPools


class AsyncAgentHuman:
    """Client of the Agent Human API.

    Use it as a context manager, or `aclose` it when done. Tasks may share it, on several event loops, too: each loop
    gets connections of its own. The async and the sync client have the same methods.

    Example:
        ```python
        async with AsyncAgentHuman() as client, client.sessions.open() as session:
            print(session.session_id, session.expiration)
        ```

    Args:
        api_key: API key, or a function (or coroutine function) that returns it and is asked before each request, for
            keys that change; `None` reads `AGENTHUMAN_API_KEY`.
        base_url: Address of the service; `None` reads `AGENTHUMAN_BASE_URL`, then takes the public one.
        timeout: Limit for a whole call in seconds, retries included; 60 by default.
        max_retries: How often a failed request is sent again; 2 by default, which means three attempts.
        track_owner: Whether sessions carry a mark of this machine and process, by which `sessions.reap` finds
            what a crash left open. It holds the host name.
        http_client: An `httpx.AsyncClient` of your own (proxies, certificates); you close it. It serves one event
            loop and one process.

    Attributes:
        sessions: The sessions of the account.
        avatars: Its avatars, and those that everybody may use.
        usage: Its minutes, limits and plan.
        agents: Its voice agents.
        links: Its links, by which others start sessions.

    Raises:
        ConfigurationError: The key is missing or empty, or a value makes no sense; an empty `base_url`, too.
    """

    sessions: AsyncSessions
    avatars: AsyncAvatars
    usage: AsyncUsageReports
    agents: AsyncAgents
    links: AsyncLinks

    def __init__(
        self,
        *,
        api_key: AsyncKeySource | None = None,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        track_owner: bool = True,
        http_client: AsyncHttpClient | None = None,
        _clock: Clock | None = None,
    ) -> None:
        api_key, hidden = None, hide_key(api_key)  # no variable of a traceback shows it
        settings = resolve(
            api_key=hidden,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            track_owner=track_owner,
            clock=_clock,
        )
        self._drive(AsyncDriver(settings, AsyncPools(settings, http_client)))

    def __repr__(self) -> str:
        # Also asked for by what prints the variables of a traceback, while the client is being made.
        host = self._settings.host if hasattr(self, "_settings") else None
        return f"{type(self).__name__}(host={host!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, timeout: float = CLOSE_S) -> None:  # noqa: ASYNC109 - of what goes on in the background
        """Close the connections. Sessions stay open: they are ended, not closed.

        Calls that were given up while they were opening a session are waited for, until that has ended. Being
        cancelled while waiting gives them up for good; the log then names what may still run.

        Example:
            ```python
            await client.aclose(timeout=30)  # in place of a `with` block
            ```

        Args:
            timeout: How long to wait for them, in seconds; 10 by default.
        """
        await self._driver.aclose(seconds("timeout", timeout))

    def with_options(self, *, timeout: float | None = None, max_retries: int | None = None) -> Self:
        """A view of this client with other limits, over the same connections; closing either closes both.

        Example:
            ```python
            patient = client.with_options(timeout=120, max_retries=5)
            session = await patient.sessions.create()
            ```

        Args:
            timeout: Limit for a whole call in seconds, retries included; `None` leaves it.
            max_retries: How often a failed request is sent again; `None` leaves it.

        Raises:
            ConfigurationError: A value makes no sense.
        """
        settings = self._settings
        if timeout is not None:
            settings = replace(settings, timeout_s=seconds("timeout", timeout))
        if max_retries is not None:
            settings = replace(settings, max_retries=retries(max_retries))
        view = type(self).__new__(type(self))
        view._drive(self._driver.with_settings(settings))  # noqa: SLF001 - of this class
        return view

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """Send a request to an endpoint that this package has no method for, and return the JSON of its answer.

        It carries the key and raises the same errors as every other call. Only a GET is sent again after a failure.
        Endpoints that open billed sessions are refused: their methods end what nobody waits for.

        Example:
            ```python
            answer = await client.request("GET", "/v1/sessions", params={"status": "started"})
            print(answer["sessions"])
            ```

        Args:
            method: HTTP method, such as `POST`.
            path: Path below the address of the service, beginning with one `/`, such as `/v1/openclaw/initiate`.
            json: Body.
            params: Query.
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Returns:
            The parsed JSON, without headers and request id; the text, where the answer is none.

        Raises:
            ConfigurationError: The path leads elsewhere, or to a billed endpoint; nothing was sent.
        """
        call = custom(self._settings.base_url, method, path, json=json, params=params)
        return await self._driver.call(with_options(call, options))

    def _drive(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._settings = driver.settings
        self.sessions = AsyncSessions(driver)
        self.avatars = AsyncAvatars(driver)
        self.usage = AsyncUsageReports(driver)
        self.agents = AsyncAgents(driver)
        self.links = AsyncLinks(driver)
