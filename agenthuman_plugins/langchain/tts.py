"""What a `tts` may be, and the one form that it is brought into: pieces of 16 kHz speech, as they come."""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias, TypeGuard

from agenthuman_plugins.client import ConfigurationError
from agenthuman_plugins.speech import SPEECH_SAMPLE_RATE

_MIN_RATE, _MAX_RATE = 4_000, 192_000  # Hz
_PIECES_AHEAD = 16  # that a voice on a thread may be ahead of the avatar's link
_NEEDED = ("livekit.rtc", "websockets")  # what the speech links stand on
_FILES = {b"RIFF": "a WAV", b"ID3": "an MP3", b"OggS": "an Ogg", b"fLaC": "a FLAC"}

Pcm: TypeAlias = bytes | bytearray | memoryview
Pieces: TypeAlias = Iterable[Pcm] | AsyncIterable[Pcm]
Speech: TypeAlias = Pcm | Pieces | tuple[Pcm | Pieces, int]


class TextToSpeech(Protocol):
    """What the toolkit takes as `tts`: a function, or any other callable.

    It returns 16-bit signed little-endian mono samples without a file header, whole or, so that the avatar begins
    sooner, in pieces as they are made.

    A plain function runs on a thread, an async one on the agent's loop (on a loop of the toolkit's own if the agent
    is sync). 16 kHz is passed on as it is, any other rate is resampled, which needs the extra `speech`.

    Example:
        ```python
        def plain(text: str) -> tuple[bytes, int]:  # the samples and their rate in Hz
            return voice.synthesize(text), 22_050


        async def streaming(text: str) -> AsyncIterator[bytes]:
            async for piece in voice.stream(text):
                yield piece


        streaming.sample_rate = 24_000  # unless the samples come with their rate
        toolkit = AgentHumanToolkit(tts=streaming)
        ```
    """

    def __call__(self, text: str, /) -> Speech | Awaitable[Speech]:
        """Make speech of a text."""


