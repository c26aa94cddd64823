"""What a conversation with an avatar was like: as Pipecat metrics, as a span of a trace, and as one line at the end."""

import asyncio
from statistics import median
from typing import Any

from loguru import logger
from pipecat.frames.frames import MetricsFrame
from pipecat.metrics.metrics import MetricsData
from pipecat.services.ai_service import AIService

from agenthuman_plugins.pipecat.picture._picture import AvatarPicture

try:
    from opentelemetry import trace
except ImportError:
    _CAN_TRACE = False
else:
    _CAN_TRACE = True


class AvatarMetricsData(MetricsData):
    """Figures of an avatar's session, sent in a `MetricsFrame` when it has ended.

    Pipecat's own `TTFBMetricsData` comes with every reply besides: from the first speech that went to the avatar to
    its first voiced sample.

    Attributes:
        session_id: The session.
        session_s: Seconds for which it was open.
        replies: How many were heard through the avatar.
        voice_behind_picture_s: How much later the avatar's voice comes than its picture, which waits for it; `None`
            if the avatar does not report when it starts.
        pictures_shown: Pushed to the transport.
        pictures_dropped: Not pushed: newer ones had come, the transport was behind, or they showed a reply that was cut.
        reconnects: How often the connection to the avatar had to be restored.
    """

    session_id: str
    session_s: float
    replies: int
    voice_behind_picture_s: float | None
    pictures_shown: int
    pictures_dropped: int
    reconnects: int


class AvatarStats:
    """Collects the figures of a service's sessions.

    Args:
        service: Whose events are counted. With tracing on in its pipeline, each session is a span of the conversation.
        picture: Counts the pictures.
    """

    def __init__(self, service: AIService, picture: AvatarPicture) -> None:
        self._service = service
        self._picture = picture
        self._ended: list[AvatarMetricsData] = []
        self._session: tuple[str, float] | None = None  # its id, and when it began
        self._span: Any = None
        self._ttfb_s: list[float] = []
        self._fallbacks = 0
        self._replies = 0
        self._reconnects = 0
        self._shown_before = 0
        self._dropped_before = 0
        for event, note in (
            ("on_playback_started", self._on_playback_started),
            ("on_reconnecting", self._on_reconnecting),
            ("on_fallback_started", self._on_fallback_started),
        ):
            service.add_event_handler(event, note)

    def session_started(self, session_id: str) -> None:
        """Note that a session is open from now on."""
        self._session = session_id, asyncio.get_running_loop().time()
        self._replies = self._reconnects = 0
        self._shown_before, self._dropped_before = self._picture.count.shown, self._picture.count.dropped
        self._span = self._start_span(session_id)

    async def session_ended(self) -> None:
        """Note that the session has ended, and push its metrics."""
        if self._session is None:
            return
        (session_id, began), self._session = self._session, None
        count = self._picture.count
        metrics = AvatarMetricsData(
            processor=self._service.name,
            session_id=session_id,
            session_s=asyncio.get_running_loop().time() - began,
            replies=self._replies,
            voice_behind_picture_s=self._picture.lipsync.measured_s,
            pictures_shown=count.shown - self._shown_before,
            pictures_dropped=count.dropped - self._dropped_before,
            reconnects=self._reconnects,
        )
        self._ended.append(metrics)
        self._end_span(metrics)
        if self._service.metrics_enabled:
            await self._service.push_frame(MetricsFrame(data=[metrics]))

    def summary(self) -> str:
        """All sessions in one line."""
        seconds, replies, shown, dropped, reconnects = (
            sum(getattr(metrics, name) for metrics in self._ended)
            for name in ("session_s", "replies", "pictures_shown", "pictures_dropped", "reconnects")
        )
        delay_s = self._picture.lipsync.measured_s
        return "; ".join(
            [
                f"{len(self._ended)} sessions, {seconds:.1f} s",
                f"{replies} replies"
                + (f", median TTFB {median(self._ttfb_s):.3f} s" if self._ttfb_s else ""),
                "voice behind picture "
                + ("unknown" if delay_s is None else f"{1000 * delay_s:.0f} ms, made up for"),
                f"{shown} pictures, {dropped} dropped",
                f"{reconnects} reconnects, {self._fallbacks} fallbacks",
            ]
        )

    def log(self) -> None:
        """Write the summary into the debug log, once."""
        if self._ended:
            logger.debug(f"{self._service}: {self.summary()}")
            self._ended.clear()

    async def _on_playback_started(self, *_: object) -> None:
        self._replies += 1
        # As Pipecat's own tracing reads it: there is no public way to a value that was reported.
        ttfb_s: float | None = getattr(getattr(self._service, "_metrics", None), "ttfb", None)
        if ttfb_s is None:
            return
        self._ttfb_s.append(ttfb_s)
        if self._span is not None:
            self._span.add_event("playback_started", {"metrics.ttfb": ttfb_s})

    async def _on_reconnecting(self, *_: object) -> None:
        self._reconnects += 1

    async def _on_fallback_started(self, *_: object) -> None:
        self._fallbacks += 1

    def _start_span(self, session_id: str) -> Any:
        # As `pipecat.utils.tracing` does it for LLM, STT and TTS.
        if not _CAN_TRACE or not self._service._tracing_enabled:  # noqa: SLF001 - set by Pipecat for its decorators
            return None
        context: Any = self._service._tracing_context  # noqa: SLF001 - see above
        return trace.get_tracer("agenthuman").start_span(
            "avatar",
            context=context and context.get_conversation_context(),
            attributes={
                "gen_ai.provider.name": "agenthuman",
                "service.name": type(self._service).__name__,
                "avatar.session_id": session_id,
            },
        )

    def _end_span(self, metrics: AvatarMetricsData) -> None:
        if self._span is None:
            return
        figures = metrics.model_dump(exclude={"processor", "model", "session_id"}, exclude_none=True)
        self._span.set_attributes({f"avatar.{name}": value for name, value in figures.items()})
        self._span.end()
        self._span = None
