"""Pictures and voice into an MP4 file (H.264, AAC), in step by the time at which each of them came.

`Recorder` encodes on a thread of its own. `RecordingTransport` is the end of a pipeline that records.
"""

import asyncio
import contextlib
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from pipecat.frames.frames import OutputAudioRawFrame, OutputImageRawFrame, StartFrame
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

_QUEUE_LENGTH = 500  # ten seconds of pictures and sound: far more than the encoder ever lags behind
_UNPACED_FPS = 1_000  # lets Pipecat hand on each picture at once
_PAUSE_S = 0.3  # a longer gap separates utterances; a shorter one is a hiccup of the machine, which no file must keep
_JITTER = 0.8  # of the distance between pictures: within it, one still belongs to the next place on the grid
_FINISH_TIMEOUT_S = 20.0

_Item = tuple[str, float, bytes]


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A file beside its later place, since a rename must not cross file systems; it does not stay."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".mp4")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


class Recorder:
    """Writes a file that appears under its name only when it is complete.

    Times are seconds on any one clock. Pictures are put on a grid of `fps`; sound is put where its first piece
    came, and further pieces right behind it, with silence between utterances.

    Args:
        path: The file; it is replaced if it exists.
        size: Width and height of the pictures.
        fps: Pictures per second of the source.
        sample_rate: Hz of the sound, 16-bit mono.
    """

    def __init__(self, path: Path, *, size: tuple[int, int], fps: int, sample_rate: int) -> None:
        self._path = path
        self._size = size
        self._fps = fps
        self._sample_rate = sample_rate
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._keep = False
        self._error: Exception | None = None
        self._ended = False  # whether the thread has taken the last item
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add_picture(self, rgb: bytes, at_s: float) -> None:
        """Add a picture."""
        if self._items.qsize() < _QUEUE_LENGTH:  # a lost picture is better than a full memory
            self._put(("picture", at_s, rgb))

    def add_sound(self, pcm: bytes, at_s: float) -> None:
        """Add a piece of sound."""
        self._put(("sound", at_s, pcm))

    async def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            OSError: It could not be written.
        """
        self._keep = True
        await self._end()
        if self._thread.is_alive():
            raise TimeoutError(f"the encoder was not done within {_FINISH_TIMEOUT_S:g} s")
        if self._error is not None:
            raise self._error

    async def abort(self) -> None:
        """Stop and leave no file; after `finish`, do nothing."""
        await self._end()

    async def _end(self) -> None:
        self._items.put(None)
        await asyncio.to_thread(self._thread.join, _FINISH_TIMEOUT_S)

    def _put(self, item: _Item) -> None:
        if self._error is None:
            self._items.put(item)

    # From here on: on the thread

    def _run(self) -> None:
        try:
            self._write_file()
        except Exception as error:  # noqa: BLE001 - reported by `finish`
            self._error = error
            while not self._ended:
                self._take()

    def _take(self) -> _Item | None:
        item = self._items.get()
        self._ended = item is None
        return item

    def _write_file(self) -> None:
        with unfinished(self._path) as file:
            self._encode(str(file))
            if self._keep:
                umask = os.umask(0)
                os.umask(umask)
                file.chmod(0o666 & ~umask)  # as an ordinary new file, not a private one
                file.replace(self._path)

    def _encode(self, name: str) -> None:
        with av.open(name, "w", options={"movflags": "+faststart"}) as container:
            track = _Track(container, self._size, self._fps, self._sample_rate)
            while (item := self._take()) is not None:
                kind, at_s, data = item
                if kind == "picture":
                    track.add_picture(data, at_s)
                else:
                    track.add_sound(data, at_s)
            track.close()


class _Track:
    """The two streams of a file and how far each is written."""

    def __init__(
        self, container: av.container.OutputContainer, size: tuple[int, int], fps: int, sample_rate: int
    ) -> None:
        self._container = container
        self._size = size
        self._fps = fps
        self._sample_rate = sample_rate
        self._start_s: float | None = None
        self._next_picture = 0  # index of the first free place on the grid
        self._next_sample = 0
        self._video = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "20"})
        self._video.width, self._video.height = size
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.thread_count = 1  # leaves the other cores to the avatar
        self._video.codec_context.time_base = Fraction(1, fps)
        self._audio = container.add_stream("aac", rate=sample_rate, layout="mono")
        self._audio.bit_rate = 96_000

    def add_picture(self, rgb: bytes, at_s: float) -> None:
        due = self._position(at_s) * self._fps
        place = self._next_picture
        if due < place - _JITTER:
            return  # after a hiccup pictures come all at once; to show each would delay those after them for good
        if due > place + _JITTER:
            place = round(due)
        width, height = self._size
        frame = av.VideoFrame.from_ndarray(
            np.frombuffer(rgb, np.uint8).reshape(height, width, 3), format="rgb24"
        )
        frame.pts, frame.time_base = place, Fraction(1, self._fps)
        self._container.mux(self._video.encode(frame))
        self._next_picture = place + 1

    def add_sound(self, pcm: bytes, at_s: float) -> None:
        place = round(self._position(at_s) * self._sample_rate)
        if place - self._next_sample > _PAUSE_S * self._sample_rate:
            self._write_sound(bytes(2 * (place - self._next_sample)))
        self._write_sound(pcm)

    def close(self) -> None:
        """Bring the sound to the length of the pictures and write what the encoders hold."""
        missing = self._next_picture * self._sample_rate // self._fps - self._next_sample
        if missing > 0:
            self._write_sound(bytes(2 * missing))
        for stream in (self._video, self._audio):
            self._container.mux(stream.encode(None))

    def _position(self, at_s: float) -> float:
        if self._start_s is None:
            self._start_s = at_s
        return max(0.0, at_s - self._start_s)

    def _write_sound(self, pcm: bytes) -> None:
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate = self._sample_rate
        frame.pts, frame.time_base = self._next_sample, Fraction(1, self._sample_rate)
        self._container.mux(self._audio.encode(frame))
        self._next_sample += len(pcm) // 2


class RecordingTransport(BaseOutputTransport):
    """The output of a pipeline that goes into a file.

    Args:
        recorder: Takes what the pipeline puts out.
        params: Must match the recorder's size and rate. The pace of pictures is the recorder's business.
        on_picture: Called after each picture.
    """

    def __init__(
        self,
        recorder: Recorder,
        params: TransportParams,
        *,
        on_picture: Callable[[], None],
    ) -> None:
        super().__init__(params.model_copy(update={"video_out_framerate": _UNPACED_FPS}))
        self._recorder = recorder
        self._on_picture = on_picture
        self._heard_s = 0.0  # until when what was recorded is heard

    async def start(self, frame: StartFrame) -> None:
        """Tell the pipeline that it may put out."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        """Record a picture at its time of arrival."""
        self._recorder.add_picture(frame.image, asyncio.get_running_loop().time())
        self._on_picture()
        return True

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Record a piece of voice, and return when it has been heard.

        As with other outputs, voice that comes faster waits in the queue. The service sees how long, and delays the
        video by as much.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s - self._heard_s > _PAUSE_S:  # where the recorder begins anew
            self._heard_s = now_s
        self._recorder.add_sound(frame.audio, now_s)
        self._heard_s += frame.num_frames / frame.sample_rate
        await asyncio.sleep(max(self._heard_s - now_s, 0.0))
        return True
