"""The offline voice."""

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agenthuman_plugins.emulator import voice as voice_module
from agenthuman_plugins.emulator.voice import CHUNK_BYTES, SAMPLE_RATE, Voice, _Babble, _resample

TEXT = "The quick brown fox jumps over the lazy dog."


@pytest.fixture
def no_loader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A process in which `espeakng_loader` is not installed."""
    real_import = builtins.__import__

    def without_loader(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "espeakng_loader":
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_loader)
    voice_module._engine.cache_clear()
    yield
    voice_module._engine.cache_clear()


def loudness(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float) / 32_768
    return float(np.sqrt((samples**2).mean()))


def alike(one: bytes, other: bytes) -> bool:
    """Whether two recordings are as long and rise and fall alike; eSpeak varies a little by itself."""

    def envelope(pcm: bytes) -> np.ndarray:
        blocks = np.frombuffer(pcm, "<i2")[: len(pcm) // 2 // 640 * 640].reshape(-1, 640)
        return np.sqrt((blocks.astype(float) ** 2).mean(axis=1))

    first, second = envelope(one), envelope(other)
    common = min(len(first), len(second))
    as_long = abs(len(first) - len(second)) <= 2
    return as_long and float(np.corrcoef(first[:common], second[:common])[0, 1]) > 0.85


def test_sentence_is_spoken_at_a_natural_pace() -> None:
    """Nine words take two to five seconds, at a level that is heard and not clipped."""
    pcm = Voice().synthesize(TEXT)
    assert 2 < len(pcm) / 2 / SAMPLE_RATE < 5
    assert 0.03 < loudness(pcm) < 0.3
    assert np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() < 32_767


def test_words_are_spoken_when_the_engine_is_there() -> None:
    """With eSpeak NG the voice is a real one."""
    assert Voice().real


def test_same_text_sounds_the_same() -> None:
    """Nothing of one text is left in the next; only the engine's breath noise differs."""
    first = Voice().synthesize(TEXT)
    Voice().synthesize("Something else in between!")
    assert alike(Voice().synthesize(TEXT), first)


@pytest.mark.parametrize("text", ["", "   ", "…", "?!"])
def test_text_without_words_is_silent(text: str) -> None:
    """Nothing to say, nothing to hear."""
    assert Voice().synthesize(text) == b""


def test_unknown_voice_is_named() -> None:
    """A wrong voice is an error that says which."""
    with pytest.raises(ValueError, match="no voice 'xx-nowhere'"):
        Voice("xx-nowhere").synthesize("Hello.")


async def test_stream_yields_the_sentences_in_chunks() -> None:
    """The stream is what the sentences are one by one, cut to 20 ms."""
    chunks = [chunk async for chunk in Voice().stream("Hello there. How are you?")]
    assert alike(b"".join(chunks), Voice().synthesize("Hello there.") + Voice().synthesize("How are you?"))
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)


@pytest.mark.usefixtures("no_loader")
def test_without_the_engine_the_voice_babbles() -> None:
    """A missing engine is no error: tones, as long as the text."""
    voice = Voice()
    assert not voice.real
    pcm, longer = voice.synthesize("Hello there."), voice.synthesize("Hello there, this is a longer text.")
    assert 0.3 < len(pcm) / 2 / SAMPLE_RATE < 2
    assert len(longer) > 1.5 * len(pcm)
    assert 0.02 < loudness(pcm) < 0.3


def test_babble_has_a_gap_between_words() -> None:
    """Words can be told apart."""
    samples = _Babble().speak("no no")
    quiet = np.abs(samples) < 1e-6
    runs = np.diff(np.flatnonzero(~quiet))
    assert runs.max() > 0.03 * SAMPLE_RATE


def test_engine_starts_in_a_deep_folder(tmp_path: Path) -> None:
    """A data path longer than eSpeak's buffer still works, in a process of its own."""
    deep = tmp_path / ("d" * 100) / ("e" * 100) / "espeakng_loader"
    deep.parent.mkdir(parents=True)
    import espeakng_loader  # noqa: PLC0415

    deep.symlink_to(Path(espeakng_loader.__file__).parent, target_is_directory=True)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import espeakng_loader; assert len(espeakng_loader.get_data_path()) > 200\n"
        "from agenthuman_plugins.emulator.voice import Voice\n"
        "voice = Voice(); print(voice.real, len(voice.synthesize('Hello.')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(deep.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    real, size = result.stdout.split()
    assert real == "True"
    assert int(size) > SAMPLE_RATE // 2


@pytest.mark.parametrize(
    ("hertz", "gain"),
    [pytest.param(440, 1.0), pytest.param(5_000, 1.0), pytest.param(9_500, 0.0, id="alias")],
)
def test_resampling_keeps_speech_and_drops_what_would_alias(hertz: int, gain: float) -> None:
    """Tones below 8 kHz pass as they are; above, nothing is left."""
    tone = np.sin(2 * np.pi * hertz * np.arange(22_050) / 22_050)
    resampled = _resample(tone, 22_050)
    assert len(resampled) == 16_000
    middle = resampled[500:-500]
    assert np.sqrt(2 * (middle**2).mean()) == pytest.approx(gain, abs=0.01)
    expected = gain * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)[500:-500]
    assert middle == pytest.approx(expected, abs=0.02)
