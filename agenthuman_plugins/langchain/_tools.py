"""The tools, each sync and async on the client of its kind.

The room and every credential come from the application. What the model passes is traced by LangChain, so no
secret may be an argument, a result or an artifact.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol, TypeAlias

from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, ToolException
from pydantic import BaseModel, Field

from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    AsyncAgentHuman,
    ConfigurationError,
    Session,
)
from agenthuman_plugins.client._lease import to_the_end
from agenthuman_plugins.client._owner import CLIENT_OWNER
from agenthuman_plugins.client.models import CLIENT_REF
from agenthuman_plugins.client.rooms import AspectRatio, Room
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._ledger import CreateInProgressError, Ledger, LedgerClosedError, Origin

RoomProvider: TypeAlias = Callable[[], Room | Awaitable[Room | None] | None]

_AVATAR_LIMIT = 2_000  # characters; a picture as base64 would fill context and trace
_METADATA_LIMIT = 1_000  # characters in all
_Result: TypeAlias = tuple[str, dict[str, Any]]

# An agent's tool node injects its runtime into any argument of this name; a plain call leaves it None. Declared as
# a bare object, it needs no langgraph. Locked by test_runtime_is_injected_and_hidden.
Runtime: TypeAlias = Annotated[object | None, InjectedToolArg()]


class CreateArgs(BaseModel):
    """Arguments of the create tool."""

    avatar: str | None = Field(
        default=None, description="Avatar id or https image URL. Omit for the default avatar."
    )
    aspect_ratio: AspectRatio | None = Field(
        default=None, description="Shape of the picture. Omit for the default."
    )
    metadata: dict[str, str] | None = Field(default=None, description="Short notes to keep with the session.")
    runtime: Runtime = None


class EndArgs(BaseModel):
    """Arguments of the end tool."""

    session_id: str = Field(description=f"Id that {_texts.CREATE} returned (sess_...).")
    runtime: Runtime = None


class Clients(Protocol):
    """Where the tools get their clients, made at first use."""

    def sync_client(self) -> AgentHuman:
        """The client of sync calls."""

    def async_client(self) -> AsyncAgentHuman:
        """The client of async calls on the running loop."""


class SessionTools:
    """What the tools do.

    Args:
        clients: Where the clients come from.
        ledger: The sessions that were opened.
        room: Room of every session, or what makes one for each.
        avatar: Avatar when the model names none.
        aspect_ratio: Ratio when the model names none.
    """

    def __init__(
        self,
        clients: Clients,
        ledger: Ledger,
        *,
        room: Room | RoomProvider | None,
        avatar: str | None,
        aspect_ratio: AspectRatio,
    ) -> None:
        self._clients = clients
        self._ledger = ledger
        self._room = room
        self._avatar = avatar
        self._aspect_ratio = aspect_ratio

    def build(self) -> list[BaseTool]:
        """Make the tools."""
        return [
            _tool(
                _texts.CREATE,
                "Open a live video session with a talking avatar. It is billed by the minute until it is ended with "
                f"{_texts.END}, so open one only when it is needed.",
                CreateArgs,
                self.create,
                self.acreate,
            ),
            _tool(
                _texts.END,
                "End a video session, and with it its billing. Harmless when repeated.",
                EndArgs,
                self.end,
                self.aend,
            ),
        ]

    def create(
        self,
        avatar: str | None = None,
        aspect_ratio: AspectRatio | None = None,
        metadata: dict[str, str] | None = None,
        runtime: Runtime = None,
    ) -> _Result:
        """Open a session, or return the one that the same call opened before."""
        wanted = self._wanted(avatar, aspect_ratio, metadata)
        origin = Origin.of(runtime)
        key = origin.create_key()
        client = self._clients.sync_client()
        earlier = self._claim(key, origin)
        if earlier is not None:
            with _told():
                return _opened_before(client.sessions.get(earlier.session_id))
        try:
            room = self._make_room()  # its errors are the application's, not the model's
            with _told():
                session = client.sessions.create(**_with_ref(wanted, key), room=room)
        except BaseException:
            self._ledger.release(key)
            raise
        if not self._ledger.add(key, session):
            with _told():
                client.sessions.end(session.session_id)
            raise _closed(session)
        return _texts.opened(session), _texts.artifact(session)

    async def acreate(
        self,
        avatar: str | None = None,
        aspect_ratio: AspectRatio | None = None,
        metadata: dict[str, str] | None = None,
        runtime: Runtime = None,
    ) -> _Result:
        """Open a session, or return the one that the same call opened before."""
        wanted = self._wanted(avatar, aspect_ratio, metadata)
        origin = Origin.of(runtime)
        key = origin.create_key()
        client = self._clients.async_client()
        earlier = self._claim(key, origin)
        if earlier is not None:
            with _told():
                return _opened_before(await client.sessions.get(earlier.session_id))
        try:
            room = await self._amake_room()  # its errors are the application's, not the model's
            with _told():
                session = await client.sessions.create(**_with_ref(wanted, key), room=room)
        except BaseException:
            self._ledger.release(key)
            raise
        if not self._ledger.add(key, session):
            with _told():
                await to_the_end(lambda: client.sessions.end(session.session_id))
            raise _closed(session)
        return _texts.opened(session), _texts.artifact(session)

    def end(self, session_id: str, runtime: Runtime = None) -> _Result:
        """End a session of this conversation."""
        session = self._own(session_id, runtime)
        with _told():
            return self._ended(self._clients.sync_client().sessions.end(session.session_id))

    async def aend(self, session_id: str, runtime: Runtime = None) -> _Result:
        """End a session of this conversation."""
        session = self._own(session_id, runtime)
        with _told():
            return self._ended(await self._clients.async_client().sessions.end(session.session_id))

    def _wanted(
        self, avatar: str | None, aspect_ratio: AspectRatio | None, metadata: dict[str, str] | None
    ) -> dict[str, Any]:
        return {
            "avatar": self._avatar if avatar is None else _checked_avatar(avatar),
            "aspect_ratio": aspect_ratio or self._aspect_ratio,
            "metadata": _checked_metadata(metadata or {}),
        }

    def _claim(self, key: str, origin: Origin) -> Session | None:
        try:
            return self._ledger.claim(key, origin)
        except CreateInProgressError:
            raise ToolException(
                "This very call is already opening its session. Do not retry; wait for it."
            ) from None
        except LedgerClosedError:
            raise ToolException("The run is over, so no session was opened. Do not retry.") from None

    def _own(self, session_id: str, runtime: object | None) -> Session:
        origin = Origin.of(runtime)
        session = self._ledger.find(session_id, origin)
        if session is None:
            raise ToolException(_texts.not_opened_here(session_id, list(self._ledger.running(origin))))
        return session

    def _ended(self, session: Session) -> _Result:
        self._ledger.mark_ended(session.session_id)
        return _texts.ended(session), _texts.artifact(session)

    def _make_room(self) -> Room | None:
        room = self._room() if callable(self._room) else self._room
        if inspect.isawaitable(room):
            if inspect.iscoroutine(room):
                room.close()
            raise ConfigurationError("The room provider is async, but the tool was called sync: use ainvoke.")
        return room

    async def _amake_room(self) -> Room | None:
        if not callable(self._room):
            return self._room
        # A plain function may block, for one to ask a server for a token.
        call: Callable[[], Any] = self._room
        made = call() if inspect.iscoroutinefunction(call) else await asyncio.to_thread(call)
        room: Room | None = await made if inspect.isawaitable(made) else made
        return room


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error of the service into one that the model is told; anything else is a defect and passes."""
    try:
        yield
    except AgentHumanError as error:
        raise ToolException(_texts.failure(error)) from error


