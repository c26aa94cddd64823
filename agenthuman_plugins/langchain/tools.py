"""The tools: what each does with the sessions of a toolkit, and how it is built for LangChain."""

import uuid
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel

from agenthuman_plugins.client import APIResponseError, ConfigurationError
from agenthuman_plugins.client.rooms import AspectRatio, Room
from agenthuman_plugins.langchain import _schemas, _texts
from agenthuman_plugins.langchain._calls import Order
from agenthuman_plugins.langchain._drivers import Clients, Driver, finish
from agenthuman_plugins.langchain._ledger import Entry, Ledger
from agenthuman_plugins.langchain._limits import Limits
from agenthuman_plugins.langchain._loop import LoopClosedError
from agenthuman_plugins.langchain._origin import Origin, calling
from agenthuman_plugins.langchain._schemas import Runtime
from agenthuman_plugins.langchain._sessions import Sessions

if TYPE_CHECKING:  # it loads the speech links
    from agenthuman_plugins.langchain._speech import Speech, Wire
    from agenthuman_plugins.speech.link import SpeechLink

Result: TypeAlias = tuple[str, dict[str, Any]]
Operation: TypeAlias = Callable[..., Awaitable[Result]]

#: In the order in which an agent uses them; the last two are offered only where `tools=[...]` names them.
NAMES = (_texts.CREATE, _texts.GET, _texts.LIST, _texts.END, _texts.SAY, _texts.AVATARS, _texts.USAGE)
USUAL = NAMES[:5]

_SAYING_LIMIT_S = 600.0  # for the same call in another thread or task


