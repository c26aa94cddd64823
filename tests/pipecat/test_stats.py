"""The figures of a conversation: metrics, the line at the end, and the span of a trace."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger
from pipecat.frames.frames import EndFrame, MetricsFrame, TTSStoppedFrame
from pipecat.metrics.metrics import TTFBMetricsData

from agenthuman_plugins.pipecat import AgentHumanVideoService, _stats
from agenthuman_plugins.pipecat._stats import AvatarMetricsData
from tests.pipecat.bot import Bot, FakeClient, running, tone
from tests.virtual_time import in_virtual_time


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The debug log."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="DEBUG")
    yield lines
    logger.remove(sink)


@pytest.fixture
def _metrics_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentHumanVideoService, "metrics_enabled", True)


async def _converse(bot: Bot) -> None:
    """Say one thing, and end."""
    await bot.until_event("on_avatar_connected")
    await bot.until_event("on_first_video_frame")
    await bot.say(tone(0.2))
    await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
    await bot.until_event("on_playback_started")
    await bot.send(EndFrame())
    await bot.down.until(lambda: bot.down.of(EndFrame))


def _sent(bot: Bot, kind: type[Any]) -> list[Any]:
    return [data for frame in bot.down.of(MetricsFrame) for data in frame.data if isinstance(data, kind)]


@in_virtual_time
@pytest.mark.usefixtures("_metrics_on")
async def test_a_session_ends_with_its_metrics() -> None:
    """Pipecat's observers get the session's figures, ahead of the end of the pipeline, and a TTFB of each reply."""
    async with running() as bot:
        await _converse(bot)
        (figures,) = _sent(bot, AvatarMetricsData)
        assert figures.session_id == "sess_1"
        assert figures.processor == bot.service.name
        assert figures.session_s > 0.2
        assert figures.replies == 1
        assert figures.pictures_shown > 0
        assert figures.reconnects == 0
        assert 0 <= figures.voice_behind_picture_s <= 0.2
        (ttfb,) = _sent(bot, TTFBMetricsData)
        assert ttfb.value > 0


@in_virtual_time
async def test_without_metrics_nothing_is_pushed() -> None:
    """Who did not ask for metrics gets no frame of them."""
    async with running() as bot:
        await _converse(bot)
        assert not _sent(bot, AvatarMetricsData)


@in_virtual_time
@pytest.mark.usefixtures("_metrics_on")
async def test_one_line_at_the_end(log: list[str]) -> None:
    """The debug log ends with all figures in one line, once."""
    async with running() as bot:
        await _converse(bot)
    (line,) = [line for line in log if "sessions, " in line]
    assert line.startswith(f"{bot.service}: 1 sessions, ")
    for figure in ("1 replies, median TTFB ", "ms, made up for", " frames, ", "0 reconnects, 0 fallbacks"):
        assert figure in line


@in_virtual_time
async def test_no_line_without_a_session(log: list[str]) -> None:
    """A bot whose account opened no session has nothing to sum up."""
    async with running(FakeClient(failure=RuntimeError("no"))) as bot:
        await bot.until_event("on_fallback_started")
    assert not [line for line in log if "sessions, " in line]


class _Span:
    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self.name = name
        self.attributes = attributes
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended = 0

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        self.attributes.update(attributes)

    def add_event(self, name: str, attributes: dict[str, Any]) -> None:
        self.events.append((name, attributes))

    def end(self) -> None:
        self.ended += 1


class _Tracer:
    def __init__(self) -> None:
        self.spans: list[_Span] = []

    def start_span(self, name: str, *, context: object, attributes: dict[str, Any]) -> _Span:
        del context
        self.spans.append(_Span(name, attributes))
        return self.spans[-1]


@in_virtual_time
@pytest.mark.parametrize("tracing", [True, False])
@pytest.mark.usefixtures("_metrics_on")
async def test_a_session_is_a_span_where_tracing_is_on(
    tracing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trace of a conversation shows each session with its figures and each reply's TTFB, and no secret."""
    tracer = _Tracer()
    monkeypatch.setattr(_stats, "_CAN_TRACE", True)
    monkeypatch.setattr(_stats, "trace", SimpleNamespace(get_tracer=lambda _: tracer), raising=False)
    client = FakeClient()
    client.open_now.clear()
    async with running(client) as bot:
        bot.service._tracing_enabled = tracing
        client.open_now.set()
        await _converse(bot)
    if not tracing:
        assert tracer.spans == []
        return
    (span,) = tracer.spans
    assert (span.name, span.ended) == ("avatar", 1)
    assert span.attributes["avatar.session_id"] == "sess_1"
    assert span.attributes["avatar.replies"] == 1
    assert span.attributes["avatar.session_s"] > 0
    ((name, attributes),) = span.events
    assert name == "playback_started"
    assert attributes["metrics.ttfb"] > 0