def _tool(
    name: str,
    description: str,
    args_schema: type[BaseModel],
    func: Callable[..., _Result],
    coroutine: Callable[..., Awaitable[_Result]],
) -> BaseTool:
    return StructuredTool.from_function(
        func=func,
        coroutine=coroutine,
        name=name,
        description=description,
        args_schema=args_schema,
        infer_schema=False,
        response_format="content_and_artifact",
        handle_tool_error=_texts.on_tool_error,
        handle_validation_error=_texts.on_invalid_arguments,
    )


def _checked_avatar(avatar: str) -> str:
    if len(avatar) > _AVATAR_LIMIT or avatar.lstrip()[:5].lower() == "data:":
        raise ToolException(
            "avatar must be a short avatar id or https URL, not a picture. Change it and try again."
        )
    if "://" in avatar and not avatar.lower().startswith("https://"):
        raise ToolException("avatar is a URL, but not an https one. Use an avatar id or an https URL.")
    return avatar


def _checked_metadata(metadata: dict[str, str]) -> dict[str, str]:
    if sum(len(key) + len(value) for key, value in metadata.items()) > _METADATA_LIMIT:
        raise ToolException(f"metadata is too long: at most {_METADATA_LIMIT} characters in all. Shorten it.")
    if reserved := {CLIENT_REF, CLIENT_OWNER} & metadata.keys():
        raise ToolException(f"metadata must not hold {min(reserved)!r}, which is reserved. Leave it out.")
    return metadata


def _with_ref(wanted: dict[str, Any], key: str) -> dict[str, Any]:
    return {**wanted, "metadata": {**wanted["metadata"], CLIENT_REF: key}}


def _opened_before(session: Session) -> _Result:
    return _texts.opened_before(session), _texts.artifact(session)


def _closed(session: Session) -> ToolException:
    return ToolException(
        f"The run was over before session {session.session_id} had opened, so it was ended at once. Do not retry."
    )
