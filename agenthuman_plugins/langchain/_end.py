"""How sessions are ended: one by the tool, or all that are left when a block or a conversation is over."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from langchain_core.tools import BaseTool, ToolException

from agenthuman_plugins.client import AgentHumanError, NotFoundError, Session
from agenthuman_plugins.client.adapters import to_the_end
from agenthuman_plugins.langchain import _schemas, _texts
from agenthuman_plugins.langchain._clients import Clients
from agenthuman_plugins.langchain._ledger import Ledger
from agenthuman_plugins.langchain._reach import Reach
from agenthuman_plugins.langchain._structured import Result, Runtime, structured, told

_log = logging.getLogger("agenthuman_plugins.langchain")


class SpeechLinks(Protocol):
    """Connections over which the say tool speaks. They go before their session does; closing never fails."""

    def hang_up(self, session_id: str) -> None:
        """Close the connection of one session, if there is one."""

    async def ahang_up(self, session_id: str) -> None:
        """Close the connection of one session, if there is one."""


class End:
    """Ends sessions.

    Args:
        clients: Where the clients come from.
        ledger: Where the sessions are kept.
        reach: Which of them a call may end.
        links: Connections to close before; `None` if nothing speaks.
    """

    def __init__(self, clients: Clients, ledger: Ledger, reach: Reach, links: SpeechLinks | None) -> None:
        self._clients = clients
        self._ledger = ledger
        self._reach = reach
        self._links = links

    def tool(self) -> BaseTool:
        """Make the tool."""
        return structured(
            _texts.END,
            "End a video session, and with it its billing. Harmless when repeated.",
            _schemas.SessionArgs,
            self.end,
            self.aend,
        )

    def end(self, session_id: str, runtime: Runtime = None) -> Result:
        """End a session that this call may name."""
        allowed = self._reach.allowed(session_id, runtime)
        with told():
            return _ended(self._end(allowed, surely=True))

    async def aend(self, session_id: str, runtime: Runtime = None) -> Result:
        """End a session that this call may name."""
        allowed = self._reach.allowed(session_id, runtime)
        with told():
            return _ended(await self._aend(allowed, surely=True))

    def end_all(self, session_ids: Iterable[str]) -> None:
        """End sessions; one that cannot be ended does not keep the others from it, nor does Ctrl-C.

        Raises:
            AgentHumanError: Of the first session that could not be ended.
        """
        left = deque(session_ids)
        failures: list[Exception] = []
        interrupted: BaseException | None = None
        while left:
            try:
                with suppress(NotFoundError):  # then nothing is left to end
                    self._end(left[0])
            except Exception as failure:  # noqa: BLE001 - raised when the others are ended
                _note(left[0], failure)
                failures.append(failure)
            except BaseException as error:
                # Ending comes first all the same, this one too. Whoever interrupts once more means it.
                if interrupted is not None:
                    raise
                interrupted = error
                continue
            left.popleft()
        if interrupted is not None:
            raise interrupted
        if failures:
            raise failures[0]

    async def aend_all(self, session_ids: Iterable[str]) -> None:
        """End sessions, also while being cancelled; one that cannot be ended does not keep the others from it.

        Raises:
            AgentHumanError: Of the first session that could not be ended.
        """
        left = list(session_ids)

        async def end(session_id: str) -> None:
            try:
                with suppress(NotFoundError):  # then nothing is left to end
                    await self._aend(session_id)
            except Exception as failure:
                _note(session_id, failure)
                raise

        async def end_each() -> list[BaseException | None]:
            return await asyncio.gather(*map(end, left), return_exceptions=True)

        for failure in await to_the_end(end_each):
            if failure is not None:
                raise failure

    def _end(self, session_id: str, *, surely: bool = False) -> Session:
        """End a session; `surely` asks again if the answer was a success, but said nothing of the session."""
        try:
            if self._links is not None:
                self._links.hang_up(session_id)
        finally:  # whatever becomes of its link, the session is billed until it ends
            with self._noting(session_id):
                client = self._clients.sync_client()
                session = client.sessions.end(session_id)
                if surely and session.ended_at is None:
                    session = _checked(client.sessions.get(session_id))
            self._ledger.mark_ended(session_id, session)
        return session

    async def _aend(self, session_id: str, *, surely: bool = False) -> Session:
        """End a session; `surely` asks again if the answer was a success, but said nothing of the session."""
        try:
            if self._links is not None:
                await self._links.ahang_up(session_id)
        finally:
            with self._noting(session_id):
                client = self._clients.async_client()
                session = await client.sessions.end(session_id)
                if surely and session.ended_at is None:
                    session = _checked(await client.sessions.get(session_id))
            self._ledger.mark_ended(session_id, session)
        return session

    @contextmanager
    def _noting(self, session_id: str) -> Iterator[None]:
        try:
            yield
        except NotFoundError:
            self._ledger.mark_ended(session_id)
            raise


def _checked(session: Session) -> Session:
    """A page of a proxy is a success, too, and ends nothing."""
    if not session.has_ended:
        raise ToolException(_texts.still_running(session))
    return session


def _ended(session: Session) -> Result:
    return _texts.ended(session), _texts.artifact(session)


def _note(session_id: str, failure: Exception) -> None:
    # Our own errors are free of secrets; of a defect, nobody knows.
    why = str(failure) if isinstance(failure, AgentHumanError) else type(failure).__name__
    _log.error("Session %s could not be ended, the service will do it later: %s", session_id, why)
