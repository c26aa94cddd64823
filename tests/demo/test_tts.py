import numpy as np
from pipecat.frames.frames import (
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.tests.utils import run_test

from agenthuman_plugins.demo._tts import OfflineTTSService, word_times
from agenthuman_plugins.emulator.voice import Voice

RATE = 16_000


class FakeVoice(Voice):
    """A tone of a tenth of a second per letter, between half a second of silence."""

    def synthesize(self, text):
        tone = np.full(RATE // 10 * len(text), 8_000, np.int16)
        silence = np.zeros(RATE // 2, np.int16)
        return np.concatenate([silence, tone, silence]).tobytes()


async def spoken(*texts):
    down, _ = await run_test(
        OfflineTTSService(FakeVoice()), frames_to_send=[TTSSpeakFrame(text) for text in texts]
    )
    return down


async def test_all_of_the_speech_comes_at_the_avatars_rate():
    """What the voice made arrives whole, at 16 kHz, between a start and a stop frame."""
    frames = await spoken("one two")
    audio = [frame for frame in frames if isinstance(frame, TTSAudioRawFrame)]
    assert b"".join(frame.audio for frame in audio) == FakeVoice().synthesize("one two")
    assert {(frame.sample_rate, frame.num_channels) for frame in audio} == {(RATE, 1)}
    kinds = [type(frame) for frame in frames]
    assert kinds.index(TTSStartedFrame) < kinds.index(TTSAudioRawFrame) < kinds.index(TTSStoppedFrame)


async def test_each_word_stands_before_its_sound():
    """A word leaves with the piece of audio that it begins in: what follows it is not spoken yet."""
    position_s, at = 0.0, {}
    for frame in await spoken("one two three"):
        if isinstance(frame, TTSAudioRawFrame):
            position_s += frame.num_frames / RATE
        elif isinstance(frame, TTSTextFrame):
            at[frame.text] = position_s
    assert list(at) == ["one", "two", "three"]
    expected = word_times("one two three", FakeVoice().synthesize("one two three"))
    for word, due_s in expected:
        assert at[word] <= due_s < at[word] + 0.1


def test_word_times_leave_out_the_silence_around_the_speech():
    """The first word begins where the voice does, not where the file does."""
    times = dict(word_times("ab cd", FakeVoice().synthesize("ab cd")))
    assert times["ab"] == 0.5
    assert 0.7 < times["cd"] < 0.8  # half of half a second of tone later


def test_silence_has_no_words():
    """Nothing that can be heard, nothing to show."""
    assert list(word_times("ab", bytes(RATE))) == []
