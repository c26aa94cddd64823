"""What every link does in the same way: the books of playback, the events, the alarm, and being over."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Protocol

from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.speech._feed import Changes, Feed
from agenthuman_plugins.speech._utterances import PlaybackEvent
from agenthuman_plugins.speech.link import LinkEvent, LinkLost

CLOSED = "The speech link is closed."


class Books(Protocol):
    """Which utterances are in flight, and when each is over: `Utterances` or `OwnClock`."""

    @property
    def in_flight(self) -> bool:
        """Whether an utterance is not over yet."""

    @property
    def clearing(self) -> bool:
        """Whether an utterance that was cut is not over yet."""

    @property
    def deadline(self) -> float | None:
        """Clock time at which something happens by itself."""

    def expire(self) -> list[PlaybackEvent]:
        """Return what has happened by itself until now."""

    def abandon(self) -> list[PlaybackEvent]:
        """Finish everything."""


class LinkBase(ABC):
    """The part of a `SpeechLink` that does not depend on how speech travels.

    Args:
        books: The books of its playback.
        alarm: Whether what happens by itself is told by a timer; else whoever drives the books calls `_report`.
    """

    def __init__(self, books: Books, *, alarm: bool = True) -> None:
        self._playback = books
        self._has_alarm = alarm
        self._alarm: asyncio.TimerHandle | None = None
        self._changes = Changes()
        self._events: Feed[LinkEvent] = Feed()
        self._connecting = False
        self._gone: str | None = None  # why nothing can be sent any more
        self._closing: asyncio.Task[None] | None = None

    async def connect(self, *, timeout_s: float) -> None:
        """Connect and wait until the avatar can be spoken through; after a failure the link is closed.

        Raises:
            SpeechLinkError: It could not be reached, or the avatar did not appear within `timeout_s`.
        """
        if self._connecting or self._gone is not None:
            raise SpeechLinkError("A speech link connects once; make a new one.")
        self._connecting = True
        try:
            problem = await self._open(timeout_s)
        except BaseException:
            await self.aclose()
            raise
        # Raised here, not where it was caught: the cause may hold the token in its text, and must not be chained.
        if problem is not None:
            await self.aclose()
            raise problem

    async def wait_playback(self, *, timeout_s: float) -> bool:
        """Wait until nothing is in flight; `False` if that took longer than `timeout_s`."""
        return await self._changes.within(timeout_s, lambda: not self._playback.in_flight)

    def events(self) -> Feed[LinkEvent]:
        """What happens on the link, in order, until it is closed or lost. For one reader."""
        return self._events

    async def aclose(self) -> None:
        """Leave and free everything; harmless when repeated or never connected."""
        await asyncio.shield(self._close(CLOSED))

    # --- for the links

    @abstractmethod
    async def _open(self, timeout_s: float) -> SpeechLinkError | None:
        """Connect and wait for the avatar; return what went wrong."""

    @abstractmethod
    async def _free(self) -> None:
        """Free everything, within a time limit; called once."""

    def _close(self, reason: str, *, lost: bool = False, replaced: bool = False) -> asyncio.Task[None]:
        """Begin to free everything, once; the task is for waiting. See `LinkLost` for `replaced`."""
        if self._closing is None:
            self._gone = reason
            self._report(self._playback.abandon())
            if lost:
                self._events.put(LinkLost(reason, replaced=replaced))
            self._events.close()
            self._closing = asyncio.create_task(self._free(), name="close speech link")
        return self._closing

    def _report(self, events: Iterable[PlaybackEvent] = ()) -> None:
        """Tell what has happened, set the alarm for what comes next, and let everybody who waits look again."""
        for event in events:
            self._events.put(event)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._has_alarm and (deadline := self._playback.deadline) is not None:
            self._alarm = asyncio.get_running_loop().call_at(deadline, self._expire)
        self._changes.notify()

    def _tell(self, event: LinkEvent) -> None:
        self._events.put(event)
        self._changes.notify()

    def _expire(self) -> None:
        self._report(self._playback.expire())

    async def _until_cleared(self) -> None:
        await self._changes.until(lambda: not self._playback.clearing)


def loop_time() -> Callable[[], float]:
    """A clock that can be made before there is a loop: that of whichever loop runs when it is read."""
    return lambda: asyncio.get_running_loop().time()
