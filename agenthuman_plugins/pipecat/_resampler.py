"""TTS audio to what the avatar takes, without losing or delaying the last samples of a reply."""

import numpy as np
import soxr

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

# Holds back at most 38 ms while a reply runs, against 76 ms of soxr's best quality; 16 kHz speech has nothing
# above 8 kHz for a steeper filter to save.
_QUALITY = "MQ"


class SpeechResampler:
    """Turns 16-bit PCM of any rate into 16 kHz mono; speech that is 16 kHz already passes untouched."""

    def __init__(self) -> None:
        self._rate: int | None = None
        self._stream: soxr.ResampleStream | None = None

    def resample(self, pcm: bytes, sample_rate: int, num_channels: int = 1) -> bytes:
        """Take the next piece of a reply and return what is ready of it.

        Args:
            pcm: Signed 16-bit little-endian samples, interleaved.
            sample_rate: Hz; a change ends the filter of the rate before.
            num_channels: Mixed down to one.
        """
        if num_channels > 1:
            pcm = (
                np.frombuffer(pcm, np.int16).reshape(-1, num_channels).mean(axis=1).astype(np.int16).tobytes()
            )
        ready = b""
        if sample_rate != self._rate:
            ready = self.flush()
            self._rate = sample_rate
            if sample_rate != SPEECH_SAMPLE_RATE:
                self._stream = soxr.ResampleStream(
                    sample_rate, SPEECH_SAMPLE_RATE, 1, dtype="int16", quality=_QUALITY
                )
        if self._stream is None:
            return ready + pcm
        return ready + bytes(self._stream.resample_chunk(np.frombuffer(pcm, np.int16)).data)

    def flush(self) -> bytes:
        """End the reply: return the samples that the filter holds back."""
        stream, self._stream, self._rate = self._stream, None, None
        if stream is None:
            return b""
        return bytes(stream.resample_chunk(np.zeros(0, np.int16), last=True).data)

    def reset(self) -> None:
        """Forget the samples that the filter holds back: an interrupted reply must not begin the next one."""
        self._stream = self._rate = None
