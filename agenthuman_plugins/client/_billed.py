"""A billed request on its way, and what makes the end of a loop wait for it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from agenthuman_plugins.client._answers import Outcome
from agenthuman_plugins.client._background import Work, hidden_task, see_through
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._http import Gate
from agenthuman_plugins.client._opening import Opening, log_left

# Calls whose loop may be closed before they are settled: then only the end of the program can name them.
unsettled: set[Opening[Any]] = set()


@dataclass(slots=True)
class Calls:
    """The billed calls of a client and all its views.

    Attributes:
        under_way: Those whose caller waits, with that caller's thread and what is set when it has its answer.
        given_up: Those whose caller has gone, with what cleans up behind them.
    """

    under_way: dict[Opening[Any], tuple[int, threading.Event]] = field(default_factory=dict)
    given_up: dict[Opening[Any], Work[None]] = field(default_factory=dict)


class Wire:
    """A billed request on its way, on a thread."""

    def __init__(self, settings: Settings, send: Callable[[Gate], Outcome]) -> None:
        self._gate = Gate()
        self.work = Work(settings, lambda: send(self._gate), "agenthuman billed request")

    def leave(self) -> bool:
        """Nobody waits for it any more; return whether it surely has not left and never will."""
        return self.work.cancel() or self._gate.close()


class AsyncWire:
    """A billed request on its way, in a task of its own."""

    def __init__(self, send: Callable[[Gate], Coroutine[Any, Any, Outcome]]) -> None:
        self._gate = Gate()
        self.task = hidden_task(send(self._gate), "agenthuman billed request")

    def leave(self) -> bool:
        """Nobody waits for it any more; return whether it surely has not left and never will."""
        if never_left := self._gate.close():
            self.task.cancel()
        return never_left

    def cut(self) -> None:
        """Its answer is not wanted any more."""
        self.task.cancel()


class Guard:
    """Makes the end of a loop wait for a billed call: from its start until the session belongs to the caller or has ended.

    Attributes:
        opening: The call.
        task: Waits; the end of the loop sees it.
        work: Cleans up behind the call once it is given up; the end of the loop leaves it alone.
    """

    def __init__(self, opening: Opening[Any]) -> None:
        self.opening: Final = opening
        self.work: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: Final = asyncio.ensure_future(see_through(self._over, self.give_up))
        unsettled.add(opening)

    def follow(self, work: "asyncio.Task[None]") -> None:
        """The call is given up: wait until this has cleaned up behind it."""
        self.work = work
        work.add_done_callback(lambda _: self.release())

    def release(self) -> None:
        """Nothing more is to be waited for."""
        unsettled.discard(self.opening)
        if not self._over.done():
            self._over.set_result(None)

    def give_up(self) -> None:
        """Name what is not settled, for good."""
        if self.work is not None and not self.work.done():
            log_left(self.opening)
            self.work.cancel()
