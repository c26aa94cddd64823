"""Who ends a session, and when.

A session that was opened with `sessions.open(...)` is ended however its block is left: by return, exception,
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

from agenthuman_plugins.client._background import hidden_task
from agenthuman_plugins.client._calls.sessions import end_session
from agenthuman_plugins.client._driver import AsyncDriver, Driver
from agenthuman_plugins.client._opening import Opening
from agenthuman_plugins.client._signals import Watch, terminations
from agenthuman_plugins.client.errors import AgentHumanError, ConfigurationError, NotFoundError
from agenthuman_plugins.client.models import Session

_T = TypeVar("_T")

_log = logging.getLogger("agenthuman_plugins.client")


class Lease:
    """Context manager that opens a session and ends it, for one block.

    Args:
        driver: Carries both out.
        opening: The create, not yet begun.
        handle_signals: Whether SIGTERM leaves the block.
    """

    def __init__(self, driver: Driver, opening: Opening[Session], *, handle_signals: bool) -> None:
        self._driver = driver
        self._opening = opening
        self._entered = False
        self._watch: AbstractContextManager[Any] = (
            Watch(terminations) if handle_signals else contextlib.nullcontext()
        )

    def __enter__(self) -> Session:
        self._entered = _once(self._entered)
        self._watch.__enter__()
        try:
            return self._driver.open(self._opening)
        except BaseException as error:
            # Ctrl-C may come when the create is through, and its session not yet with the caller.
            if not isinstance(error, AgentHumanError):
                self._driver.abandon(self._opening)
            self._watch.__exit__(*sys.exc_info())
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            session_id = _session_of(self._opening).session_id
            self._driver.run(self._driver.flows.call(end_session(session_id)))
        except Exception as failure:  # noqa: BLE001 - whatever it is, the block's own error comes first
            _report(_session_of(self._opening), failure, error)
        except BaseException:
            # Interrupted: it is ended all the same, in the background.
            self._driver.abandon(self._opening)
            raise
        finally:
            self._watch.__exit__(kind, error, traceback)


class AsyncLease:
    """Async context manager that opens a session and ends it, also when its task is cancelled, for one block.

    Args:
        driver: Carries both out.
        opening: The create, not yet begun.
        handle_signals: Whether SIGTERM cancels the block.
    """

    def __init__(self, driver: AsyncDriver, opening: Opening[Session], *, handle_signals: bool) -> None:
        self._driver = driver
        self._opening = opening
        self._entered = False
        self._handle_signals = handle_signals
        self._watch: AbstractContextManager[Any] = contextlib.nullcontext()

    async def __aenter__(self) -> Session:
        self._entered = _once(self._entered)
        if self._handle_signals:
            self._watch = Watch(terminations, asyncio.current_task())
        self._watch.__enter__()
        try:
            return await self._driver.open(self._opening)
        except BaseException:
            self._watch.__exit__(*sys.exc_info())
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session = _session_of(self._opening)
        try:
            await to_the_end(
                lambda: self._driver.run(self._driver.flows.call(end_session(session.session_id)))
            )
        except Exception as failure:  # noqa: BLE001 - whatever it is, the block's own error comes first
            _report(session, failure, error)
        finally:
            self._watch.__exit__(kind, error, traceback)


async def to_the_end(make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Await a coroutine even while the caller is being cancelled; the cancellation is passed on afterwards.

    Args:
        make: Makes the coroutine, which must have a time limit of its own. The end of the loop waits for it, too.
    """
    cancelled: asyncio.CancelledError | None = None
    task = hidden_task(make(), "agenthuman to the end")
    while True:
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception as error:
            if cancelled is None:
                raise
            _log.error("Cleaning up after a cancellation failed: %s", error)
            raise cancelled from None
        else:
            if cancelled is not None:
                raise cancelled
            return result


def _once(entered: bool) -> bool:
    if entered:
        raise ConfigurationError("sessions.open(...) serves one block; call it again for another session.")
    return True


def _session_of(opening: Opening[Session]) -> Session:
    assert opening.opened is not None  # noqa: S101 - the block was entered
    return opening.opened


def _report(session: Session, failure: Exception, error: BaseException | None) -> None:
    """Raise what kept a session from being ended, unless the block itself failed: that must not be hidden."""
    if isinstance(failure, NotFoundError):
        return  # nothing left to end
    left = f"Session {session.session_id} could not be ended and is billed until the service ends it"
    if error is None:
        failure.add_note(f"{left}.")
        raise failure
    _log.error("%s: %s", left, failure)
