"""How an operation of the tools is carried out, sync or async.

Each operation is written once, as a coroutine over a `Driver`. What the sync driver gives to await is done already,
so that such a coroutine comes to its end without an event loop: see `finish`.
"""

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, ConfigurationError, Session
from agenthuman_plugins.client.adapters import asettle, settle, to_the_end

if TYPE_CHECKING:  # it loads the speech links
    from agenthuman_plugins.langchain._speech import Speech, Spoken, Wire

_T = TypeVar("_T")


def finish(operation: Coroutine[Any, Any, _T]) -> _T:
    """Carry out an operation over a sync driver."""
    try:
        operation.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    operation.close()
    raise RuntimeError("an operation over a sync driver waited for an event loop")


class SyncDriver:
    """Carries operations out on the calling thread.

    Attributes:
        client: Its methods have the same names as those of the async one.
    """

    def __init__(self, client: AgentHuman) -> None:
        self.client: Any = client

    async def done(self, made: Any) -> Any:
        """Return what the client's method returned."""
        return made

    def lease(self, **wanted: Any) -> AbstractAsyncContextManager[Session]:
        """A session for a block."""
        return _Unsuspended(self.client.sessions.open(**wanted))

    async def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the application.

        Raises:
            ConfigurationError: It is async.
        """
        self.refuse_async(name, function)
        try:
            result = function(*arguments)
        except ValidationError as error:
            raise _not_the_models(name) from error
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise _is_async(name)
        return result

    def refuse_async(self, name: str, function: Callable[..., Any] | None) -> None:
        """Say that a function is async, before there is a session to lose."""
        if function is not None and _surely_async(function):
            raise _is_async(name)

    async def wait(self, future: "Future[Any]", limit_s: float) -> bool:
        """Wait on this thread."""
        try:
            future.result(limit_s)
        except TimeoutError:
            return False
        return True

    async def each(self, operation: Callable[[str], Coroutine[Any, Any, None]], items: Iterable[str]) -> None:
        """Carry it out for one after the other; Ctrl-C comes out when all are done, a second one at once."""
        left = deque(items)
        failures: list[Exception] = []
        interrupted: BaseException | None = None
        while left:
            try:
                await operation(left[0])
            except Exception as failure:  # noqa: BLE001 - raised when the others are done
                failures.append(failure)
            except BaseException as error:
                if interrupted is not None:
                    raise
                interrupted = error
                continue  # this one too
            left.popleft()
        if interrupted is not None:
            raise interrupted
        if failures:
            raise failures[0]

    async def settle(self, error: BaseException) -> None:
        """Wait, however this was interrupted."""
        del error
        settle(self.client)

    async def speak(self, speech: "Speech", wire: "Wire", text: str) -> "Spoken":
        """Speak."""
        return speech.speak(wire, text)

    async def finish_speaking(self, speech: "Speech", session_id: str) -> None:
        """Wait."""
        speech.finish(session_id)

    async def hang_up(self, speech: "Speech", session_id: str) -> None:
        """Hang up."""
        speech.hang_up(session_id)


class _Unsuspended(AbstractAsyncContextManager[Session]):
    """A sync context manager where an async one is expected.

    No generator, which would end the session when it is forgotten, also if that has been kept.
    """

    def __init__(self, lease: AbstractContextManager[Session]) -> None:
        self._lease = lease

    async def __aenter__(self) -> Session:
        return self._lease.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._lease.__exit__(kind, error, traceback)


class AsyncDriver:
    """Carries operations out on the running loop.

    Attributes:
        client: Its methods have the same names as those of the sync one.
    """

    def __init__(self, client: AsyncAgentHuman) -> None:
        self.client: Any = client

    async def done(self, made: Any) -> Any:
        """Await what the client's method returned."""
        return await made

    def lease(self, **wanted: Any) -> AbstractAsyncContextManager[Session]:
        """A session for a block."""
        lease: AbstractAsyncContextManager[Session] = self.client.sessions.open(**wanted)
        return lease

    async def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the application; a plain one, which may block, in a thread."""

        def on_thread() -> Any:
            try:
                return function(*arguments)
            except StopIteration as error:  # as it is, Python 3.11 would wait for the thread forever
                raise RuntimeError(f"{name} raised StopIteration.") from error

        try:
            made = function(*arguments) if _surely_async(function) else await asyncio.to_thread(on_thread)
            return await made if inspect.isawaitable(made) else made
        except ValidationError as error:
            raise _not_the_models(name) from error

    def refuse_async(self, name: str, function: Callable[..., Any] | None) -> None:
        """Take both kinds."""

    async def wait(self, future: "Future[Any]", limit_s: float) -> bool:
        """Wait on the loop."""
        done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=limit_s)
        return bool(done)

    async def each(self, operation: Callable[[str], Coroutine[Any, Any, None]], items: Iterable[str]) -> None:
        """Carry it out for all at the same time; a cancellation comes out when all are done."""
        every = list(items)

        async def carry_out() -> list[BaseException | None]:
            return await asyncio.gather(*map(operation, every), return_exceptions=True)

        for failure in await to_the_end(carry_out):
            if failure is not None:
                raise failure

    async def settle(self, error: BaseException) -> None:
        """Wait after a cancellation; being cancelled once more waits no longer."""
        if isinstance(error, asyncio.CancelledError):
            await asettle(self.client)

    async def speak(self, speech: "Speech", wire: "Wire", text: str) -> "Spoken":
        """Speak."""
        return await speech.aspeak(wire, text)

    async def finish_speaking(self, speech: "Speech", session_id: str) -> None:
        """Wait."""
        await speech.afinish(session_id)

    async def hang_up(self, speech: "Speech", session_id: str) -> None:
        """Hang up."""
        await speech.ahang_up(session_id)


Driver: TypeAlias = SyncDriver | AsyncDriver


class Clients:
    """The clients of a toolkit: the application's, or ones that are made at first use.

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

    def check(self, *, native: bool) -> None:
        """Make sure that there is a client for async (`native`) or sync calls.

        Raises:
            ConfigurationError: The application gave one for the other kind alone.
        """
        given = self._given_async if native else self._given
        if given is None and self._api_key is None:
            kind, missing = ("an async", "async_client") if native else ("a sync", "client")
            raise ConfigurationError(
                f"This is {kind} call, but the toolkit was given a client for the other kind only: pass {missing}, too."
            )

    @property
    def has_sync(self) -> bool:
        """Whether there is a client for sync calls, which works on any thread."""
        return self._given is not None or self._api_key is not None

    def sync_driver(self) -> SyncDriver:
        """The driver of sync calls."""
        if self._given is not None:
            return SyncDriver(self._given)
        self.check(native=False)
        with self._lock:
            if self._sync is None:
                self._sync = AgentHuman(api_key=self._api_key, base_url=self._base_url)
            return SyncDriver(self._sync)

    def async_driver(self) -> AsyncDriver:
        """The driver of async calls on the running loop."""
        if self._given_async is not None:
            return AsyncDriver(self._given_async)
        self.check(native=True)
        loop = asyncio.get_running_loop()
        with self._lock:
            # A client's connections know their loop, so that neither would ever be collected.
            for dead in [known for known in self._async if known.is_closed()]:
                del self._async[dead]
            if loop not in self._async:
                self._async[loop] = AsyncAgentHuman(api_key=self._api_key, base_url=self._base_url)
            return AsyncDriver(self._async[loop])

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


def takes(function: Callable[..., Any], arguments: int) -> bool:
    """Whether a function can be called with so many arguments; true where nobody can tell."""
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _surely_async(function: object) -> bool:
    # Others may still return something to await.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


def _is_async(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is async, but the tool was called sync: use ainvoke.")


def _not_the_models(name: str) -> RuntimeError:
    # As it is, LangChain would take it for wrong arguments of the model.
    return RuntimeError(f"{name} raised a pydantic.ValidationError of its own.")
