"""What the user hears, told in words while it is heard."""

from collections.abc import Callable
from typing import Any

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InterruptionFrame,
    MetricsFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

Message = dict[str, Any]


class Captions(FrameProcessor):
    """Stands behind the output, where each word passes when the avatar has begun to speak it.

    Args:
        tell: Sends the page a message.
        avatar_name: Name of the avatar's processor, whose delay is told too.
    """

    def __init__(self, tell: Callable[[Message], None], *, avatar_name: str) -> None:
        super().__init__()
        self._tell = tell
        self._avatar_name = avatar_name

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Tell of the frame if it concerns the page, and pass it."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM:
            self._describe(frame)
        await self.push_frame(frame, direction)

    def _describe(self, frame: Frame) -> None:
        match frame:
            case TTSTextFrame():
                self._tell({"type": "words", "text": frame.text})
            case BotStartedSpeakingFrame():
                self._tell({"type": "speaking", "on": True})
            case BotStoppedSpeakingFrame():
                self._tell({"type": "speaking", "on": False})
            case InterruptionFrame():
                self._tell({"type": "interrupted"})
            case MetricsFrame():
                for metric in frame.data:
                    if isinstance(metric, TTFBMetricsData) and metric.processor == self._avatar_name:
                        self._tell({"type": "delay", "ms": round(1000 * metric.value)})
            case _:
                pass
