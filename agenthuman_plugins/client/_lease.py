"""Who ends a session, and when.

A session that was opened with `sessions.open(...)` is ended on every way out of the block: return, exception,
cancellation, KeyboardInterrupt. Elsewhere it belongs to the caller.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from agenthuman_plugins.client.errors import AgentHumanError, NotFoundError
from agenthuman_plugins.client.models import Session

_T = TypeVar("_T")

_log = logging.getLogger("agenthuman_plugins.client")


class Lease:
    """Context manager that creates a session and ends it."""

    def __init__(self, create: Callable[[], Session], end: Callable[[str], Session]) -> None:
        self._create = create
        self._end = end
        self._session: Session | None = None

    def __enter__(self) -> Session:
        self._session = self._create()
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            self._end(session.session_id)
        except AgentHumanError as failure:
            _report(session, failure, error)


class AsyncLease:
    """Async context manager that creates a session and ends it, also when its task is cancelled."""

    def __init__(
        self,
        create: Callable[[], Coroutine[Any, Any, Session]],
        end: Callable[[str], Coroutine[Any, Any, Session]],
    ) -> None:
        self._create = create
        self._end = end
        self._session: Session | None = None

    async def __aenter__(self) -> Session:
        self._session = await self._create()
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            await to_the_end(lambda: self._end(session.session_id))
        except AgentHumanError as failure:
            _report(session, failure, error)


async def to_the_end(make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Await a coroutine even while the caller is being cancelled; the cancellation is passed on afterwards.

    The coroutine must be harmless when run twice, and must have a time limit of its own.

    Args:
        make: Makes the coroutine; called again if the loop's shutdown cancelled the first one itself.
    """
    cancelled: asyncio.CancelledError | None = None
    restarted = False
    task = asyncio.ensure_future(make())
    while True:
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
            if not task.cancelled():
                continue
            # asyncio.run() cancels every task that is left, ours too, but once; a new one is not among them.
            if restarted:
                raise
            restarted, task = True, asyncio.ensure_future(make())
        except Exception as error:
            if cancelled is None:
                raise
            _log.error("Cleaning up after a cancellation failed: %s", error)
            raise cancelled from None
        else:
            if cancelled is not None:
                raise cancelled
            return result


def _report(session: Session, failure: AgentHumanError, error: BaseException | None) -> None:
    """Raise what kept a session from being ended, unless the block itself failed: that must not be hidden."""
    if isinstance(failure, NotFoundError):
        return  # nothing left to end
    if error is None:
        raise failure
    _log.error(
        "Session %s could not be ended and is billed until the service ends it: %s",
        session.session_id,
        failure,
    )
