"""TTS audio to what the avatar takes, without losing or delaying the last samples of a reply."""

import numpy as np
import soxr

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

# Holds back at most 38 ms while a reply runs, against 76 ms of soxr's best quality; 16 kHz speech has nothing
# above 8 kHz for a steeper filter to save.
_QUALITY = "MQ"


class WholeSamples:
    """Joins PCM that is cut in the middle of a sample."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, pcm: bytes, num_channels: int = 1) -> bytes:
        """Take the next piece and return what is complete of it, with what was left of the piece before."""
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % (2 * num_channels)
        self._rest = pcm[whole:]
        return pcm[:whole]

    def reset(self) -> int:
        """Forget the incomplete sample, and return how many bytes of it there were."""
        rest, self._rest = self._rest, b""
        return len(rest)


class SpeechResampler:
    """Turns 16-bit PCM of any rate into 16 kHz mono; speech that is 16 kHz already passes untouched."""

    def __init__(self) -> None:
        self._rate: int | None = None
        self._stream: soxr.ResampleStream | None = None
        self._taken = self._given = 0  # samples of the present stream
        self._last = np.zeros(1, np.int16)

    def resample(self, pcm: bytes, sample_rate: int, num_channels: int = 1) -> bytes:
        """Take the next piece of a reply and return what is ready of it.

        Args:
            pcm: Signed 16-bit little-endian samples, interleaved; whole ones.
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
        if self._stream is None or not pcm:
            return ready + pcm
        samples = np.frombuffer(pcm, np.int16)
        self._taken += len(samples)
        self._last = samples[-1:]
        resampled = self._stream.resample_chunk(samples)
        self._given += len(resampled)
        return ready + bytes(resampled.data)

    def flush(self) -> bytes:
        """End the reply: return the samples that the filter holds back."""
        stream, rate, taken, given = self._stream, self._rate, self._taken, self._given
        self.reset()
        if stream is None or rate is None or not taken:
            return b""
        tail = stream.resample_chunk(np.zeros(0, np.int16), last=True)
        # From a few samples at a high rate the filter makes none at all; no reply may vanish.
        missing = max(1, round(taken * SPEECH_SAMPLE_RATE / rate)) - given - len(tail)
        return bytes(tail.data) + self._last.tobytes() * missing

    def reset(self) -> None:
        """Forget the samples that the filter holds back: an interrupted reply must not begin the next one."""
        self._stream = self._rate = None
        self._taken = self._given = 0
