"""Speech as a voice makes it, turned into what the avatar takes."""

from typing import TYPE_CHECKING, Any

from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

if TYPE_CHECKING:
    from livekit.rtc import AudioResampler


class Resampler:
    """Turns 16-bit mono PCM, cut anywhere, into whole samples at the avatar's rate; none is lost.

    Args:
        sample_rate: Hz of the PCM; at the avatar's own rate it passes as it is.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._filter: AudioResampler | None = None
        self._rest = b""  # of a sample that was cut in two
        self._taken = self._given = 0  # samples that went in and came out

    def prepare(self) -> None:
        """Load what resampling takes; called on a thread, because LiveKit's library takes a while."""
        if self._sample_rate != SPEECH_SAMPLE_RATE:
            self._new_filter().flush()

    def take(self, pcm: bytes) -> bytes:
        """Take the next piece and return what is ready of it."""
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % 2
        pcm, self._rest = pcm[:whole], pcm[whole:]
        if self._sample_rate == SPEECH_SAMPLE_RATE or not pcm:
            return pcm
        if self._filter is None:
            self._filter = self._new_filter()
        self._taken += len(pcm) // 2
        ready = _joined(self._filter.push(bytearray(pcm)))
        self._given += len(ready) // 2
        return ready

    def flush(self) -> bytes:
        """End an utterance: return what the filter holds back."""
        last, taken, given = self._filter, self._taken, self._given
        self.forget()
        if last is None:
            return b""
        tail = _joined(last.flush())
        # From a few samples at a high rate the filter makes none at all; no speech may vanish.
        missing = round(taken * SPEECH_SAMPLE_RATE / self._sample_rate) - given - len(tail) // 2
        return tail + bytes(2 * max(missing, 0))

    def forget(self) -> None:
        """Forget what is held back: an interrupted reply must not begin the next one."""
        self._filter, self._rest, self._taken, self._given = None, b"", 0, 0

    def _new_filter(self) -> "AudioResampler":
        from livekit.rtc import AudioResampler  # noqa: PLC0415 - only an extra installs it

        return AudioResampler(self._sample_rate, SPEECH_SAMPLE_RATE)


def _joined(frames: list[Any]) -> bytes:
    return b"".join(bytes(frame.data) for frame in frames)
