"""An output transport without a network: what it is given, it has played and shown."""

import asyncio
from typing import Any

from pipecat.frames.frames import (
    OutputAudioRawFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
)
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

from tests.pipecat.bot import RATE


class Playing(BaseOutputTransport):
    """Plays at once, unless told to take its time.

    Attributes:
        voice: What was played.
        pictures: Sizes of what was shown.
        messages: What the client was sent.
        heard: Set when the first sound was played.
        seen: Set when the first picture was shown.
    """

    def __init__(self, *, real_time: bool = False, **params: Any) -> None:
        super().__init__(
            TransportParams(
                **{
                    "audio_out_enabled": True,
                    "audio_out_sample_rate": RATE,
                    "audio_out_end_silence_secs": 0,
                    "video_out_enabled": True,
                    "video_out_is_live": True,
                    "video_out_width": 64,
                    "video_out_height": 48,
                    "video_out_framerate": 100,
                    **params,
                }
            )
        )
        self.voice = bytearray()
        self.pictures: list[tuple[int, int]] = []
        self.messages: list[dict[str, Any]] = []
        self.heard = asyncio.Event()
        self.seen = asyncio.Event()
        self._real_time = real_time

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self.voice += frame.audio
        self.heard.set()
        if self._real_time:
            await asyncio.sleep(frame.num_frames / frame.sample_rate)
        return True

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        self.pictures.append(frame.size)
        self.seen.set()
        return True

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        self.messages.append(frame.message)
