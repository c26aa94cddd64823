"""How long sound waits in the jitter buffer."""

import asyncio
from typing import Any

import pytest
from livekit.rtc._proto.stats_pb2 import RtcStats

from agenthuman_plugins.speech import _jitter
from agenthuman_plugins.speech._jitter import JitterBuffer


class _Track:
    """A track whose statistics are scripted; afterwards it is gone."""

    def __init__(self, *figures: tuple[float, int]) -> None:
        self._figures = list(figures)

    async def get_stats(self) -> list[RtcStats]:
        if not self._figures:
            raise Exception("track not found")  # noqa: TRY002 - what LiveKit raises
        stats = RtcStats()
        inbound = stats.inbound_rtp.inbound
        inbound.jitter_buffer_delay, inbound.jitter_buffer_emitted_count = self._figures.pop(0)
        return [RtcStats(), stats]


@pytest.mark.parametrize(
    ("figures", "delay_s"),
    [
        pytest.param([], 0.0, id="no statistics"),
        pytest.param([(40.0, 1000)], 0.04, id="first"),
        pytest.param([(40.0, 1000), (140.0, 2000)], 0.1, id="of the newest sound, not of all"),
        pytest.param([(40.0, 1000), (40.0, 1000)], 0.04, id="nothing new"),
    ],
)
async def test_the_delay_is_that_of_the_newest_sound(
    figures: list[tuple[float, int]], delay_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of the whole call are turned into the delay of now; a track that is gone ends the following."""
    monkeypatch.setattr(_jitter, "_EVERY_S", 0.0)
    track: Any = _Track(*figures)
    buffer = JitterBuffer(track)
    async with asyncio.timeout(10):
        await buffer.follow()
    assert buffer.delay_s == pytest.approx(delay_s)
