"""What a listener at the far end of the pipeline hears."""

import time

import numpy as np
from pipecat.frames.frames import Frame, InterruptionFrame, TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

_LOUD = 1000


class Ear(FrameProcessor):
    """Hears what a listener would: the voice, and for how long there is none in mid-reply.

    What comes faster than it is spoken is heard at the pace of speech, and after an interruption not at all.

    Attributes:
        gap_s: The longest silence in a reply since `listen`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gap_s = 0.0
        self._pcm: dict[str | None, bytearray] = {}
        self._rate = 0
        self._context_id: str | None = None  # of what was heard last
        self._until = self._voiced_until = 0.0  # when all of it is played, and the last voice

    def voice(self, context_id: str) -> bytes:
        """What was heard of a reply."""
        return bytes(self._pcm.get(context_id, b""))

    def listen(self, context_id: str) -> None:
        """Count gaps in a reply from now on."""
        self.gap_s, self._context_id = 0.0, context_id
        self._voiced_until = max(self._until, time.monotonic())

    def expect_voice(self, context_id: str) -> None:
        """A reply is going on: count the silence since its last voice, if it was heard at all."""
        if context_id == self._context_id:
            self.gap_s = max(self.gap_s, time.monotonic() - self._voiced_until)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            begin = max(self._until, time.monotonic())
            self._until = begin + frame.num_frames / frame.sample_rate
            if np.abs(np.frombuffer(frame.audio, np.int16).astype(int)).max(initial=0) > _LOUD:
                if frame.context_id == self._context_id:
                    self.gap_s = max(self.gap_s, begin - self._voiced_until)
                self._context_id, self._voiced_until = frame.context_id, self._until
            self._pcm.setdefault(frame.context_id, bytearray()).extend(frame.audio)
            self._rate = frame.sample_rate
        elif isinstance(frame, InterruptionFrame):
            self._forget_unheard()
        await self.push_frame(frame, direction)

    def _forget_unheard(self) -> None:
        unheard_s = self._until - time.monotonic()
        if unheard_s > 0 and (pcm := self._pcm.get(self._context_id)):
            del pcm[max(0, len(pcm) - 2 * round(unheard_s * self._rate)) :]
            self._until = self._voiced_until = time.monotonic()
