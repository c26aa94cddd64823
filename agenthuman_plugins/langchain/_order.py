"""The order of the calls of one message, which an agent carries out all at once."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from agenthuman_plugins.langchain._drivers import Driver
from agenthuman_plugins.langchain._origin import Origin

_KEPT = 1_000  # calls that are remembered
# For a call to begin that stands in the same message: one that a person or a middleware held back never does.
_BEGIN_LIMIT_S = 2.0
_END_LIMIT_S = 600.0  # several texts one after the other, each of which takes up to three minutes


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    begun: "Future[None]" = field(default_factory=Future)
    over: "Future[None]" = field(default_factory=Future)


class Order:
    """Lets a call wait for those before it in its message."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: OrderedDict[tuple[str | None, ...], _Call] = OrderedDict()

    @contextmanager
    def carried_out(self, origin: Origin) -> Iterator[None]:
        """Note that a call is being carried out inside the block."""
        call = self._call(origin, origin.tool_call_id)
        if not call.begun.done():
            call.begun.set_result(None)
        try:
            yield
        finally:
            if not call.over.done():  # a call that is replayed is over for the second time
                call.over.set_result(None)

    async def wait(self, drive: Driver, origin: Origin, earlier: Iterable[str]) -> None:
        """Wait until calls of the same message are over, or do not begin at all."""
        for tool_call_id in earlier:
            call = self._call(origin, tool_call_id)
            if await drive.wait(call.begun, _BEGIN_LIMIT_S):
                await drive.wait(call.over, _END_LIMIT_S)

    def _call(self, origin: Origin, tool_call_id: str | None) -> _Call:
        key = (origin.thread_id, origin.message_id, tool_call_id)
        with self._lock:
            call = self._calls.setdefault(key, _Call())
            while len(self._calls) > _KEPT:
                self._calls.popitem(last=False)
            return call
