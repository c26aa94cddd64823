"""`agenthuman demo --say TEXT --record FILE.mp4`: the page's pipeline with a file at its end."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipecat.frames.frames import InterruptionFrame, TTSSpeakFrame

from agenthuman_plugins.demo._errors import DemoError
from agenthuman_plugins.demo._recorder import Recorder, RecordingTransport, unfinished
from agenthuman_plugins.demo._services import VIDEO_FPS, VIDEO_SIZE, Services
from agenthuman_plugins.demo._tts import OfflineTTSService
from agenthuman_plugins.demo._worker import make_transport_params, make_worker, running
from agenthuman_plugins.emulator.voice import Voice
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

_SILENCE_S = 0.6  # of the face alone, before and after each speech
_LISTENING_S = 1.2  # of the face alone after an interruption, as if the user spoke
_FIRST_PICTURE_TIMEOUT_S = 20.0
_MARGIN_S = 10.0  # beyond the speech's own length

OnProgress = Callable[[float, float], None]  # seconds done, seconds in all


def check_file(path: Path) -> None:
    """Refuse a file that could not be written, before anything is started.

    Raises:
        DemoError: What is wrong with it.
    """
    if path.suffix.lower() != ".mp4":
        raise DemoError(
            f"--record writes MP4, so its file needs a name that ends in .mp4, not {path.name!r}."
        )
    if not path.parent.is_dir():
        raise DemoError(f"There is no folder {path.parent}: create it, or record into another one.")
    try:
        if path.is_dir():
            raise DemoError(f"{path} is a folder: give --record the name of a file.")
        with unfinished(path):
            pass
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> DemoError:
    """Tell why there is no file."""
    return DemoError(f"{path} could not be written: {error.strerror or error}.")


def plan(speech_s: Sequence[float], interrupt_at: Sequence[float]) -> float:
    """Return the length of a recording, in seconds.

    Args:
        speech_s: How long each speech would last.
        interrupt_at: Seconds of the recording at which the user interrupts.

    Raises:
        DemoError: The avatar says nothing at one of these moments.
    """
    begin_s, end_s, left = _SILENCE_S, 0.0, sorted(interrupt_at)
    for length_s in speech_s:
        if left and begin_s <= left[0] < begin_s + length_s:
            end_s = left.pop(0)
            begin_s = end_s + _LISTENING_S
        else:
            end_s = begin_s + length_s
            begin_s = end_s + _SILENCE_S
    if left:
        raise DemoError(
            f"There is nothing to interrupt at second {left[0]:g}: the avatar does not speak then."
            f" What it says ends at second {end_s:.1f}."
        )
    return end_s + _SILENCE_S


@dataclass(frozen=True, slots=True)
class Script:
    """What happens in a recording.

    Attributes:
        speeches: Each text that the avatar says, and how many seconds it would last.
        interrupt_at: Seconds of the recording at which the user interrupts; the next text follows.
        length_s: Of the whole, in seconds.
    """

    speeches: Sequence[tuple[str, float]]
    interrupt_at: Sequence[float]
    length_s: float


def make_script(texts: Sequence[str], interrupt_at: Sequence[float]) -> Script:
    """Find out how long a recording will be.

    Raises:
        DemoError: There is nothing to say, or nothing to interrupt.
    """
    voice = Voice()
    speech_s = [len(voice.synthesize(text)) / 2 / SPEECH_SAMPLE_RATE for text in texts]
    if not all(speech_s):
        raise DemoError("There is nothing to say: --say needs a text with at least one word.")
    length_s = plan(speech_s, interrupt_at)
    return Script(list(zip(texts, speech_s, strict=True)), sorted(interrupt_at), length_s)


async def record(services: Services, script: Script, path: Path, on_progress: OnProgress) -> None:
    """Let the avatar say its texts, with the interruptions, and write that into `path`.

    Raises:
        DemoError: The avatar did not appear or did not speak to the end, or the file could not be written.
    """
    recorder = Recorder(path, size=VIDEO_SIZE, fps=VIDEO_FPS, sample_rate=SPEECH_SAMPLE_RATE)
    try:
        total_s = script.length_s
        take = _Take(services, recorder, lambda done_s: on_progress(min(done_s, total_s), total_s))
        await take.run(script)
        try:
            await recorder.finish()
        except OSError as error:
            raise not_written(path, error) from error
    finally:
        await recorder.abort()


class _Take:
    """One recording."""

    def __init__(self, services: Services, recorder: Recorder, on_picture: Callable[[float], None]) -> None:
        self._tell_picture = on_picture
        self._begin_s = 0.0
        self._shown = asyncio.Event()
        self._playing = asyncio.Event()
        self._played = asyncio.Event()
        self._no_avatar: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        output = RecordingTransport(
            recorder,
            make_transport_params(),
            on_picture=self._on_picture,
        )
        avatar = services.make_avatar()
        avatar.add_event_handler("on_playback_started", self._on_playback_started)
        avatar.add_event_handler("on_playback_finished", self._on_playback_finished)
        avatar.add_event_handler("on_fallback_started", self._on_fallback_started)
        self._worker = make_worker([OfflineTTSService(Voice()), avatar, output])

    async def run(self, script: Script) -> None:
        """Record each text with silence around it."""
        interrupt_at = [*script.interrupt_at]
        async with running(self._worker) as self._pipeline:
            await self._within(_FIRST_PICTURE_TIMEOUT_S, "The avatar did not appear", self._shown.wait())
            await asyncio.sleep(_SILENCE_S)
            for text, speech_s in script.speeches:
                self._playing.clear()
                self._played.clear()
                await self._worker.queue_frame(TTSSpeakFrame(text))
                said = self._heard_or_interrupted(interrupt_at)
                await self._within(speech_s + _MARGIN_S, "The avatar did not speak to its end", said)
                await asyncio.sleep(_SILENCE_S)

    async def _heard_or_interrupted(self, interrupt_at: list[float]) -> None:
        """Wait for the end of a speech; if its time for that comes first, interrupt it as the page does."""
        await self._playing.wait()
        try:
            async with asyncio.timeout_at(self._begin_s + interrupt_at[0] if interrupt_at else None):
                await self._played.wait()
        except TimeoutError:
            del interrupt_at[0]
            await self._worker.queue_frame(InterruptionFrame())
            await self._played.wait()
            await asyncio.sleep(_LISTENING_S - _SILENCE_S)

    async def _within(self, timeout_s: float, problem: str, step: Coroutine[Any, Any, object]) -> None:
        """Wait for a step of the recording, but no longer than it can take, and not without an avatar."""
        task = asyncio.create_task(step)
        try:
            ends: set[asyncio.Future[Any]] = {task, self._no_avatar, self._pipeline}
            done, _ = await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self._no_avatar in done:
                raise DemoError(f"There is no avatar to record: {self._no_avatar.result()}")
            if self._pipeline in done:
                raise DemoError("The pipeline of the recording has ended; the log may say why.") from (
                    self._pipeline.exception()
                )
            if task not in done:
                raise DemoError(f"{problem} within {timeout_s:.0f} s. Try again; a busy machine may need it.")
            task.result()
        finally:
            task.cancel()

    def _on_picture(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._shown.is_set():
            self._shown.set()
            self._begin_s = now
        self._tell_picture(now - self._begin_s)

    async def _on_playback_started(self, *_: object) -> None:
        self._playing.set()

    async def _on_playback_finished(self, *_: object) -> None:
        self._played.set()

    async def _on_fallback_started(self, _: AgentHumanVideoService, reason: str) -> None:
        if not self._no_avatar.done():
            self._no_avatar.set_result(reason)
