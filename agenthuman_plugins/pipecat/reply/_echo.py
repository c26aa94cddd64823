"""Lets those behind the output transport hear what an avatar says in a room of its own, as a recorder must."""

from collections import deque
from collections.abc import Callable

from pipecat.frames.frames import TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.speech.progress import Utterance


class Echo:
    """Pushes the TTS's speech from the output transport on when the avatar has said it, as if it was played there.

    What is said in part, by an avatar that is interrupted or lost, counts from the TTS's frames that were said whole.

    Args:
        transport: Finds the output transport.
    """

    def __init__(self, transport: Callable[[], FrameProcessor | None]) -> None:
        self._transport = transport
        self._unsaid: deque[tuple[TTSAudioRawFrame, Utterance, float]] = deque()

    def add(self, frame: TTSAudioRawFrame, utterance: Utterance) -> None:
        """Note speech that is the end of its utterance so far."""
        self._unsaid.append((frame, utterance, utterance.duration_s))

    def clear(self) -> None:
        """Note that what has not been said never will be."""
        self._unsaid.clear()

    async def said(self, utterance: Utterance, position_s: float) -> None:
        """Push what the avatar has said up to a position of an utterance."""
        transport = self._transport() if self._unsaid else None
        while self._unsaid and self._unsaid[0][1] is utterance and self._unsaid[0][2] <= position_s:
            frame, _, _ = self._unsaid.popleft()
            if transport is not None:
                await transport.push_frame(frame)
