"""What a conversation with an avatar was like: as Pipecat metrics, as a span of a trace, and as one line at the end."""

import asyncio
from dataclasses import dataclass
from statistics import median
from typing import Any

from loguru import logger
from pipecat.frames.frames import MetricsFrame
from pipecat.metrics.metrics import MetricsData
from pipecat.services.ai_service import AIService

from agenthuman_plugins.pipecat.picture import AvatarPicture

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
        connect_s: Seconds from asking for the session to an avatar that could be spoken through; `None` if it never came.
        slot_wait_s: Seconds for which a slot of the account was waited for before that.
        replies: How many were heard through the avatar.
        voice_behind_picture_s: How much later the avatar's voice comes than its video, which waits for it; `None`
            if the avatar does not report when it starts.
        pictures_shown: Pushed to the transport.
        pictures_dropped: Not pushed: newer ones had come, the transport was behind, or they showed a reply that was cut.
        reconnects: How often the connection to the avatar had to be restored.
    """

    session_id: str
    session_s: float
    connect_s: float | None
    slot_wait_s: float
    replies: int
    voice_behind_picture_s: float | None
    pictures_shown: int
    pictures_dropped: int
    reconnects: int


@dataclass(slots=True)
class _Open:
    """A session that is open."""

    began: float
    span: Any
    slot_wait_s: float
    connect_s: float | None = None
    replies: int = 0
    reconnects: int = 0
    shown: int = 0
    dropped: int = 0


class AvatarStats:
    """Collects the figures of a service's sessions, of which two may be open while one takes over from the other.

    Args:
        service: Pushes the metrics. With tracing on in its pipeline, each session is a span of the conversation.
        picture: Counts the pictures.
    """

    def __init__(self, service: AIService, picture: AvatarPicture) -> None:
        self._service = service
        self._picture = picture
        self._open: dict[str, _Open] = {}
        self._speaking: _Open | None = None
        self._ended: list[AvatarMetricsData] = []
        self._ttfb_s: list[float] = []
        self._fallbacks = 0
        self._counted = 0, 0  # pictures shown and dropped, as far as they are counted for a session

    def session_started(self, session_id: str, *, slot_wait_s: float = 0.0) -> None:
        """Note that a session is open from now on."""
        now = asyncio.get_running_loop().time()
        self._open[session_id] = _Open(now, self._start_span(session_id), slot_wait_s)

    def session_speaks(self, session_id: str, *, connect_s: float) -> None:
        """Note that the replies and pictures from now on are those of this session."""
        self._count_pictures()
        self._speaking = self._open.get(session_id)
        if self._speaking is not None:
            self._speaking.connect_s = connect_s

    async def session_ended(self, session_id: str) -> None:
        """Note that a session has ended, and push its metrics; harmless when repeated."""
        self._count_pictures()
        session = self._open.pop(session_id, None)
        if session is None:
            return
        if self._speaking is session:
            self._speaking = None
        metrics = AvatarMetricsData(
            processor=self._service.name,
            session_id=session_id,
            session_s=asyncio.get_running_loop().time() - session.began,
            connect_s=session.connect_s,
            slot_wait_s=session.slot_wait_s,
            replies=session.replies,
            voice_behind_picture_s=self._picture.lipsync.measured_s,
            pictures_shown=session.shown,
            pictures_dropped=session.dropped,
            reconnects=session.reconnects,
        )
        self._ended.append(metrics)
        self._end_span(session, metrics)
        if self._service.metrics_enabled:
            await self._service.push_frame(MetricsFrame(data=[metrics]))

    async def all_end(self) -> bool:
        """Note that the run is cancelled: what is pushed later reaches nobody. `True` if metrics were pushed."""
        open_now = list(self._open)
        for session_id in open_now:
            await self.session_ended(session_id)
        return bool(open_now) and self._service.metrics_enabled

    def note(self, event: str) -> None:
        """Count an event of the service."""
        if event == "on_fallback_started":
            self._fallbacks += 1
        elif event == "on_reconnecting" and self._speaking is not None:
            self._speaking.reconnects += 1
        elif event == "on_playback_started":
            self._note_reply()

    def _note_reply(self) -> None:
        # As Pipecat's own tracing reads it: there is no public way to a value that was reported.
        ttfb_s: float | None = getattr(getattr(self._service, "_metrics", None), "ttfb", None)
        if ttfb_s is not None:
            self._ttfb_s.append(ttfb_s)
        if self._speaking is not None:
            self._speaking.replies += 1
            if ttfb_s is not None and self._speaking.span is not None:
                self._speaking.span.add_event("playback_started", {"metrics.ttfb": ttfb_s})

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
                "voice behind video "
                + ("unknown" if delay_s is None else f"{1000 * delay_s:.0f} ms, made up for"),
                f"{shown} frames, {dropped} dropped",
                f"{reconnects} reconnects, {self._fallbacks} fallbacks",
            ]
        )

    def log(self) -> None:
        """Write the summary into the debug log, and begin anew."""
        if self._ended:
            logger.debug(f"{self._service}: {self.summary()}")
        self._ended.clear()
        self._ttfb_s.clear()
        self._fallbacks = 0

    def _count_pictures(self) -> None:
        count = self._picture.count
        if self._speaking is not None:
            shown, dropped = self._counted
            self._speaking.shown += count.shown - shown
            self._speaking.dropped += count.dropped - dropped
        self._counted = count.shown, count.dropped

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

    def _end_span(self, session: _Open, metrics: AvatarMetricsData) -> None:
        if session.span is None:
            return
        figures = metrics.model_dump(exclude={"processor", "model", "session_id"}, exclude_none=True)
        session.span.set_attributes({f"avatar.{name}": value for name, value in figures.items()})
        session.span.end()
