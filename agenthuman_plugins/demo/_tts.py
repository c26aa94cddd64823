"""The demo's voice as a Pipecat TTS service: eSpeak NG on this machine, no key and no download."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

import numpy as np
from pipecat.frames.frames import Frame, TTSAudioRawFrame
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService

from agenthuman_plugins.emulator.voice import Voice
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

# A sentence is there at once: every piece of it costs work in each processor, while the face is being drawn.
_CHUNK_S = 0.1
_CHUNK_BYTES = round(SPEECH_SAMPLE_RATE * _CHUNK_S) * 2
_SILENCE_PEAK = 200  # of 16-bit samples: below, the voice has not begun or is over
_PAUSES = {",": 3, ";": 3, ":": 3, ".": 5, "!": 5, "?": 5}  # how many letters long a voice rests


class OfflineTTSService(TTSService):
    """Speaks with the emulator's voice at 16 kHz, the rate that the avatar takes, so nothing is resampled.

    Words are timed, so that captions and the context hold what was heard when the user interrupts.

    Args:
        voice: Synthesizes the text.
    """

    def __init__(self, voice: Voice) -> None:
        super().__init__(
            sample_rate=SPEECH_SAMPLE_RATE,
            push_start_frame=True,
            push_stop_frames=True,
            push_text_frames=False,  # the words come with their times instead
            settings=TTSSettings(model=None, voice=None, language=None),
        )
        self._voice = voice
        self._context_id = ""
        self._context_s = 0.0  # length of what the context holds so far: word times count from its start

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Synthesize one sentence; its words stand between the pieces of audio that they begin in."""
        pcm = await asyncio.to_thread(self._voice.synthesize, text)
        if context_id != self._context_id:
            self._context_id, self._context_s = context_id, 0.0
        words = iter(word_times(text, pcm))
        word, due_s = next(words, ("", float("inf")))
        for chunk_s, chunk in _chunks(pcm):
            while due_s < chunk_s + _CHUNK_S:
                await self.add_word_timestamps([(word, self._context_s + due_s)], context_id)
                word, due_s = next(words, ("", float("inf")))
            yield TTSAudioRawFrame(chunk, SPEECH_SAMPLE_RATE, 1, context_id=context_id)
        self._context_s += len(pcm) / 2 / SPEECH_SAMPLE_RATE


def word_times(text: str, pcm: bytes) -> Iterator[tuple[str, float]]:
    """Yield each word with the second in `pcm` at which it begins, by its share of the letters.

    The voice tells no times; measured on its phonemes, the share is right to about a tenth of a second.
    """
    words = text.split()
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm, np.int16).astype(np.int32)) > _SILENCE_PEAK)
    if not words or not loud.size:
        return
    begin_s, end_s = loud[0] / SPEECH_SAMPLE_RATE, loud[-1] / SPEECH_SAMPLE_RATE
    lengths = [len(word) + _PAUSES.get(word[-1], 0) for word in words]
    lengths[-1] = len(words[-1])  # the rest after the last word is not in the sound
    position = 0
    for word, length in zip(words, lengths, strict=True):
        yield word, float(begin_s + (end_s - begin_s) * position / sum(lengths))
        position += length


def _chunks(pcm: bytes) -> Iterator[tuple[float, bytes]]:
    for start in range(0, len(pcm), _CHUNK_BYTES):
        yield start / 2 / SPEECH_SAMPLE_RATE, pcm[start : start + _CHUNK_BYTES]
