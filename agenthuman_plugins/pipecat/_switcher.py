"""Whose turn it is, for a service that shares a `ServiceSwitcher` with others.

A switcher starts all of its services and gives work to one. An avatar without work would be billed and could show its
face beside the one that speaks. So it has a session while it is its turn, and keeps it until it has said what it got;
the next one opens its own when that has ended, which also an account with a single session allows.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from pipecat.frames.frames import Frame, InterruptionFrame
from pipecat.pipeline.service_switcher import ServiceSwitcher, ServiceSwitcherStrategy
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.pipecat.picture._transport import pipeline_around, processors_behind

_LEAVE_S = 5.0  # for the session before ours to end; one that cannot be ended must not keep us

#: Why an avatar is dismissed.
NOT_ITS_TURN = "another member of the switcher is active"

_turns: WeakKeyDictionary[ServiceSwitcher[Any], WeakSet["Turn"]] = WeakKeyDictionary()


class Turn:
    """Knows whether the switchers around a service give it work.

    Args:
        service: The service; without a switcher around it, it is always its turn.
        on_change: Called when its turn begins and when it is over.
    """

    def __init__(self, service: FrameProcessor, on_change: Callable[[bool], Awaitable[None]]) -> None:
        self._service = service
        self._on_change = on_change
        self._members: list[tuple[ServiceSwitcher[Any], FrameProcessor]] = []
        self._was_ours = True
        self._began_at = -math.inf
        self._open_sessions = 0

    def find(self) -> None:
        """Look for switchers around the service. A run begins, so the pipelines are complete."""
        self._open_sessions = 0
        self._members = list(_memberships(self._service))
        for switcher, _ in self._members:
            turns = _turns.setdefault(switcher, WeakSet())
            if self not in turns:
                turns.add(self)
                switcher.strategy.add_event_handler("on_service_switched", self._on_switched)
                if switcher.previous is not None:
                    switcher.previous.add_event_handler("on_before_push_frame", self._on_passing)
        self._was_ours = self.ours

    @property
    def ours(self) -> bool:
        """Whether the service is given work."""
        return all(switcher.strategy.active_service is member for switcher, member in self._members)

    @property
    def may_open(self) -> bool:
        """Whether a session may be opened: no other service of the switcher has one, or it had enough time to end it."""
        others = {turn for switcher, _ in self._members for turn in _turns[switcher]} - {self}
        in_use = any(turn._open_sessions for turn in others)  # noqa: SLF001 - of the same class
        return not in_use or asyncio.get_running_loop().time() - self._began_at > _LEAVE_S

    def session_opened(self) -> None:
        """Note that the service has a session, or one more."""
        self._open_sessions += 1

    def session_ended(self) -> None:
        """Note that a session has ended."""
        self._open_sessions = max(self._open_sessions - 1, 0)  # one of the run before may end late

    async def _on_passing(self, _: object, frame: Frame) -> None:
        # The switcher does not deliver it to a service without work, which may still be speaking. One that goes upstream
        # has already left the switcher here, and no frame leaves that twice.
        if isinstance(frame, InterruptionFrame) and not self.ours:
            await self._service.queue_frame(frame)

    async def _on_switched(self, _: ServiceSwitcherStrategy, __: FrameProcessor) -> None:
        ours, was_ours = self.ours, self._was_ours
        self._was_ours = ours
        if ours is not was_ours:
            self._began_at = asyncio.get_running_loop().time()
            await self._on_change(ours)


def _memberships(service: FrameProcessor) -> Iterator[tuple[ServiceSwitcher[Any], FrameProcessor]]:
    for following in processors_behind(service):
        switcher = pipeline_around(following)
        if isinstance(switcher, ServiceSwitcher):
            yield next((switcher, member) for member in switcher.services if _holds(member, service))


def _holds(processor: FrameProcessor, sought: FrameProcessor) -> bool:
    return processor is sought or any(_holds(part, sought) for part in processor.processors)
