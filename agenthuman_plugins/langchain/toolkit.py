"""The toolkit: tools for the agent, and the guarantee that no session outlives the run."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Never, NoReturn, Self, TypeAlias, TypedDict, Unpack

from langchain_core.tools import BaseTool, BaseToolkit, ToolException
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    AsyncAgentHuman,
    ConfigurationError,
    Session,
)
from agenthuman_plugins.client.adapters import credentials
from agenthuman_plugins.client.rooms import ASPECT_RATIOS, AspectRatio, DailyRoom, LiveKitRoom, Room
from agenthuman_plugins.langchain._drivers import Clients, finish, takes
from agenthuman_plugins.langchain._holding import Change
from agenthuman_plugins.langchain._ledger import Entry, Ledger
from agenthuman_plugins.langchain._limits import Limits
from agenthuman_plugins.langchain._loop import BackgroundLoop
from agenthuman_plugins.langchain._origin import Origin, SessionRequest
from agenthuman_plugins.langchain._sessions import Scope, Sessions, Settings, checked_metadata
from agenthuman_plugins.langchain.tools import Tools, selected

if TYPE_CHECKING:
    from agenthuman_plugins.langchain._speech import Speech
    from agenthuman_plugins.langchain.tts import TextToSpeech

RoomProvider: TypeAlias = Callable[[SessionRequest], Room | Awaitable[Room | None] | None]
MetadataProvider: TypeAlias = Callable[[SessionRequest], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
OnSession: TypeAlias = Callable[[Session, SessionRequest], Awaitable[None] | None]

_NO_COPY = "A toolkit owns running sessions and a key, so it cannot be copied or pickled. Make a new one."


class _Removed(TypedDict, total=False):
    """Arguments of earlier versions."""

    read_only: Never


class AgentHumanToolkit(BaseToolkit):
    """Agent Human sessions as tools of a LangChain agent.

    Sessions are billed by the minute. Only a context manager around the run ends them however the run ends; no hook
    of an agent sees all of its ends (a model error, the recursion limit, a cancellation). Leaving the block ends every session that these tools opened. `async with` does the same for async agents.

    A session belongs to the thread (`thread_id`) of the call that opened it: tools see only the sessions of their own
    thread, so one toolkit may serve many users, and `end_sessions` ends those of one thread. A subagent sees the
    sessions that it opened itself. With a `namespace`, every worker of an application knows the sessions of a thread,
    also after a restart.

    A call is carried out once: when a checkpoint is replayed, the create tool returns the session that it opened
    before, also in another process if the agent has a checkpointer.

    Example:
        ```python
        with AgentHumanToolkit() as toolkit:
            agent = create_agent("openai:gpt-5-mini", toolkit.get_tools())
            state = agent.invoke({"messages": [("user", "Show yourself by video.")]})
        ```

    Attributes:
        api_key: API key; `None` reads `AGENTHUMAN_API_KEY`. Not needed with clients of your own.
        base_url: Address of the service; `None` reads `AGENTHUMAN_BASE_URL`, then takes the public one.
        avatar: Avatar when the model names none; `None` takes `AGENTHUMAN_AVATAR`, then the default of the
            vendor's LiveKit plugin (inferred).
        aspect_ratio: Ratio when the model names none: `4:3`, `3:4` or `1:1`.
        room: Room for the avatar to join, or a function (sync, or async for async agents) that makes one for the
            request that it is given. `None`: the service is asked to make the room. That is inferred: the public pages
            list only rooms of your own. With a `namespace`, it is called for a session that another worker opened, too:
            `request.session` is that session, and the room must be its room, with an agent token for
            `request.agent_identity`. It never comes from the model.
        metadata: JSON to keep with each session at the service: a dict, or a function of the request.
        namespace: Name of the application, the same on all of its workers: two applications on one account may both
            have a thread "1". `None`: sessions of other processes are not adopted.
        max_session_secs: Ends a session this many seconds after its start; `None`: only the plan's limit.
        max_idle_secs: Ends a session this many seconds after the last call that used it; `None`: never. The worker
            that opened it, or that spoke through it last, keeps the time.
        end_on_exit: Whether leaving the block ends the sessions. Switch it off for sessions that outlive the block:
            you end them then, or the limits do, which go on. Speech links are closed in either case, and a link over
            the gateway ends its session when it is closed.
        on_session: Called (sync, or async for async agents) with each session that is opened, tokens and the
            viewer's room included, and with the request, before the model learns of it. If it fails, the session is
            ended, and the call can be made again. Not called for a session that a replayed call finds.
        tools: Names of the tools to offer; `None`: create, get, list, end and, with a voice, say. Two more are offered
            only by name: `agent_human_list_avatars` and `agent_human_get_usage`.
        scope: Which sessions the tools may name. `agent`: those that the same agent opened in the same thread; the
            agent of the conversation also sees those of its subagents. `thread`: all of the thread, for agents that
            hand over to one another. `account`: all, so that any user may see and end the sessions of any other.
        tts: Voice of the say tool, which is offered only with one; see `TextToSpeech`.
        gateway_url: Address of the speech gateway; `None` takes `AGENTHUMAN_GATEWAY_URL`, then the public one.
        client: Client for sync calls, instead of one that the toolkit makes; you close it.
        async_client: Client for async calls, instead of one that the toolkit makes; you close it.

    Raises:
        ConfigurationError: The key is missing or empty, or a value is invalid or contradicts another one. Also when
            a field is changed later, or a block is entered while another one is open.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr | None = None
    base_url: str | None = None
    avatar: str | None = None
    aspect_ratio: AspectRatio = "4:3"
    room: Room | RoomProvider | None = Field(default=None, repr=False, exclude=True)
    metadata: dict[str, Any] | MetadataProvider | None = Field(default=None, repr=False, exclude=True)
    namespace: str | None = None
    max_session_secs: float | None = None
    max_idle_secs: float | None = None
    end_on_exit: bool = True
    on_session: OnSession | None = Field(default=None, repr=False, exclude=True)
    tools: tuple[str, ...] | None = None
    scope: Scope = "agent"
    tts: Any = Field(default=None, repr=False, exclude=True)
    gateway_url: str | None = None
    client: AgentHuman | None = Field(default=None, exclude=True)
    async_client: AsyncAgentHuman | None = Field(default=None, exclude=True)

    _ledger: Ledger = PrivateAttr(default_factory=Ledger)
    _loop: BackgroundLoop = PrivateAttr(default_factory=BackgroundLoop)
    _clients: Clients = PrivateAttr()
    _sessions: Sessions = PrivateAttr()
    _limits: Limits = PrivateAttr()
    _speech: "Speech | None" = PrivateAttr(default=None)
    _home: asyncio.AbstractEventLoop | None = PrivateAttr(default=None)
    _block: threading.Lock = PrivateAttr(default_factory=threading.Lock)  # held inside of a block
    _is_made: bool = PrivateAttr(default=False)
    _made: Tools = PrivateAttr()
    _tools: list[BaseTool] = PrivateAttr(default_factory=list)

    def __init__(
        self,
        *,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        avatar: str | None = None,
        aspect_ratio: AspectRatio = "4:3",
        room: Room | RoomProvider | None = None,
        metadata: Mapping[str, Any] | MetadataProvider | None = None,
        namespace: str | None = None,
        max_session_secs: float | None = None,
        max_idle_secs: float | None = None,
        end_on_exit: bool = True,
        on_session: OnSession | None = None,
        tools: Sequence[str] | None = None,
        scope: Scope = "agent",
        tts: "TextToSpeech | None" = None,
        gateway_url: str | None = None,
        client: AgentHuman | None = None,
        async_client: AsyncAgentHuman | None = None,
        **removed: Unpack[_Removed],
    ) -> None:
        _refuse_old_forms(removed, scope, room, metadata, on_session)
        _check_values(aspect_ratio, namespace, room, max_session_secs, max_idle_secs)
        _check_clients(client, async_client)
        if not callable(metadata):
            metadata = checked_metadata(metadata)
        names = selected(tools, scope=scope, namespace=namespace, has_voice=tts is not None)
        key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        if client is None and async_client is None:
            # Now, not at first use: the programmer can set a missing key, a model cannot.
            key, base_url = credentials(key, base_url)
        fields: dict[str, Any] = {
            "api_key": None if key is None else SecretStr(key),
            "base_url": base_url,
            "avatar": avatar,
            "aspect_ratio": aspect_ratio,
            "room": room,
            "metadata": metadata,
            "namespace": namespace,
            "max_session_secs": max_session_secs,
            "max_idle_secs": max_idle_secs,
            "end_on_exit": end_on_exit,
            "on_session": on_session,
            "tools": None if tools is None else names,
            "scope": scope,
            "tts": tts,
            "gateway_url": gateway_url,
            "client": client,
            "async_client": async_client,
        }
        try:
            super().__init__(**fields)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            raise ConfigurationError(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}.") from None
        self._build(key, names)
        self._is_made = True

    def _build(self, key: str | None, names: tuple[str, ...]) -> None:
        self._clients = Clients(key, self.base_url, self.client, self.async_client)
        if self.tts is not None:
            from agenthuman_plugins.langchain.tts import check_installed  # noqa: PLC0415 - only with a voice

            check_installed()
            from agenthuman_plugins.langchain._speech import Speech  # noqa: PLC0415 - loads the speech links

            self._speech = Speech(self.tts, self._loop, on_handed_over=self._handed_over)
        self._limits = Limits(
            self.max_session_secs,
            self.max_idle_secs,
            loop=self._loop,
            ledger=self._ledger,
            end=self._end_by_itself,
        )
        settings = Settings(
            avatar=self.avatar,
            aspect_ratio=self.aspect_ratio,
            room=self.room,
            metadata=self.metadata,
            on_session=self.on_session,
            namespace=self.namespace,
            scope=self.scope,
            offered=frozenset(names),
        )

        def owned(entry: Entry) -> None:
            with suppress(RuntimeError):  # a sync call
                self._home = asyncio.get_running_loop()
            self._limits.watch(entry)

        self._sessions = Sessions(settings, self._ledger, self._speech, owned, self._limits.used)
        self._made = Tools(
            self._clients, self._sessions, self._ledger, self._limits, self._speech, self.gateway_url, names
        )
        # Once for a toolkit: a tool computes its schema once.
        self._tools = [self._made.build(name) for name in names]

    def get_tools(self) -> list[BaseTool]:
        """The tools that were selected, in the order in which an agent uses them.

        Example:
            ```python
            print([tool.name for tool in toolkit.get_tools()])
            ```
        """
        return list(self._tools)

    @property
    def sessions(self) -> Mapping[str, Session]:
        """Sessions that the tools opened or were asked for, by id; with its room and token if the service made one (inferred).

        The last 1,000 ended ones are among them; `session.has_ended` is true as soon as a tool has learned of the end.
        For the application alone: they hold tokens. It is a copy, which does not change.
        """
        entries = reversed(self._ledger.entries())
        return MappingProxyType({entry.session_id: entry.session for entry in entries})

    def end_sessions(self, thread_id: object) -> None:
        """End the sessions of one conversation, when that is over.

        With a `namespace` also those that another worker opened, which costs a request for the list.

        Example:
            ```python
            toolkit.end_sessions("ada")  # when her conversation is over
            ```

        Args:
            thread_id: Its `thread_id`, as text or as what has that text, such as a UUID; `None` means the calls
                outside of any.

        Raises:
            AgentHumanError: A session could not be ended; all others were.
        """
        finish(self._sessions.end_thread(self._clients.sync_driver(), thread_id))

    async def aend_sessions(self, thread_id: object) -> None:
        """End the sessions of one conversation, when that is over; see `end_sessions`. Cancelling waits for it.

        Example:
            ```python
            await toolkit.aend_sessions("ada")
            ```

        Args:
            thread_id: Its `thread_id`; `None` means the calls outside of any.

        Raises:
            AgentHumanError: A session could not be ended; all others were.
        """
        await self._sessions.end_thread(self._clients.async_driver(), thread_id)

    def __enter__(self) -> Self:
        self._enter(native=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._leaving() as left:
            try:
                if self._speech is not None:
                    self._speech.close()
            finally:
                try:
                    if left:
                        with _not_hiding(error):
                            finish(self._sessions.end_all(self._clients.sync_driver(), left))
                finally:
                    if not self._limits.watching:
                        self._loop.close()
                    self._clients.settle()
                    if not self._ledger.opens.busy:
                        self._clients.close()

    async def __aenter__(self) -> Self:
        self._enter(native=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._leaving() as left:
            try:
                if self._speech is not None:
                    await self._speech.aclose()
            finally:
                try:
                    if left:
                        with _not_hiding(error):
                            await self._sessions.end_all(self._clients.async_driver(), left)
                finally:
                    if not self._limits.watching:
                        await self._loop.aclose()
                    await self._clients.asettle()
                    if not self._ledger.opens.busy:
                        await self._clients.aclose()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields and self._is_made:
            raise ConfigurationError(
                f"{name} of a toolkit cannot be changed: its tools would not learn of it. Pass it to "
                f"AgentHumanToolkit({name}=...)."
            )
        super().__setattr__(name, value)

    def __copy__(self) -> NoReturn:
        raise TypeError(_NO_COPY)

    def __deepcopy__(self, memo: Any = None) -> NoReturn:
        raise TypeError(_NO_COPY)

    def __getstate__(self) -> NoReturn:
        raise TypeError(_NO_COPY)

    def _enter(self, *, native: bool) -> None:
        self._clients.check(native=native)
        if not self._block.acquire(blocking=False):
            raise ConfigurationError(
                "This toolkit is in use by another block, which ends its sessions: make a toolkit for each block."
            )
        self._ledger.reopen()

    @contextmanager
    def _leaving(self) -> Iterator[list[str]]:
        """Yield the sessions that the end of the block is to end; when that is done, another block may begin."""
        try:
            left = self._ledger.close() if self.end_on_exit else []
            yield [entry.session_id for entry in left]
        finally:
            if self._block.locked():  # a program may leave what it did not enter
                self._block.release()

    # --- for what belongs to a toolkit

    def _of_run(self) -> list[str]:
        """The sessions of the run that calls us: what the middleware ends."""
        return self._sessions.of_run(Origin.of())

    def _end(self, session_ids: list[str]) -> None:
        finish(self._sessions.end_all(self._clients.sync_driver(), session_ids))

    async def _aend(self, session_ids: list[str]) -> None:
        await self._sessions.end_all(self._clients.async_driver(), session_ids)

    async def _lend(self, thread_id: str | None) -> tuple[Session, Room | None]:
        """Open a session for a stage, as a tool would; errors are for the program."""
        try:
            entry, _ = await self._sessions.open(self._clients.async_driver(), Origin.of_thread(thread_id))
        except ToolException as told:
            raise told.__cause__ or AgentHumanError(str(told)) from None
        return entry.session, entry.room

    async def _take_back(self, session_id: str) -> None:
        """End the session of a stage."""
        await self._aend([session_id])

    def _used(self, session_id: str) -> AbstractContextManager[None]:
        """Use the session of a stage inside the block: it is not idle."""
        return self._limits.used(session_id)

    def _handed_over(self, session_id: str) -> None:
        """Another worker speaks through a session now: it is not ours to end any more."""
        self._ledger.change(session_id, Change.REPLACED)

    async def _end_by_itself(self, session_id: str) -> None:
        """End a session at its limit, on the loop of the background."""
        if self._clients.has_sync:
            await asyncio.to_thread(self._end, [session_id])
        elif self._home is not None and not self._home.is_closed():  # the only one where the client works
            ended = asyncio.run_coroutine_threadsafe(self._aend([session_id]), self._home)
            await asyncio.wrap_future(ended)
        else:
            raise AgentHumanError("The loop of async_client is closed.")


def _refuse_old_forms(
    removed: Mapping[str, Any], scope: object, room: object, metadata: object, on_session: object
) -> None:
    """Name what takes the place of a form of earlier versions."""
    if "read_only" in removed:
        raise ConfigurationError(
            "read_only is gone: offer the tools that only look, tools=['agent_human_get_session', "
            "'agent_human_list_sessions']."
        )
    if removed:
        raise TypeError(f"AgentHumanToolkit has no argument {min(removed)!r}.")
    if scope == "toolkit":
        raise ConfigurationError("scope='toolkit' is scope='agent' now, which is the default: leave it out.")
    for name, function, form, arguments in (
        ("room", room, "room(request)", 1),
        ("metadata", metadata, "metadata(request)", 1),
        ("on_session", on_session, "on_session(session, request)", 2),
    ):
        if callable(function) and not takes(function, arguments):
            raise ConfigurationError(
                f"{name} is called as {form} now, where request has the thread, the tool call and the toolkit's "
                "metadata: give your function that signature."
            )


def _check_values(
    aspect_ratio: object, namespace: object, room: object, max_session_secs: object, max_idle_secs: object
) -> None:
    if aspect_ratio not in ASPECT_RATIOS:
        raise ConfigurationError(
            f"aspect_ratio must be one of {', '.join(ASPECT_RATIOS)}, not {aspect_ratio!r}."
        )
    if namespace is not None and not (isinstance(namespace, str) and namespace.strip()):
        raise ConfigurationError(
            "namespace must be the name of your application, a text that is not empty, or None."
        )
    if not (room is None or isinstance(room, LiveKitRoom | DailyRoom) or callable(room)):
        raise ConfigurationError(
            f"room must be a LiveKitRoom, a DailyRoom or a function that returns one, not {type(room).__name__!r}."
        )
    for name, value in (("max_session_secs", max_session_secs), ("max_idle_secs", max_idle_secs)):
        if value is not None and not (_is_number(value) and 0 < value < float("inf")):  # type: ignore[operator]
            raise ConfigurationError(f"{name} must be a number of seconds above 0, or None for no limit.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_clients(client: object, async_client: object) -> None:
    for name, given, kind, other in (
        ("client", client, AgentHuman, "async_client"),
        ("async_client", async_client, AsyncAgentHuman, "client"),
    ):
        if isinstance(given, AgentHuman | AsyncAgentHuman) and not isinstance(given, kind):
            raise ConfigurationError(f"{name} must be an {kind.__name__}: pass this one as {other}.")


@contextmanager
def _not_hiding(error: BaseException | None) -> Iterator[None]:
    """Raise what kept sessions from being ended, unless the block itself failed: that must not be hidden."""
    try:
        yield
    except AgentHumanError:
        if error is None:
            raise