class Tools:
    """Builds the tools of a toolkit.

    Args:
        clients: Where the clients come from.
        sessions: What the tools work on.
        ledger: Where the sessions are kept.
        limits: Told when a session is used.
        speech: What speaks; `None` without a voice.
        gateway_url: Address of the speech gateway; `None` takes the default.
        offered: Names of the tools that the model has.

    Attributes:
        make_link: Makes the speech link of a session in a room; another one in tests.
    """

    def __init__(
        self,
        clients: Clients,
        sessions: Sessions,
        ledger: Ledger,
        limits: Limits,
        speech: "Speech | None",
        gateway_url: str | None,
        offered: Collection[str],
    ) -> None:
        self._clients = clients
        self._sessions = sessions
        self._ledger = ledger
        self._limits = limits
        self._speech = speech
        self._gateway_url = gateway_url
        self._offered = offered
        self._order = Order()
        self.make_link: Callable[[Entry, Room | None], SpeechLink] = self._link

    def build(self, name: str) -> BaseTool:
        """Make one tool."""
        operations: dict[str, tuple[type[BaseModel], Operation]] = {
            _texts.CREATE: (_schemas.CreateArgs, self._create),
            _texts.GET: (_schemas.SessionArgs, self._get),
            _texts.LIST: (_schemas.ListArgs, self._list),
            _texts.END: (_schemas.SessionArgs, self._end),
            _texts.SAY: (_schemas.SayArgs, self._say),
            _texts.AVATARS: (_schemas.NoArgs, self._avatars),
            _texts.USAGE: (_schemas.NoArgs, self._usage),
        }
        schema, operation = operations[name]

        def func(*bare: str, runtime: Runtime = None, **arguments: Any) -> Result:
            arguments |= _schemas.named(schema, bare)
            origin, drive = Origin.of(runtime), self._clients.sync_driver()
            return finish(self._with_news(operation(drive, origin, **arguments), origin))

        async def coroutine(*bare: str, runtime: Runtime = None, **arguments: Any) -> Result:
            arguments |= _schemas.named(schema, bare)
            origin, drive = Origin.of(runtime), self._clients.async_driver()
            return await self._with_news(operation(drive, origin, **arguments), origin)

        return _Tool.from_function(
            func=func,
            coroutine=coroutine,
            name=name,
            description=_texts.description(name, self._offered),
            args_schema=schema,
            infer_schema=False,
            response_format="content_and_artifact",
            handle_tool_error=_texts.on_tool_error,
            handle_validation_error=partial(_schemas.explain, schema),
        )

    async def _with_news(self, result: Awaitable[Result], origin: Origin) -> Result:
        """Tell the model, with the next result, of sessions that the toolkit has ended by itself."""
        try:
            content, artifact = await result
        except ToolException as error:
            if news := self._sessions.news(origin):
                raise ToolException(_texts.with_news(str(error), news)) from error.__cause__
            raise
        return _texts.with_news(content, self._sessions.news(origin)), artifact

    # --- what each does

    async def _create(
        self,
        drive: Driver,
        origin: Origin,
        avatar: str | None = None,
        aspect_ratio: AspectRatio | None = None,
    ) -> Result:
        entry, before = await self._sessions.open(drive, origin, avatar, aspect_ratio)
        if (self._ledger.get(entry.session_id) or entry).has_ended:  # `on_session` may do that
            raise ToolException(_texts.ended_again(entry.session_id))
        if self._speech is not None and not before and self._sessions.may_move(entry):
            # So that this process learns of it when another worker speaks, and does not end the session any more.
            self._speech.connect(self._wire(entry, entry.room))
        said = _texts.opened_before(entry.session) if before else _texts.opened(entry.session, self._offered)
        return said, _texts.artifact(entry.session)

    async def _get(self, drive: Driver, origin: Origin, session_id: str) -> Result:
        with self._limits.used(session_id):
            session = await self._sessions.look(drive, origin, session_id)
        return _texts.state(session, self._offered), _texts.artifact(session)

    async def _list(self, drive: Driver, origin: Origin, status: _schemas.Status = "started") -> Result:
        sessions, unread = await self._sessions.listed(drive, origin, status)
        told = _texts.listed(sessions, status, self._sessions.whose(origin), unread)
        return told, _texts.list_artifact(sessions)

    async def _end(self, drive: Driver, origin: Origin, session_id: str) -> Result:
        with self._limits.used(session_id):
            await self._order.wait(drive, origin, session_id, origin.before(_texts.SAY, session_id))
            await self._sessions.named(drive, origin, session_id)
            if self._speech is not None:
                await drive.finish_speaking(self._speech, session_id)
            with self._sessions.told(origin):
                session = await self._sessions.end(drive, session_id)
        return _texts.ended(session), _texts.artifact(session)

    async def _say(self, drive: Driver, origin: Origin, session_id: str, text: str) -> Result:
        if origin.before(_texts.END, session_id):
            raise ToolException(_texts.ended_by_this_message(session_id))
        # With what is said: in a node that asks its model more than once, calls may have one id.
        key, says = f"{origin.key or uuid.uuid4().hex} {session_id} {text}", self._ledger.says
        with self._order.carried_out(origin, session_id):
            while (said := says.claim(key)) is not None:
                if not isinstance(said, Future):
                    return said
                if not await drive.wait(said, _SAYING_LIMIT_S):
                    raise ToolException(_texts.IN_PROGRESS)
            try:
                with self._limits.used(session_id):
                    result = await self._speak(drive, origin, session_id, text)
            except BaseException:
                says.failed(key)
                raise
            says.done(key, result)
        return result

    async def _avatars(self, drive: Driver, origin: Origin) -> Result:
        with self._sessions.told(origin):
            avatars = (await drive.done(drive.client.avatars.list())).all
        return _texts.avatars(avatars), _texts.avatars_artifact(avatars)

    async def _usage(self, drive: Driver, origin: Origin) -> Result:
        with self._sessions.told(origin):
            usage = await drive.done(drive.client.usage.get())
        return _texts.usage(usage), _texts.usage_artifact(usage)

    # --- speaking

    async def _speak(self, drive: Driver, origin: Origin, session_id: str, text: str) -> Result:
        from agenthuman_plugins.langchain._speech import SayError  # noqa: PLC0415 - loads the speech links

        speech = self._speech
        assert speech is not None  # noqa: S101 - the tool is offered with a voice only
        entry, fresh = await self._sessions.named(drive, origin, session_id)
        if (
            not entry.has_ended
            and not fresh
            and (not speech.has_link(session_id) or speech.in_doubt(session_id))
        ):
            # It may have ended elsewhere; to wait for its avatar would take long.
            session = await self._sessions.look(drive, origin, session_id)
            if session.has_ended:
                await drive.hang_up(speech, session_id)
                entry = self._ledger.get(session_id) or entry
        if entry.has_ended:
            raise ToolException(_texts.has_ended(session_id, self._offered))
        room = await self._sessions.room_of(drive, entry, origin)
        self._sessions.spoke(entry)
        try:
            with self._sessions.told(origin):
                spoken = await drive.speak(speech, self._wire(entry, room), text)
        except SayError as error:
            raise ToolException(str(error)) from None
        except LoopClosedError:
            raise ToolException(_texts.NOT_SPOKEN) from None
        return _texts.spoken(session_id, spoken)

    def _wire(self, entry: Entry, room: Room | None) -> "Wire":
        from agenthuman_plugins.langchain._speech import Wire  # noqa: PLC0415 - loads the speech links
        from agenthuman_plugins.speech.of_session import is_over_gateway  # noqa: PLC0415 - the same

        over_gateway = is_over_gateway(entry.session, room)
        return Wire(
            entry.session_id,
            lambda: self.make_link(entry, room),
            one_link=over_gateway,
            advice=_texts.after_a_loss(self._offered, one_link=over_gateway),
        )

    def _link(self, entry: Entry, room: Room | None) -> "SpeechLink":
        from agenthuman_plugins.langchain._speech import SayError  # noqa: PLC0415 - loads the speech links
        from agenthuman_plugins.speech.of_session import speech_link  # noqa: PLC0415 - called on a thread

        try:
            return speech_link(entry.session, room=room, gateway_url=self._gateway_url, media=False)
        except APIResponseError:  # the answer to its create was lost, or went to another process
            raise SayError(_texts.only_where_it_was_opened(entry.session_id, self._offered)) from None


