"""What LiveKit's jitter buffer does to the sound.

Sound waits in it, longer when packets are late. When none come, it goes on with sound of its own for some tenths of a
second, which nobody can tell from what was sent.
"""

import asyncio
from collections import deque
from statistics import median
from typing import Any

from livekit import rtc

_EVERY_S = 0.2
_MEASUREMENTS = 3  # of which the middle one counts: a single dip would move the picture to and fro
_TIMEOUT_S = 2.0
_OPUS_RATE = 48_000  # at which samples are counted, whatever was sent


class JitterBuffer:
    """Follows the jitter buffer of one track.

    Attributes:
        delay_s: Seconds for which sound waits at present, by the newest measurements; 0 until that is known.
    """

    def __init__(self, track: rtc.RemoteAudioTrack) -> None:
        self.delay_s = 0.0
        self._delays: deque[float] = deque(maxlen=_MEASUREMENTS)
        self._concealed_s = 0.0
        self._measured = False
        self._track = track
        self._before = (0.0, 0)
        self._concealed_before = 0

    def concealed_s(self) -> float | None:
        """Seconds of sound that it made up since packets came, silence included; 0 while they come in time.

        Returns:
            The figure, once for each measurement; `None` if there was none since the last call.
        """
        measured, self._measured = self._measured, False
        return self._concealed_s if measured else None

    async def follow(self) -> None:
        """Measure until cancelled, or until the track has no statistics any more."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    self._measure(await self._track.get_stats())
            except TimeoutError:
                continue  # a busy machine
            except Exception:  # noqa: BLE001 - LiveKit raises nothing narrower; the last figures stay
                return

    def _measure(self, stats: list[Any]) -> None:
        for entry in stats:
            if entry.WhichOneof("stats") != "inbound_rtp":
                continue
            inbound = entry.inbound_rtp.inbound
            waited_s, samples = inbound.jitter_buffer_delay, inbound.jitter_buffer_emitted_count
            if samples > self._before[1]:
                newest_s = (waited_s - self._before[0]) / (samples - self._before[1])
                self._delays.append(newest_s)
                self.delay_s = median(self._delays) if len(self._delays) == _MEASUREMENTS else newest_s
                self._concealed_s = 0.0
            self._before = waited_s, samples
            self._concealed_s += max(inbound.concealed_samples - self._concealed_before, 0) / _OPUS_RATE
            self._concealed_before = inbound.concealed_samples
            self._measured = True
