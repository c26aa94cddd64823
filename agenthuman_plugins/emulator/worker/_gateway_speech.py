"""Speech that comes as commands of the gateway, which knows no end of an utterance: a pause is one."""

import asyncio
from collections.abc import Callable

from agenthuman_plugins.emulator.worker._decoder import SpeechDecoder

_PAUSE_S = 0.35  # without a command: the utterance is over


class GatewaySpeech:
    """Turns commands into utterances.

    Args:
        push: Takes the speech (16 kHz, mono, signed 16-bit).
        end: Called at the end of each utterance that was not cleared.
    """

    def __init__(self, push: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._push = push
        self._end = end
        self._rate = 0
        self._decoder: SpeechDecoder | None = None
        self._pause: asyncio.TimerHandle | None = None

    def speak(self, pcm: bytes, sample_rate: int) -> None:
        """Queue speech."""
        tail = b""
        if self._decoder is None or sample_rate != self._rate:
            tail = self._flush()
            self._decoder = SpeechDecoder(sample_rate=sample_rate, num_channels=1)
            self._rate = sample_rate
        self._push(tail + self._decoder.decode(pcm))
        self._stop_timer()
        self._pause = asyncio.get_running_loop().call_later(_PAUSE_S, self._finish)

    def clear(self) -> None:
        """Forget the utterance that is being received."""
        self._stop_timer()
        self._decoder = None

    def _finish(self) -> None:
        self._push(self._flush())
        self._end()
        self.clear()

    def _flush(self) -> bytes:
        return self._decoder.flush() if self._decoder else b""

    def _stop_timer(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
