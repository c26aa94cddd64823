"""The toolkit: tools for the agent, and the guarantee that no session outlives the run."""

import asyncio
import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    AsyncAgentHuman,
    ConfigurationError,
    NotFoundError,
    Session,
)
from agenthuman_plugins.client._config import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_S, resolve
from agenthuman_plugins.client._lease import to_the_end
from agenthuman_plugins.client.rooms import AspectRatio, Room
from agenthuman_plugins.langchain._ledger import Ledger
from agenthuman_plugins.langchain._tools import RoomProvider, SessionTools

_log = logging.getLogger("agenthuman_plugins.langchain")


class AgentHumanToolkit(BaseToolkit):
    """Agent Human sessions as tools of a LangChain agent.

    Sessions are billed by the minute. Only a context manager around the run ends them on every way out; no hook
    of an agent sees all of them (a model error, the recursion limit, a cancellation):

        with AgentHumanToolkit() as toolkit:
            agent = create_agent(model, toolkit.get_tools())
            agent.invoke(...)

    Leaving the block ends every session that these tools opened. `async with` does the same for async agents.
    Use one toolkit for one block at a time.

    A call is carried out once: when a checkpoint is replayed (same thread, same tool call), the create tool
    returns the session that it opened before. Agents of other threads cannot end it.

    Attributes:
        api_key: API key; `None` reads `AGENTHUMAN_API_KEY`. Not needed with clients of your own.
        base_url: Address of the service; `None` reads `AGENTHUMAN_BASE_URL`, then takes the public one.
        avatar: Avatar when the model names none; `None` takes `AGENTHUMAN_AVATAR`, then the default one.
        aspect_ratio: Ratio when the model names none.
        room: Room for the avatar to join, or a function (sync, or async for async agents) that makes one for
            each session. `None`: the service makes the room. It never comes from the model.
        end_on_exit: Whether leaving the block ends the sessions. Switch it off when somebody joins later; then
            ending them is yours.
        client: Client for sync calls, instead of one that the toolkit makes; you close it.
        async_client: Client for async calls, instead of one that the toolkit makes; you close it.

    Raises:
        ConfigurationError: The key is missing or empty, or a value makes no sense.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr | None = None
    base_url: str | None = None
    avatar: str | None = None
    aspect_ratio: AspectRatio = "4:3"
    room: Room | RoomProvider | None = Field(default=None, repr=False)
    end_on_exit: bool = True
    client: AgentHuman | None = None
    async_client: AsyncAgentHuman | None = None

    _ledger: Ledger = PrivateAttr(default_factory=Ledger)
    _clients: "_Clients" = PrivateAttr()
    _tools: list[BaseTool] = PrivateAttr(default_factory=list)

    def __init__(
        self,
        *,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        avatar: str | None = None,
        aspect_ratio: AspectRatio = "4:3",
        room: Room | RoomProvider | None = None,
        end_on_exit: bool = True,
        client: AgentHuman | None = None,
        async_client: AsyncAgentHuman | None = None,
    ) -> None:
        key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        if client is None and async_client is None:
            # Now and not at first use: a missing key is better told to the programmer than to a model.
            settings = resolve(
                api_key=key,
                base_url=base_url,
                timeout=DEFAULT_TIMEOUT_S,
                max_retries=DEFAULT_MAX_RETRIES,
                clock=None,
            )
            key, base_url = settings.api_key, settings.base_url
        fields: dict[str, Any] = {
            "api_key": None if key is None else SecretStr(key),
            "base_url": base_url,
            "avatar": avatar,
            "aspect_ratio": aspect_ratio,
            "room": room,
            "end_on_exit": end_on_exit,
            "client": client,
            "async_client": async_client,
        }
        super().__init__(**fields)
        self._clients = _Clients(key, base_url, client, async_client)
        # Once for a toolkit: a tool computes its schema once.
        self._tools = SessionTools(
            self._clients, self._ledger, room=room, avatar=avatar, aspect_ratio=aspect_ratio
        ).build()

    def get_tools(self) -> list[BaseTool]:
        """The tools: create and end."""
        return list(self._tools)

    @property
    def sessions(self) -> Mapping[str, Session]:
        """Sessions that were opened and not ended by the tools, by id, with the room for a viewer to join.

        For the application alone: they hold tokens.
        """
        return self._ledger.running()

    def __enter__(self) -> Self:
        self._ledger.reopen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failures: list[tuple[Session, AgentHumanError]] = []
        for session in self._to_end():
            try:
                self._clients.sync_client().sessions.end(session.session_id)
            except NotFoundError:
                self._ledger.mark_ended(session.session_id)
            except AgentHumanError as failure:
                failures.append((session, failure))
            else:
                self._ledger.mark_ended(session.session_id)
        if not self._ledger.opening:
            self._clients.close()
        _report(failures, error)

    async def __aenter__(self) -> Self:
        self._ledger.reopen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sessions = self._to_end()
        failures: list[tuple[Session, AgentHumanError]] = []

        async def end(session: Session) -> None:
            try:
                await self._clients.async_client().sessions.end(session.session_id)
            except NotFoundError:
                self._ledger.mark_ended(session.session_id)
            except AgentHumanError as failure:
                failures.append((session, failure))
            else:
                self._ledger.mark_ended(session.session_id)

        async def end_all() -> None:
            await asyncio.gather(*map(end, sessions))

        try:
            await to_the_end(end_all)
        finally:
            if not self._ledger.opening:
                await self._clients.aclose()
        _report(failures, error)

    def _to_end(self) -> list[Session]:
        return self._ledger.close() if self.end_on_exit else []


class _Clients:
    """The clients of a toolkit, made at first use."""

    def __init__(
        self,
        api_key: str | None,
        base_url: str | None,
        client: AgentHuman | None,
        async_client: AsyncAgentHuman | None,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._given = client
        self._given_async = async_client
        self._lock = threading.Lock()
        self._sync: AgentHuman | None = None
        # One for each loop: connections belong to the loop that opened them, and asyncio.run() makes a new one.
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncAgentHuman] = WeakKeyDictionary()

    def sync_client(self) -> AgentHuman:
        """The client of sync calls."""
        if self._given is not None:
            return self._given
        self._need_key("client")
        with self._lock:
            if self._sync is None:
                self._sync = AgentHuman(api_key=self._api_key, base_url=self._base_url)
            return self._sync

    def async_client(self) -> AsyncAgentHuman:
        """The client of async calls on the running loop."""
        if self._given_async is not None:
            return self._given_async
        self._need_key("async_client")
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._async:
                self._async[loop] = AsyncAgentHuman(api_key=self._api_key, base_url=self._base_url)
            return self._async[loop]

    def close(self) -> None:
        """Close what was made for sync calls."""
        with self._lock:
            client, self._sync = self._sync, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close what was made for this loop, and for sync calls."""
        self.close()
        with self._lock:
            client = self._async.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _need_key(self, missing: str) -> None:
        if self._api_key is None:
            raise ConfigurationError(
                f"The toolkit was given a client of the other kind only: pass {missing} too."
            )


def _report(failures: list[tuple[Session, AgentHumanError]], error: BaseException | None) -> None:
    """Raise what kept sessions from being ended, unless the block itself failed: that must not be hidden."""
    for session, failure in failures:
        _log.error(
            "Session %s could not be ended, the service will do it later: %s", session.session_id, failure
        )
    if failures and error is None:
        raise failures[0][1]
