"""The avatar of a room that cannot be joined: it plays to nobody, and its timeline tells what it played."""

import asyncio
from typing import Any

import numpy as np

from agenthuman_plugins.emulator.mouth import MouthShape
from agenthuman_plugins.emulator.process import Emit, Event
from agenthuman_plugins.emulator.worker._loop import Picture
from agenthuman_plugins.emulator.worker._player import Player
from agenthuman_plugins.emulator.worker._settings import WorkerSettings


class RoomlessAvatar:
    """One avatar in no room.

    Args:
        settings: Of its avatar and its room only `fps` and `faults` count.
        emit: Sends events to the parent.
    """

    def __init__(self, settings: WorkerSettings, emit: Emit) -> None:
        self._emit = emit
        self._lost = asyncio.Event()
        self._player = Player(self, emit, settings.faults)
        sink = _Nowhere()
        self._player.show(sink, sink, sink, fps=settings.fps)

    async def run(self, messages: "asyncio.Queue[Event]") -> None:
        """Play what comes until told to leave."""
        follow = asyncio.create_task(self._player.follow(messages), name="messages of the parent")
        play = asyncio.create_task(self._player.run(), name="avatar loop")
        lost = asyncio.create_task(self._lost.wait(), name="loss of the room")
        tasks: list[asyncio.Task[Any]] = [follow, play, lost]
        try:
            self._emit({"event": "ready"})
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (follow, play):
                if task.done():
                    task.result()  # raises if it failed
            if lost.done():
                self._emit({"event": "disconnected", "reason": "fault"})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def playback_started(self) -> None:
        """Tell nobody."""

    def playback_finished(self, position_s: float, *, interrupted: bool) -> None:
        """Tell nobody."""

    def lose(self) -> None:
        """End, as an avatar does that lost its room."""
        self._lost.set()


class _Nowhere:
    """A painter without paint, and sinks that forget: the loop's clock alone counts."""

    queued_s = 0.0
    _picture: Picture = np.zeros((2, 2, 3), np.uint8)

    def draw(self, t_s: float, shape: MouthShape) -> Picture:
        del t_s, shape
        return self._picture

    async def play(self, pcm: bytes) -> None:
        """Forget the sound."""

    def show(self, picture: Picture, timestamp_us: int) -> None:
        """Forget the picture."""

    def clear(self) -> None:
        """Have nothing to drop."""
