"""The clients of a toolkit, made at first use."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakKeyDictionary

from agenthuman_plugins.client import AgentHuman, AgentHumanError, AsyncAgentHuman, ConfigurationError
from agenthuman_plugins.client.adapters import asettle, settle


class Clients:
    """Where the tools get their clients.

    Args:
        api_key: Key for the clients that are made here; `None` if one was given.
        base_url: Address for the clients that are made here.
        client: The application's client for sync calls.
        async_client: The application's client for async calls.
    """

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
            # A client's connections know their loop, so that neither would ever be collected.
            for dead in [known for known in self._async if known.is_closed()]:
                del self._async[dead]
            if loop not in self._async:
                self._async[loop] = AsyncAgentHuman(api_key=self._api_key, base_url=self._base_url)
            return self._async[loop]

    def settle(self) -> None:
        """Wait, for a while, until what calls opened that were given up has ended."""
        client = self._given or self._sync
        if client is not None:
            settle(client)

    async def asettle(self) -> None:
        """The same for the calls of this loop."""
        client = self._given_async or self._async.get(asyncio.get_running_loop())
        if client is not None:
            await asettle(client)

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


@contextmanager
def settled_when_interrupted(client: AgentHuman) -> Iterator[None]:
    """Let an interruption come out when what it left open has ended: a run that was stopped leaves nothing going on."""
    try:
        yield
    except AgentHumanError:
        raise
    except BaseException:
        settle(client)
        raise


@asynccontextmanager
async def settled_when_cancelled(client: AsyncAgentHuman) -> AsyncIterator[None]:
    """The same for a cancellation; being cancelled once more waits no longer."""
    try:
        yield
    except asyncio.CancelledError:
        await asettle(client)
        raise
