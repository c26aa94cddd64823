import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from pipecat.frames.frames import OutputAudioRawFrame
from pipecat.transports.base_transport import TransportParams

from agenthuman_plugins.demo import _recorder
from agenthuman_plugins.demo._recorder import Recorder, RecordingTransport
from tests.demo import recording

SIZE, FPS, RATE = (160, 120), 25, 16_000
START_S = 1_000.0  # any clock


def picture(level=90):
    return bytes([level]) * (SIZE[0] * SIZE[1] * 3)


def tone(seconds):
    return (8_000 * np.sin(np.arange(round(seconds * RATE)) * 0.3)).astype(np.int16).tobytes()


def recorder(path):
    return Recorder(path, size=SIZE, fps=FPS, sample_rate=RATE)


async def test_sound_lands_where_it_came(tmp_path):
    """Two utterances, each in jittering pieces: each is whole and at its own time, with silence around."""
    target = recorder(tmp_path / "out.mp4")
    jitter = np.random.default_rng(1).uniform(-0.015, 0.015, 200)
    for n in range(100):
        at_s = n / FPS
        target.add_picture(picture(), START_S + at_s + abs(jitter[n]))
        if 0.8 <= at_s < 1.6 or 2.4 <= at_s < 3.2:
            target.add_sound(tone(0.04), START_S + at_s + jitter[n + 100])
    await target.finish()
    made = recording.read(tmp_path / "out.mp4")
    assert made.codecs == ("h264", "aac")
    voiced = np.flatnonzero(made.energy > 0.05) * 0.01
    gap = np.flatnonzero(np.diff(voiced) > 0.1)
    assert len(gap) == 1
    first, second = voiced[: gap[0] + 1], voiced[gap[0] + 1 :]
    assert (first[0], second[0]) == pytest.approx((0.8, 2.4), abs=0.04)
    assert (np.ptp(first), np.ptp(second)) == pytest.approx((0.8, 0.8), abs=0.05)


async def test_pictures_come_on_a_steady_grid(tmp_path):
    """Jitter of arrival does not show; a picture that is missing leaves its place empty."""
    target = recorder(tmp_path / "out.mp4")
    for n in range(50):
        if n != 20:
            target.add_picture(picture(), START_S + n / FPS + (0.012 if n % 3 else 0.0))
    await target.finish()
    places = np.round(recording.read(tmp_path / "out.mp4").picture_times * FPS).astype(int).tolist()
    assert places == [n for n in range(50) if n != 20]


async def test_a_hiccup_does_not_delay_the_pictures_after_it(tmp_path):
    """Pictures that come all at once after a stall are not shown one by one: those after them come on time."""
    target = recorder(tmp_path / "out.mp4")
    for n in range(50):
        target.add_picture(picture(), START_S + max(n, 20 if n >= 10 else 0) / FPS)
    await target.finish()
    places = np.round(recording.read(tmp_path / "out.mp4").picture_times * FPS).astype(int).tolist()
    assert places[:10] == list(range(10))
    assert places[-28:] == list(range(22, 50))


async def test_sound_is_as_long_as_the_pictures(tmp_path):
    """Players stop at the shorter stream, so silence goes on to the last picture."""
    target = recorder(tmp_path / "out.mp4")
    for n in range(50):
        target.add_picture(picture(), START_S + n / FPS)
    await target.finish()
    made = recording.read(tmp_path / "out.mp4")
    assert len(made.voice) / RATE == pytest.approx(2.0, abs=0.1)


async def test_the_file_appears_only_when_it_is_complete(tmp_path):
    """Until `finish` there is nothing under the name, and an older file stays as it is."""
    path = tmp_path / "out.mp4"
    path.write_text("older")
    target = recorder(path)
    target.add_picture(picture(), START_S)
    assert path.read_text() == "older"
    await target.finish()
    assert recording.read(path).picture_times.size == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


async def test_an_aborted_recording_leaves_nothing(tmp_path):
    """Neither the file nor a temporary one."""
    target = recorder(tmp_path / "out.mp4")
    target.add_picture(picture(), START_S)
    await target.abort()
    assert list(tmp_path.iterdir()) == []


async def test_what_keeps_the_file_from_being_written_is_raised(tmp_path):
    """An error on the encoder's thread comes out of `finish`, and does not block what is recorded after it."""
    target = recorder(tmp_path / "gone" / "out.mp4")
    for n in range(1_000):
        target.add_picture(picture(), START_S + n / FPS)
    with pytest.raises(OSError, match="No such file"):
        await target.finish()


async def test_what_fails_at_the_very_end_is_raised_at_once(tmp_path, monkeypatch):
    """A disk that is full when the file gets its name does not leave the command waiting."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    target = recorder(tmp_path / "out.mp4")
    target.add_picture(picture(), START_S)
    with pytest.raises(OSError, match="No space left"):
        await target.finish()
    assert not target._thread.is_alive()
    assert list(tmp_path.iterdir()) == []


async def test_an_encoder_that_does_not_come_to_its_end_is_no_success(tmp_path, monkeypatch):
    """Without a file nobody is told that there is one."""
    stuck = threading.Event()
    monkeypatch.setattr(_recorder, "_FINISH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(_recorder._Track, "close", lambda _: stuck.wait(60))
    target = recorder(tmp_path / "out.mp4")
    target.add_picture(picture(), START_S)
    with pytest.raises(TimeoutError, match="encoder"):
        await target.finish()
    stuck.set()
    target._thread.join(20)


async def test_no_sound_is_lost_while_the_encoder_is_behind(tmp_path, monkeypatch):
    """Pictures may be left out; sound that is missing would bring all that follows out of step."""
    going = threading.Event()
    encode = Recorder._encode
    monkeypatch.setattr(_recorder, "_QUEUE_LENGTH", 10)
    monkeypatch.setattr(Recorder, "_encode", lambda self, name: going.wait(60) and encode(self, name))
    target = recorder(tmp_path / "out.mp4")
    for n in range(50):
        target.add_picture(picture(), START_S + n / FPS)
        target.add_sound(tone(1 / FPS), START_S + n / FPS)
    going.set()
    await target.finish()
    made = recording.read(tmp_path / "out.mp4")
    assert made.picture_times.size < 50
    assert len(made.voice) / RATE == pytest.approx(2.0, abs=0.1)


async def test_voice_takes_its_time_as_at_a_loudspeaker(tmp_path, monkeypatch):
    """A piece counts as written when it has been heard: by what waits, the service knows how late the voice is."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    target = recorder(tmp_path / "out.mp4")
    transport = RecordingTransport(target, TransportParams(), on_picture=lambda: None)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(3):
        await transport.write_audio_frame(OutputAudioRawFrame(tone(0.04), RATE, 1))
    monkeypatch.undo()
    await target.abort()
    assert waits == pytest.approx([0.04, 0.08, 0.12], abs=0.02)
