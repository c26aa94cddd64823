"""How long sound waits in the jitter buffer."""

import asyncio
from typing import Any

import pytest
from livekit.rtc._proto.stats_pb2 import RtcStats

from agenthuman_plugins.speech import _jitter
from agenthuman_plugins.speech._jitter import JitterBuffer


class _Track:
    """A track whose statistics are scripted; afterwards it is gone."""

    def __init__(self, *figures: tuple[float, int] | tuple[float, int, int]) -> None:
        self._figures = list(figures)

    async def get_stats(self) -> list[RtcStats]:
        if not self._figures:
            raise Exception("track not found")  # noqa: TRY002 - what LiveKit raises
        stats = RtcStats()
        inbound = stats.inbound_rtp.inbound
        waited_s, emitted, *concealed = self._figures.pop(0)
        inbound.jitter_buffer_delay, inbound.jitter_buffer_emitted_count = waited_s, emitted
        inbound.concealed_samples = concealed[0] if concealed else 0
        return [RtcStats(), stats]


@pytest.mark.parametrize(
    ("figures", "delay_s"),
    [
        pytest.param([], 0.0, id="no statistics"),
        pytest.param([(40.0, 1000)], 0.04, id="first"),
        pytest.param([(40.0, 1000), (140.0, 2000)], 0.1, id="of the newest sound, not of all"),
        pytest.param([(40.0, 1000), (40.0, 1000)], 0.04, id="nothing new"),
        pytest.param([(60.0, 1000), (120.0, 2000), (130.0, 3000)], 0.06, id="not a single dip"),
        pytest.param([(60.0, 1000), (160.0, 2000), (260.0, 3000)], 0.1, id="a change that lasts"),
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


@pytest.mark.parametrize(
    ("figures", "concealed_s"),
    [
        pytest.param([(1.0, 1000, 0), (2.0, 2000, 0)], 0.0, id="all came"),
        pytest.param([(1.0, 1000, 0), (2.0, 2000, 4800)], 0.1, id="stalls"),
        pytest.param([(1.0, 1000, 0), (2.0, 2000, 4800), (2.0, 2000, 14400)], 0.3, id="goes on"),
        pytest.param([(1.0, 1000, 9600), (2.0, 2000, 9600)], 0.0, id="came back"),
        pytest.param([], None, id="not measured"),
    ],
)
async def test_made_up_sound_is_known(
    figures: list[tuple[float, int, int]], concealed_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound that LiveKit made up since packets stopped is counted, until they come again, and told once."""
    monkeypatch.setattr(_jitter, "_EVERY_S", 0.0)
    track: Any = _Track(*figures)
    buffer = JitterBuffer(track)
    async with asyncio.timeout(10):
        await buffer.follow()
    assert buffer.concealed_s() == (None if concealed_s is None else pytest.approx(concealed_s))
    assert buffer.concealed_s() is None