class _Tool(StructuredTool):
    """A tool that knows the id of its call, which LangChain tells `run` alone."""

    def run(self, *args: Any, tool_call_id: str | None = None, **kwargs: Any) -> Any:
        """Run the tool."""
        with calling(tool_call_id):
            return super().run(*args, tool_call_id=tool_call_id, **kwargs)

    async def arun(self, *args: Any, tool_call_id: str | None = None, **kwargs: Any) -> Any:
        """Run the tool."""
        with calling(tool_call_id):
            return await super().arun(*args, tool_call_id=tool_call_id, **kwargs)


def selected(wanted: object, *, scope: str, namespace: str | None, has_voice: bool) -> tuple[str, ...]:
    """Names of the tools that a toolkit offers, in the order in which an agent uses them.

    Raises:
        ConfigurationError: A name is unknown, or the settings contradict each other.
    """
    if scope not in {"agent", "thread", "account"}:
        raise ConfigurationError(f"scope must be 'agent', 'thread' or 'account', not {scope!r}.")
    offered = tuple(name for name in NAMES if has_voice or name != _texts.SAY)
    if wanted is None:
        return tuple(name for name in offered if name in USUAL)
    if isinstance(wanted, str) or not isinstance(wanted, list | tuple | set | frozenset) or not wanted:
        raise ConfigurationError(
            f"tools must be a list of names, at least one of {', '.join(offered)}; None offers the usual ones."
        )
    for name in wanted:
        if name == _texts.SAY and not has_voice:
            raise ConfigurationError(f"{_texts.SAY} needs a voice: pass tts, too.")
        if name not in offered:
            raise ConfigurationError(f"There is no tool {name!r}. There are: {', '.join(offered)}.")
    names = tuple(name for name in offered if name in wanted)
    if has_voice and _texts.SAY not in names:
        raise ConfigurationError(f"There is a tts, but {_texts.SAY} is not among the tools: leave one out.")
    sees_none = _texts.CREATE not in names and scope != "account" and namespace is None
    if sees_none and set(names) - {_texts.AVATARS, _texts.USAGE}:
        raise ConfigurationError(
            f"Without {_texts.CREATE} this toolkit opens no session, so its tools would see none: offer that, too, or "
            "pass namespace= (the sessions that other workers opened) or scope='account'."
        )
    return names