def check_installed() -> None:
    """Check, without importing it, that what carries speech to an avatar is installed.

    Raises:
        ConfigurationError: It is not; the text names the extra that installs it.
    """
    if not all(map(_is_installed, _NEEDED)):
        raise ConfigurationError(
            'Speaking needs an extra that is not installed: run `pip install "agenthuman-plugins[speech]"`.'
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # what it is a part of is missing
        return False


class VoiceError(Exception):
    """Raised when the `tts` gives something that is not speech; the text says what."""


class Voice:
    """Makes speech with what the application has given as `tts`.

    Args:
        tts: See `TextToSpeech`.

    Raises:
        ConfigurationError: It cannot be called, or its `sample_rate` is no rate.
    """

    def __init__(self, tts: TextToSpeech) -> None:
        if not callable(tts):
            raise ConfigurationError(
                f"tts must be a function from text to speech, not {type(tts).__name__!r}."
            )
        rate = getattr(tts, "sample_rate", None)
        if rate is not None and not _is_rate(rate):
            raise ConfigurationError(f"tts.sample_rate must be a number of Hz, not {rate!r}.")
        self._tts = tts
        self._rate: int | None = rate

    async def speech(self, text: str) -> AsyncGenerator[bytes, None]:
        """Yield the speech for a text in whole 16 kHz samples, each piece as soon as it is there.

        Raises:
            VoiceError: What the `tts` gave is no speech.
            Exception: Whatever the `tts` raises.
        """
        made: Any = await self._call(text)
        rate = self._rate
        if isinstance(made, tuple):
            if len(made) != 2:  # noqa: PLR2004 - a pair
                raise VoiceError(f"The tts gave a tuple of {len(made)}: expected (pcm, sample_rate).")
            made, rate = made
        if not _is_rate(rate):
            raise VoiceError(
                "The tts gave no sample rate: return (pcm, sample_rate), or set an attribute sample_rate on the tts."
            )
        samples = _Samples(rate)
        async for piece in _pieces(made):
            if pcm := samples.take(piece):
                yield pcm
        if pcm := samples.end():
            yield pcm

    async def _call(self, text: str) -> Any:
        tts: Callable[[str], Any] = self._tts
        # B004: not whether there is a __call__, but whether it is async.
        if inspect.iscoroutinefunction(tts) or inspect.iscoroutinefunction(getattr(tts, "__call__", None)):  # noqa: B004
            return await tts(text)
        # A plain function may work or wait for seconds. If it only makes something async, that is awaited here.
        [made] = [made async for made in _from_thread(lambda: [tts(text)])]
        return await made if inspect.isawaitable(made) else made


class _Samples:
    """Bytes of any cut into whole samples at 16 kHz."""

    def __init__(self, rate: int) -> None:
        self._odd = b""
        self._begun = False
        self._resampler = None if rate == SPEECH_SAMPLE_RATE else _resampler(rate)

    def take(self, piece: object) -> bytes:
        """Take the next piece, return what is ready."""
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise VoiceError(f"The tts gave {type(piece).__name__!r} where bytes of PCM were expected.")
        pcm = self._odd + bytes(piece)
        if not self._begun and pcm:
            self._begun = True
            for mark, kind in _FILES.items():
                if pcm.startswith(mark):
                    raise VoiceError(f"The tts gave {kind} file: give its bare 16-bit samples.")
        # What comes over a network is cut anywhere, also in the middle of a sample.
        whole = len(pcm) & ~1
        pcm, self._odd = pcm[:whole], pcm[whole:]
        if self._resampler is None or not pcm:
            return pcm
        return b"".join(frame.data.tobytes() for frame in self._resampler.push(bytearray(pcm)))

    def end(self) -> bytes:
        """Return what the resampler holds back."""
        if self._odd:
            raise VoiceError("The tts gave an odd number of bytes, so they are not 16-bit samples.")
        if self._resampler is None or not self._begun:
            return b""
        return b"".join(frame.data.tobytes() for frame in self._resampler.flush())


def _resampler(rate: int) -> Any:
    try:
        from livekit import rtc  # noqa: PLC0415 - an extra, and only for other rates than the avatar's own
    except ImportError:
        raise VoiceError(
            f"Speech at {rate} Hz must be resampled: give {SPEECH_SAMPLE_RATE} Hz, "
            'or run `pip install "agenthuman-plugins[speech]"`.'
        ) from None
    return rtc.AudioResampler(rate, SPEECH_SAMPLE_RATE)


async def _pieces(made: Any) -> AsyncIterator[Any]:
    if isinstance(made, bytes | bytearray | memoryview):
        yield made
    elif isinstance(made, AsyncIterable):
        async for piece in made:
            yield piece
    elif isinstance(made, Iterable) and not isinstance(made, str):
        async for piece in _from_thread(lambda: made):
            yield piece
    else:
        raise VoiceError(
            f"The tts gave {type(made).__name__!r}: expected (pcm, sample_rate), or pieces of PCM."
        )


async def _from_thread(make: Callable[[], Iterable[Any]]) -> AsyncGenerator[Any, None]:
    """Iterate on a thread, a few items ahead.

    A thread of its own and a daemon: nothing can stop one that hangs in a synthesiser, but it must not keep the
    program from ending, nor the next call waiting.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue()  # whether there is one, and it or the error
    slots = threading.Semaphore(_PIECES_AHEAD)
    stopped = threading.Event()

    def put(*item: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(items.put_nowait, item)

    def iterate() -> None:
        try:
            for item in make():
                slots.acquire()
                if stopped.is_set():
                    return
                put(True, item)
            put(False, None)
        except Exception as error:  # noqa: BLE001 - raised by the reader
            put(False, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=[iterate], name="agenthuman tts", daemon=True).start()
    try:
        while True:
            there, item = await items.get()
            if not there:
                if item is not None:
                    raise item
                return
            yield item
            slots.release()
    finally:
        stopped.set()
        slots.release()


def _is_rate(rate: object) -> TypeGuard[int]:
    return isinstance(rate, int) and not isinstance(rate, bool) and _MIN_RATE <= rate <= _MAX_RATE
