"""Playback reports to the sender, as remote procedure calls that never hold up the picture."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from livekit import rtc

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
_RETRY_DELAY_S = 0.1
_ORDER_LIMIT_S = 1.0  # a report waits this long for the one before it, and then goes first

STARTED = "lk.playback_started"
FINISHED = "lk.playback_finished"


class PlaybackNotifier:
    """Sends each report in a task of its own, in order as long as the sender answers.

    Args:
        call: Performs a method at a participant: identity, method, payload; raises `rtc.RpcError`.
    """

    def __init__(self, call: Callable[[str, str, str], Awaitable[object]]) -> None:
        self._call = call
        self._last: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def started(self, to: str) -> None:
        """Report the first sample of an utterance."""
        self._send(to, STARTED, "")

    def finished(self, to: str, position_s: float, *, interrupted: bool) -> None:
        """Report the end of an utterance."""
        # The stock receiver has no transcript either.
        report = {
            "playback_position": position_s,
            "interrupted": interrupted,
            "synchronized_transcript": None,
        }
        self._send(to, FINISHED, json.dumps(report))

    async def aclose(self) -> None:
        """Drop what is still being sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(self, to: str, method: str, payload: str) -> None:
        task = asyncio.create_task(self._deliver(to, method, payload, after=self._last), name=method)
        self._last = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, to: str, method: str, payload: str, *, after: asyncio.Task[None] | None) -> None:
        if after:
            await asyncio.wait({after}, timeout=_ORDER_LIMIT_S)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._call(to, method, payload)
            except rtc.RpcError as error:
                # A sender need not listen for the start; asking again would not change that.
                optional = method == STARTED and error.code == rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD
                if optional or attempt == _ATTEMPTS:
                    _log.log(logging.DEBUG if optional else logging.WARNING, "%s: %s", method, error.message)
                    return
                await asyncio.sleep(_RETRY_DELAY_S)
            else:
                return
