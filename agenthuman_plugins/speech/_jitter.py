"""How long sound waits in LiveKit's jitter buffer, which grows when packets are late and shrinks again."""

import asyncio
from typing import Any

from livekit import rtc

_EVERY_S = 0.5
_TIMEOUT_S = 2.0


class JitterBuffer:
    """Follows the jitter buffer of one track.

    Attributes:
        delay_s: Seconds for which the sound of the last half second has waited; 0 until that is known.
    """

    def __init__(self, track: rtc.RemoteAudioTrack) -> None:
        self.delay_s = 0.0
        self._track = track
        self._before = (0.0, 0)

    async def follow(self) -> None:
        """Measure until cancelled, or until the track has no statistics any more."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    self._measure(await self._track.get_stats())
            except Exception:  # noqa: BLE001 - LiveKit raises nothing narrower; the last figure stays
                return

    def _measure(self, stats: list[Any]) -> None:
        for entry in stats:
            if entry.WhichOneof("stats") != "inbound_rtp":
                continue
            inbound = entry.inbound_rtp.inbound
            waited_s, samples = inbound.jitter_buffer_delay, inbound.jitter_buffer_emitted_count
            if samples > self._before[1]:
                self.delay_s = (waited_s - self._before[0]) / (samples - self._before[1])
            self._before = waited_s, samples
