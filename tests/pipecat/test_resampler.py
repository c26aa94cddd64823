"""TTS audio to what the avatar takes."""

import numpy as np
import pytest

from agenthuman_plugins.pipecat.reply._resampler import SpeechResampler, WholeSamples


def _tone(rate: int, seconds: float) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


def test_16_khz_passes_untouched() -> None:
    """Speech at the avatar's rate is neither delayed nor changed."""
    resampler = SpeechResampler()
    pcm = _tone(16_000, 0.02).tobytes()
    assert resampler.resample(pcm, 16_000) == pcm
    assert resampler.flush() == b""


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
def test_no_sample_is_lost_over_a_reply(rate: int) -> None:
    """What goes in comes out, the filter's tail included."""
    resampler = SpeechResampler()
    tone = _tone(rate, 1.0)
    out = (
        b"".join(resampler.resample(block.tobytes(), rate) for block in np.array_split(tone, 50))
        + resampler.flush()
    )
    assert abs(len(out) // 2 - 16_000) <= 1


def test_first_block_is_not_held_back_for_long() -> None:
    """At 24 kHz the first bytes leave within the first 40 ms of speech."""
    resampler = SpeechResampler()
    block = _tone(24_000, 0.02).tobytes()
    assert resampler.resample(block, 24_000) + resampler.resample(block, 24_000)


def test_interrupted_reply_leaves_nothing_behind() -> None:
    """After a reset the next reply begins with its own samples."""
    resampler = SpeechResampler()
    resampler.resample(_tone(24_000, 0.1).tobytes(), 24_000)
    resampler.reset()
    silence = bytes(24_000 // 10 * 2)
    out = np.frombuffer(resampler.resample(silence, 24_000) + resampler.flush(), np.int16)
    assert np.abs(out).max() <= 1  # the filter's dither


def test_stereo_is_mixed_down() -> None:
    """Two channels become their mean."""
    stereo = np.column_stack([np.full(160, 1000, np.int16), np.full(160, 3000, np.int16)])
    mono = np.frombuffer(SpeechResampler().resample(stereo.tobytes(), 16_000, 2), np.int16)
    assert (mono == 2000).all()


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_reply_of_one_sample_does_not_vanish(rate: int) -> None:
    """However short a reply is, something of it reaches the avatar."""
    resampler = SpeechResampler()
    assert len(resampler.resample(b"\x10\x10", rate) + resampler.flush()) >= 2


def test_empty_piece_changes_nothing() -> None:
    """A piece without samples neither begins nor ends anything."""
    resampler = SpeechResampler()
    assert resampler.resample(b"", 24_000) + resampler.flush() == b""


@pytest.mark.parametrize(("first", "second"), [(24_000, 16_000), (16_000, 48_000), (8_000, 44_100)])
def test_rate_may_change_in_mid_reply(first: int, second: int) -> None:
    """The samples of both rates arrive, each in its own time."""
    resampler = SpeechResampler()
    out = resampler.resample(_tone(first, 0.5).tobytes(), first)
    out += resampler.resample(_tone(second, 0.5).tobytes(), second) + resampler.flush()
    assert abs(len(out) // 2 - 16_000) <= 2


def test_ten_minutes_lose_no_sample() -> None:
    """A long reply neither drifts nor grows a backlog."""
    resampler = SpeechResampler()
    second = _tone(24_000, 1.0).tobytes()
    given = sum(len(resampler.resample(second, 24_000)) // 2 for _ in range(600))
    assert 600 * 16_000 - given <= 0.04 * 16_000
    assert given + len(resampler.flush()) // 2 == 600 * 16_000


def test_samples_that_were_cut_are_joined() -> None:
    """Bytes of an incomplete frame of samples wait for the rest; at the end the remainder is counted."""
    samples = WholeSamples()
    assert samples.take(b"\1\2\3", 1) == b"\1\2"
    assert samples.take(b"\4", 1) == b"\3\4"
    assert samples.take(b"\1\2\3\4\5", 2) == b"\1\2\3\4"
    assert samples.reset() == 1
    assert samples.reset() == 0
