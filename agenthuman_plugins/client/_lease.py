"""Who ends a session, and when.

A session that was opened with `sessions.open(...)` is ended however its block is left: by return, exception,
cancellation, KeyboardInterrupt and, if asked for, SIGTERM. Elsewhere it belongs to the caller.

A child that was forked inside the block leaves the session to its parent, as long as that lives and may use it.
"""

import asyncio
import contextlib
import logging
import os
import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from agenthuman_plugins.client._background import to_the_end
from agenthuman_plugins.client._driver import AsyncDriver, Driver
from agenthuman_plugins.client._opening import Opening
from agenthuman_plugins.client._signals import Watch, terminations
from agenthuman_plugins.client.errors import AgentHumanError, ConfigurationError
from agenthuman_plugins.client.models import Session

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
        self._opened_by = os.getpid()
        self._watch: AbstractContextManager[Any] = (
            Watch(terminations) if handle_signals else contextlib.nullcontext()
        )

    def __enter__(self) -> Session:
        self._entered, self._opened_by = _once(self._entered), os.getpid()
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
        if self._opened_by == os.getppid():
            return
        try:
            flows = self._driver.flows
            self._driver.run(flows.end_if_there(_session_of(self._opening), flows.deadline(None)))
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
        self._opened_by = os.getpid()
        self._handle_signals = handle_signals
        self._watch: AbstractContextManager[Any] = contextlib.nullcontext()

    async def __aenter__(self) -> Session:
        self._entered, self._opened_by = _once(self._entered), os.getpid()
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
        if self._opened_by == os.getppid():
            return
        session, flows = _session_of(self._opening), self._driver.flows
        try:
            await to_the_end(lambda: self._driver.run(flows.end_if_there(session, flows.deadline(None))))
        except Exception as failure:  # noqa: BLE001 - whatever it is, the block's own error comes first
            _report(session, failure, error)
        finally:
            self._watch.__exit__(kind, error, traceback)


def _once(entered: bool) -> bool:
    if entered:
        raise ConfigurationError("sessions.open(...) serves one block; call it again for another session.")
    return True


def _session_of(opening: Opening[Session]) -> Session:
    assert opening.opened is not None  # noqa: S101 - the block was entered
    return opening.opened


def _report(session: Session, failure: Exception, error: BaseException | None) -> None:
    """Raise what kept a session from being ended, unless the block itself failed: that must not be hidden."""
    left = f"Session {session.session_id} could not be ended and is billed until the service ends it"
    if error is None:
        failure.add_note(f"{left}.")
        raise failure
    _log.error("%s: %s", left, failure)
