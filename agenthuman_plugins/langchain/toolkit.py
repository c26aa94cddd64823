"""The toolkit: tools for the agent, and the guarantee that no session outlives the run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from agenthuman_plugins.client import AgentHuman, AgentHumanError, AsyncAgentHuman, Session
from agenthuman_plugins.client.adapters import credentials
from agenthuman_plugins.client.rooms import AspectRatio, Room
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._app import OnSession, RoomProvider
from agenthuman_plugins.langchain._clients import Clients
from agenthuman_plugins.langchain._create import Create
from agenthuman_plugins.langchain._end import End
from agenthuman_plugins.langchain._ledger import Entry, Ledger
from agenthuman_plugins.langchain._reach import Reach, Scope
from agenthuman_plugins.langchain._read import Read
from agenthuman_plugins.langchain._selection import selected

if TYPE_CHECKING:
    from agenthuman_plugins.langchain._say import Say
    from agenthuman_plugins.langchain.tts import TextToSpeech

_NO_COPY = (
    "A toolkit answers for running sessions and holds a key: it cannot be copied or pickled. Make a new one."
)


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
    returns the session that it opened before, also in another process if the agent has a checkpointer.

    The tools see the sessions of this toolkit and of their own thread alone, so one toolkit may serve many users,
    each with a `thread_id` of their own; `end_sessions` ends those of one thread.

    Attributes:
        api_key: API key; `None` reads `AGENTHUMAN_API_KEY`. Not needed with clients of your own.
        base_url: Address of the service; `None` reads `AGENTHUMAN_BASE_URL`, then takes the public one.
        avatar: Avatar when the model names none; `None` takes `AGENTHUMAN_AVATAR`, then the default one.
        aspect_ratio: Ratio when the model names none.
        room: Room for the avatar to join, or a function (sync, or async for async agents) that makes one for
            each session. `None`: the service makes the room, which is inferred (the public pages list rooms of your own
            alone). It never comes from the model.
        end_on_exit: Whether leaving the block ends the sessions. Switch it off when somebody joins later; then
            ending them is yours. The block's end closes speech links all the same, and the gateway's end their
            session with them.
        on_session: Called (sync, or async for async agents) with each session that is opened, tokens and the
            viewer's room included, before the model learns of it. If it fails, the session is ended. Not called
            for a session that a replayed call finds again.
        tools: Names of the tools to offer; `None`: all.
        read_only: Offer only the tools that change nothing, get and list. Needs `scope="account"`.
        scope: Which sessions the tools may name. `toolkit`: those that this toolkit opened, in the same thread.
            `account`: all, so that any user may see and end the sessions of any other.
        tts: Voice of the say tool, which is offered only with one; see `TextToSpeech`. Leaving the block closes the
            speech links. One that goes over the gateway ends its session by that, also with `end_on_exit=False`.
        gateway_url: Address of the speech gateway; `None` takes `AGENTHUMAN_GATEWAY_URL`, then the public one.
        client: Client for sync calls, instead of one that the toolkit makes; you close it.
        async_client: Client for async calls, instead of one that the toolkit makes; you close it.

    Raises:
        ConfigurationError: The key is missing or empty, or values make no sense (together).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr | None = None
    base_url: str | None = None
    avatar: str | None = None
    aspect_ratio: AspectRatio = "4:3"
    room: Room | RoomProvider | None = Field(default=None, repr=False, exclude=True)
    end_on_exit: bool = True
    on_session: OnSession | None = Field(default=None, repr=False, exclude=True)
    tools: tuple[str, ...] | None = None
    read_only: bool = False
    scope: Scope = "toolkit"
    tts: Any = Field(default=None, repr=False, exclude=True)
    gateway_url: str | None = None
    client: AgentHuman | None = Field(default=None, exclude=True)
    async_client: AsyncAgentHuman | None = Field(default=None, exclude=True)

    _ledger: Ledger = PrivateAttr(default_factory=Ledger)
    _clients: Clients = PrivateAttr()
    _end: End = PrivateAttr()
    _say: "Say | None" = PrivateAttr(default=None)
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
        on_session: OnSession | None = None,
        tools: Sequence[str] | None = None,
        read_only: bool = False,
        scope: Scope = "toolkit",
        tts: "TextToSpeech | None" = None,
        gateway_url: str | None = None,
        client: AgentHuman | None = None,
        async_client: AsyncAgentHuman | None = None,
    ) -> None:
        names = selected(tools, read_only=read_only, scope=scope, has_voice=tts is not None)
        key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        if client is None and async_client is None:
            # Now and not at first use: a missing key is better told to the programmer than to a model.
            key, base_url = credentials(key, base_url)
        fields: dict[str, Any] = {
            "api_key": None if key is None else SecretStr(key),
            "base_url": base_url,
            "avatar": avatar,
            "aspect_ratio": aspect_ratio,
            "room": room,
            "end_on_exit": end_on_exit,
            "on_session": on_session,
            "tools": None if tools is None else names,
            "read_only": read_only,
            "scope": scope,
            "tts": tts,
            "gateway_url": gateway_url,
            "client": client,
            "async_client": async_client,
        }
        super().__init__(**fields)
        self._clients = Clients(key, base_url, client, async_client)
        reach = Reach(self._ledger, scope)
        if tts is not None:
            from agenthuman_plugins.langchain._say import Say  # noqa: PLC0415 - loads the speech links

            self._say = Say(
                tts, reach=reach, ledger=self._ledger, clients=self._clients, gateway_url=gateway_url
            )
        self._end = End(self._clients, self._ledger, reach, self._say)
        create = Create(
            self._clients,
            self._ledger,
            self._end,
            room=room,
            avatar=avatar,
            aspect_ratio=aspect_ratio,
            on_session=on_session,
        )
        read = Read(self._clients, self._ledger, reach)
        build: dict[str, Callable[[], BaseTool]] = {
            _texts.CREATE: create.tool,
            _texts.GET: read.get_tool,
            _texts.LIST: read.list_tool,
            _texts.END: self._end.tool,
        }
        if self._say is not None:
            build[_texts.SAY] = self._say.tool
        # Once for a toolkit: a tool computes its schema once.
        self._tools = [build[name]() for name in names]

    def get_tools(self) -> list[BaseTool]:
        """The tools: create, get, list, end, and say if there is a voice; of these, the selected ones."""
        return list(self._tools)

    @property
    def sessions(self) -> Mapping[str, Session]:
        """Sessions that the tools opened, by id, with the room and, where the service made it, its one token.

        Ended ones are among them (`session.has_ended`), as far as the tools have learnt of it; of these, the last
        1,000. For the application alone: they hold tokens. It is a copy, which does not change.
        """
        entries = reversed(self._ledger.entries())
        return MappingProxyType({entry.session.session_id: entry.session for entry in entries})

    def end_sessions(self, thread_id: str | None) -> None:
        """End the sessions that were opened in one conversation, when that is over.

        Args:
            thread_id: Its `thread_id`; `None` means the calls outside of any.

        Raises:
            AgentHumanError: A session could not be ended; all others were.
        """
        self._end.end_all(self._open(thread_id))

    async def aend_sessions(self, thread_id: str | None) -> None:
        """End the sessions that were opened in one conversation, when that is over; cancelling waits for it.

        Args:
            thread_id: Its `thread_id`; `None` means the calls outside of any.

        Raises:
            AgentHumanError: A session could not be ended; all others were.
        """
        await self._end.aend_all(self._open(thread_id))

    def __enter__(self) -> Self:
        self._ledger.reopen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        left = self._ledger.close() if self.end_on_exit else []
        try:
            if self._say is not None:
                self._say.close()
        finally:
            try:
                with _not_hiding(error):
                    self._end.end_all(_ids(left))
            finally:
                self._clients.settle()
                if not self._ledger.opening:
                    self._clients.close()

    async def __aenter__(self) -> Self:
        self._ledger.reopen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        left = self._ledger.close() if self.end_on_exit else []
        try:
            if self._say is not None:
                await self._say.aclose()
        finally:
            try:
                with _not_hiding(error):
                    await self._end.aend_all(_ids(left))
            finally:
                await self._clients.asettle()
                if not self._ledger.opening:
                    await self._clients.aclose()

    def __copy__(self) -> NoReturn:
        raise TypeError(_NO_COPY)

    def __deepcopy__(self, memo: Any = None) -> NoReturn:
        raise TypeError(_NO_COPY)

    def __getstate__(self) -> NoReturn:
        raise TypeError(_NO_COPY)

    def _open(self, thread_id: str | None) -> list[str]:
        """Sessions of a conversation that run, as far as is known, or that still have a speech link."""
        return _ids(
            entry
            for entry in self._ledger.entries()
            if entry.thread_id == thread_id and (not entry.session.has_ended or self._has_link(entry))
        )

    def _has_link(self, entry: Entry) -> bool:
        return self._say is not None and self._say.has_link(entry.session.session_id)


def _ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.session.session_id for entry in entries]


@contextmanager
def _not_hiding(error: BaseException | None) -> Iterator[None]:
    """Raise what kept sessions from being ended, unless the block itself failed: that must not be hidden."""
    try:
        yield
    except AgentHumanError:
        if error is None:
            raise
