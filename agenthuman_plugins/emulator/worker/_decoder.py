"""Any PCM to what the avatar plays."""

import numpy as np
from livekit import rtc

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

_BYTES_PER_SAMPLE = 2


class SpeechDecoder:
    """Converts one stream of signed 16-bit PCM to 16 kHz mono; chunks may be cut anywhere.

    Args:
        sample_rate: Hz of the stream.
        num_channels: Interleaved channels of the stream; they are averaged.

    Raises:
        ValueError: The rate or the number of channels makes no sense.
    """

    def __init__(self, *, sample_rate: int, num_channels: int) -> None:
        if not (1_000 <= sample_rate <= 768_000 and 1 <= num_channels <= 16):  # noqa: PLR2004 - what audio is
            raise ValueError(f"{sample_rate} Hz with {num_channels} channels is not speech.")
        self._num_channels = num_channels
        self._rest = b""
        self._resampler = (
            rtc.AudioResampler(sample_rate, SPEECH_SAMPLE_RATE, quality=rtc.AudioResamplerQuality.HIGH)
            if sample_rate != SPEECH_SAMPLE_RATE
            else None
        )

    def decode(self, chunk: bytes) -> bytes:
        """Convert a chunk; a rest that is no whole frame waits for the next one."""
        pcm = self._rest + chunk
        whole = len(pcm) - len(pcm) % (_BYTES_PER_SAMPLE * self._num_channels)
        pcm, self._rest = pcm[:whole], pcm[whole:]
        if self._num_channels > 1:
            frames = np.frombuffer(pcm, dtype="<i2").reshape(-1, self._num_channels)
            pcm = frames.mean(axis=1).round().astype("<i2").tobytes()
        return _join(self._resampler.push(bytearray(pcm))) if self._resampler else pcm

    def flush(self) -> bytes:
        """Return what the resampler still holds."""
        return _join(self._resampler.flush()) if self._resampler else b""


def _join(frames: list[rtc.AudioFrame]) -> bytes:
    return b"".join(bytes(frame.data.cast("b")) for frame in frames)
