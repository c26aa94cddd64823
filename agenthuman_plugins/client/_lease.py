"""Who ends a session, and when.

A session that was opened with `sessions.open(...)` is ended on every way out of the block: return, exception,
cancellation, KeyboardInterrupt and, if asked for, SIGTERM. Elsewhere it belongs to the caller.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from agenthuman_plugins.client._flow import Creation
from agenthuman_plugins.client._signals import Watch, terminations
from agenthuman_plugins.client.errors import AgentHumanError, NotFoundError
from agenthuman_plugins.client.models import Session

_T = TypeVar("_T")

_log = logging.getLogger("agenthuman_plugins.client")


class Lease:
    """Context manager that creates a session and ends it. One use each.

    Args:
        creation: The create, not yet begun.
        create: Carries it out; cleans up behind itself when interrupted.
        abandon: Ends what it may have opened; raises nothing of its own.
        end: Ends a session.
        handle_signals: Whether SIGTERM leaves the block.
    """

    def __init__(
        self,
        creation: Creation,
        *,
        create: Callable[[Creation], Session],
        abandon: Callable[[Creation], None],
        end: Callable[[str], Session],
        handle_signals: bool,
    ) -> None:
        self._creation = creation
        self._create = create
        self._abandon = abandon
        self._end = end
        self._watch: AbstractContextManager[Any] = (
            Watch(terminations) if handle_signals else contextlib.nullcontext()
        )

    def __enter__(self) -> Session:
        self._watch.__enter__()
        try:
            return self._create(self._creation)
        except BaseException as error:
            # Ctrl-C may come when the create is through, and its session not yet with the caller.
            if self._creation.may_exist and not isinstance(error, AgentHumanError):
                self._abandon(self._creation)
            self._watch.__exit__(*sys.exc_info())
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._end(_session_of(self._creation).session_id)
        except AgentHumanError as failure:
            _report(_session_of(self._creation), failure, error)
        except BaseException:
            # Interrupted: ending comes first all the same. Whoever interrupts once more means it.
            self._abandon(self._creation)
            raise
        finally:
            self._watch.__exit__(kind, error, traceback)


class AsyncLease:
    """Async context manager that creates a session and ends it, also when its task is cancelled. One use each.

    Args:
        creation: The create, not yet begun.
        create: Carries it out; cleans up behind itself when cancelled.
        end: Ends a session.
        handle_signals: Whether SIGTERM cancels the block.
    """

    def __init__(
        self,
        creation: Creation,
        *,
        create: Callable[[Creation], Coroutine[Any, Any, Session]],
        end: Callable[[str], Coroutine[Any, Any, Session]],
        handle_signals: bool,
    ) -> None:
        self._creation = creation
        self._create = create
        self._end = end
        self._handle_signals = handle_signals
        self._watch: AbstractContextManager[Any] = contextlib.nullcontext()

    async def __aenter__(self) -> Session:
        if self._handle_signals:
            self._watch = Watch(terminations, asyncio.current_task())
        self._watch.__enter__()
        try:
            return await self._create(self._creation)
        except BaseException:
            self._watch.__exit__(*sys.exc_info())
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session = _session_of(self._creation)
        try:
            await to_the_end(lambda: self._end(session.session_id))
        except AgentHumanError as failure:
            _report(session, failure, error)
        finally:
            self._watch.__exit__(kind, error, traceback)


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


def _session_of(creation: Creation) -> Session:
    assert creation.session is not None  # noqa: S101 - the block was entered
    return creation.session


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
