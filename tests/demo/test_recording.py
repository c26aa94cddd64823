"""`agenthuman demo --say TEXT --record FILE.mp4`, from the command to what is in the file."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import MappingProxyType, ModuleType

import numpy as np
import pytest

from agenthuman_plugins.demo import _recording
from agenthuman_plugins.demo._errors import DemoError
from agenthuman_plugins.demo._services import Services
from agenthuman_plugins.emulator.voice import Voice
from tests import proxies as dead
from tests.demo import recording

pytestmark = pytest.mark.chain

SENTENCE = "The quick brown fox jumps over the lazy dog."
LIMIT_S = 30.0
INTERRUPTED_S = 2.2  # in mid-sentence
SILENT_WITHIN_S = 0.15  # a block of voice that is being heard, and what the file rounds
STEADY_FPS = 15  # of 25: a busy machine paints fewer, a defect drops every other one
TAKES = 3  # another program's burst of work spoils one take, a defect spoils all


def record(path, *options, says=SENTENCE, before=(), env=MappingProxyType({})):
    command = [sys.executable, "-m", "agenthuman_plugins", "demo"]
    return subprocess.run(
        [*before, *command, "--say", says, *options, "--record", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env={**os.environ, "COLUMNS": "200", **env},
    )


def check_takes(take, path, check_take=None) -> None:
    """Record until a take is good, but not for ever."""
    for number in range(1, TAKES + 1):
        take()
        try:
            (check_take or check)(recording.read(path))
        except AssertionError:
            if number == TAKES:
                raise
        else:
            return


def check(made: recording.Recording) -> None:
    begin_s, end_s = made.speech
    assert made.codecs == ("h264", "aac")
    assert made.fps(begin_s, end_s) >= STEADY_FPS
    assert end_s - begin_s == pytest.approx(_spoken_s(), abs=0.1)
    assert not made.mouth_open[made.picture_times < begin_s - 0.1].any()
    assert not made.mouth_open[made.picture_times > end_s + 0.25].any()
    assert (made.picture_times < begin_s - 0.1).sum() >= 8
    assert (made.picture_times > end_s + 0.25).sum() >= 8
    assert made.mouth_open.mean() > 0.3
    assert abs(made.median_lag_s()) <= 0.08


def _spoken_s() -> float:
    """How long the voice sounds before it goes to the avatar."""
    voice = np.frombuffer(Voice().synthesize(SENTENCE), np.int16).astype(np.float32) / 32_768
    return float(np.subtract(*recording.voiced_span(voice, 16_000)[::-1]))


@pytest.mark.media
@pytest.mark.usefixtures("network")
def test_the_file_holds_the_avatar_saying_it(tmp_path):
    """A steady picture, the whole voice, the mouth closed around it, and both in step."""

    def take():
        done = record(tmp_path / "out.mp4")
        assert done.returncode == 0, done.stdout
        assert "Sessions opened: 1, all ended" in done.stdout
        assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]

    check_takes(take, tmp_path / "out.mp4")


@pytest.mark.media
@pytest.mark.usefixtures("network")
def test_the_avatar_is_interrupted_and_goes_on_with_the_next_text(tmp_path):
    """The voice stops at that second, the mouth with it, and the next text is whole, with lips and voice in step."""

    def take():
        done = record(tmp_path / "out.mp4", "--interrupt-at", str(INTERRUPTED_S), "--say", SENTENCE)
        assert done.returncode == 0, done.stdout
        assert "Sessions opened: 1, all ended" in done.stdout

    def check_interrupted(made):
        (begin_s, stopped_s), (again_s, end_s) = made.speeches
        assert begin_s < INTERRUPTED_S
        assert INTERRUPTED_S - 0.1 <= stopped_s <= INTERRUPTED_S + SILENT_WITHIN_S
        silence = (made.picture_times > stopped_s + 0.25) & (made.picture_times < again_s - 0.1)
        assert silence.sum() >= 8
        assert not made.mouth_open[silence].any()
        assert end_s - again_s == pytest.approx(_spoken_s(), abs=0.1)
        # The speech after an interruption comes at once as far as the avatar is ahead, and its picture waits for it.
        assert abs(recording.voice_behind_s(made, again_s, end_s, SENTENCE)) <= 0.06

    check_takes(take, tmp_path / "out.mp4", check_interrupted)


def test_the_clip_of_the_front_pages():
    """It is short and small, holds its interruptions, and lips and voice are in step also after one."""
    loader = SourceFileLoader("clip", str(Path(__file__).parents[2] / "scripts" / "clip"))
    clip = ModuleType("clip")
    clip.__file__ = loader.path
    loader.exec_module(clip)
    made = recording.read(clip.CLIP)
    assert 20 <= made.picture_times[-1] <= 40
    assert clip.CLIP.stat().st_size < 2_000_000
    assert clip.PICTURE.stat().st_size < 1_500_000
    speeches = made.speeches
    assert len(speeches) == len(clip.SPEECHES)
    for interrupted_s, (_, stopped_s) in zip(clip.INTERRUPT_AT_S, speeches, strict=False):
        assert interrupted_s - 0.1 <= stopped_s <= interrupted_s + SILENT_WITHIN_S
    assert min(made.fps(*span) for span in speeches) >= 24
    assert abs(recording.voice_behind_s(made, *speeches[1], clip.SPEECHES[1])) <= 0.04


@pytest.mark.media
@pytest.mark.usefixtures("network")
def test_proxies_of_the_environment_are_left_aside(tmp_path):
    """Where the environment names proxies that lead nowhere, client, service and avatar reach each other directly."""
    done = record(tmp_path / "out.mp4", says="Hello.", env=dead.SOCKS5)
    assert done.returncode == 0, done.stdout
    assert "Sessions opened: 1, all ended" in done.stdout
    recording.read(tmp_path / "out.mp4")


@pytest.mark.media
def test_without_a_network_the_avatar_runs_in_the_demo(tmp_path):
    """With loopback alone the file is as good, and one sentence tells what is different."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("no way to take the network away: needs root, unshare and ip")
    alone = (unshare, "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")

    def take():
        done = record(tmp_path / "out.mp4", before=alone)
        assert done.returncode == 0, done.stdout
        assert "no network interface besides loopback" in done.stdout

    check_takes(take, tmp_path / "out.mp4")
    page = subprocess.run(
        [*alone, sys.executable, "-m", "agenthuman_plugins", "demo", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert page.returncode == 1
    assert "--record FILE.mp4" in page.stderr
    assert "Traceback" not in page.stderr


async def test_a_pipeline_that_dies_is_told_at_once(tmp_path, monkeypatch):
    """It is not taken for a busy machine, and what killed it is not lost."""

    async def die():
        raise RuntimeError("test")

    @contextlib.asynccontextmanager
    async def running(_):
        yield asyncio.ensure_future(die())

    monkeypatch.setattr(_recording, "running", running)
    services = Services("http://127.0.0.1:9", "test-key", in_process=True)
    script = _recording.make_script([SENTENCE], [])
    with pytest.raises(DemoError, match="pipeline") as caught:
        await _recording.record(services, script, tmp_path / "out.mp4", lambda *_: None)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not list(tmp_path.iterdir())
