"""A voice without a network: eSpeak NG when `espeakng-loader` is installed, else a babble of tones.

`espeakng-loader` bundles eSpeak NG, which is GPL-3.0-or-later: it comes with the `[demo]` extra alone.
"""

import asyncio
import atexit
import ctypes
import functools
import logging
import math
import os
import re
import tempfile
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

_log = logging.getLogger(__name__)

SAMPLE_RATE = 16_000  # Hz; mono, signed 16-bit little-endian: what the avatar takes
CHUNK_BYTES = 640  # 20 ms
_BYTES_PER_SAMPLE = 2
_MAX_DATA_PATH_BYTES = 150  # eSpeak copies the path into 160 bytes; deep virtual environments are longer

# eSpeak's state is one per process, and not re-entrant: one lock, one thread.
_LOCK = threading.Lock()
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voice")

Samples = npt.NDArray[np.float64]


class _Engine(Protocol):
    sample_rate: int

    def speak(self, text: str) -> Samples:
        """Say a text; samples in [-1, 1]."""


class Voice:
    """Text to speech, offline and at a hundred times the speed of speech.

    Args:
        name: Voice of eSpeak NG.
    """

    def __init__(self, name: str = "en-us") -> None:
        self._name = name

    @property
    def real(self) -> bool:
        """Whether words are spoken; `False` means the babble."""
        with _LOCK:
            return isinstance(_engine(), _Espeak)

    def synthesize(self, text: str) -> bytes:
        """Say a text; blocks for some milliseconds.

        Returns:
            16 kHz, mono, signed 16-bit little-endian PCM; empty for a text without words.
        """
        if not re.search(r"\w", text):
            return b""
        with _LOCK:
            engine = _engine()
            if isinstance(engine, _Espeak):
                engine.use(self._name)
            samples = engine.speak(text)
            rate = engine.sample_rate
        pcm = np.clip(_resample(samples, rate), -1, 1) * 32_767
        return pcm.round().astype("<i2").tobytes()

    async def stream(self, text: str) -> AsyncIterator[bytes]:
        """Say a text sentence by sentence, off the event loop.

        Yields:
            Chunks of 20 ms, the last one of a sentence may be shorter.
        """
        loop = asyncio.get_running_loop()
        for sentence in re.split(r"(?<=[.!?…])\s+", text):
            pcm = await loop.run_in_executor(_THREAD, self.synthesize, sentence)
            for start in range(0, len(pcm), CHUNK_BYTES):
                yield pcm[start : start + CHUNK_BYTES]


@functools.cache
def _engine() -> _Engine:
    """The engine of this process. Call with the lock held."""
    try:
        return _Espeak()
    except ImportError:
        _log.info("No speech engine: install agenthuman-plugins[demo] for a voice with words.")
    except OSError as error:
        _log.warning("The speech engine does not start, so the voice has no words: %s", error)
    return _Babble()


class _Espeak:
    """eSpeak NG through its C interface (`speak_lib.h`).

    Raises:
        ImportError: `espeakng_loader` is not installed.
        OSError: The library or its data cannot be loaded.
    """

    _SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS
    _DO_NOT_EXIT = 1 << 15  # espeakINITIALIZE_DONT_EXIT: report missing data, do not end the process
    _UTF8 = 1
    _END_PAUSE = 0x1000
    _RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
    # Slower and livelier than the defaults: clear on small speakers, and good to watch on lips.
    _PARAMETERS = ((_RATE, 160), (_VOLUME, 110), (_PITCH, 45), (_RANGE, 62))

    def __init__(self) -> None:
        import espeakng_loader  # noqa: PLC0415 - optional

        self._library = ctypes.cdll.LoadLibrary(espeakng_loader.get_library_path())
        data_path = _short_path(Path(espeakng_loader.get_data_path()))
        self.sample_rate = int(
            self._library.espeak_Initialize(self._SYNCHRONOUS, 0, os.fsencode(data_path), self._DO_NOT_EXIT)
        )
        if self.sample_rate <= 0:
            raise OSError("eSpeak NG cannot read its data.")
        self._chunks: list[bytes] = []
        callback_type = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = callback_type(self._take)  # eSpeak keeps the pointer: keep the object
        self._library.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def use(self, name: str) -> None:
        """Change the voice.

        Raises:
            ValueError: eSpeak NG has no such voice.
        """
        if name == self._voice:
            return
        if self._library.espeak_SetVoiceByName(name.encode()):
            raise ValueError(f"eSpeak NG has no voice {name!r}.")
        for parameter, value in self._PARAMETERS:
            self._library.espeak_SetParameter(parameter, value, 0)
        self._voice = name

    def speak(self, text: str) -> Samples:
        """Say a text; samples in [-1, 1]."""
        self._chunks.clear()
        encoded = text.replace("\0", " ").encode()
        self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, self._UTF8 | self._END_PAUSE, None, None
        )
        self._library.espeak_Synchronize()
        return np.frombuffer(b"".join(self._chunks), "<i2") / 32_768

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int | None) -> int:
        if count > 0:
            self._chunks.append(ctypes.string_at(samples, count * _BYTES_PER_SAMPLE))
        return 0  # go on


def _short_path(path: Path) -> Path:
    """Make a path that eSpeak can hold: a link, kept as long as the process, if this one is too long."""
    if len(os.fsencode(path)) <= _MAX_DATA_PATH_BYTES:
        return path
    folder = tempfile.TemporaryDirectory(prefix="espeak")
    atexit.register(folder.cleanup)
    link = Path(folder.name) / "data"
    link.symlink_to(path, target_is_directory=True)
    return link


class _Babble:
    """Tones in the rhythm of speech: one per syllable, coloured by its vowel."""

    sample_rate = SAMPLE_RATE
    _SYLLABLE_S = 0.17
    _PAUSE_S = {",": 0.16, ";": 0.2, ":": 0.2, ".": 0.3, "!": 0.3, "?": 0.3}  # noqa: RUF012 - not changed
    _FORMANTS_HZ = {  # noqa: RUF012 - not changed
        "a": (750, 1_250), "e": (500, 1_800), "i": (320, 2_250), "o": (480, 850), "u": (340, 750), "y": (320, 2_100),
    }  # fmt: skip

    def speak(self, text: str) -> Samples:
        """Babble a text; samples in [-1, 1]."""
        parts = []
        for token in re.findall(r"\w+|[,;:.!?]", text.lower()):
            if token in self._PAUSE_S:
                parts.append(self._silence(self._PAUSE_S[token]))
                continue
            for vowels in re.findall(r"[aeiouy]+", token) or ["e"]:
                parts.append(self._syllable(vowels[0], len(parts)))
            parts.append(self._silence(0.05))
        return np.concatenate(parts) if parts else np.zeros(0)

    def _silence(self, duration_s: float) -> Samples:
        return np.zeros(round(duration_s * SAMPLE_RATE))

    def _syllable(self, vowel: str, index: int) -> Samples:
        t = np.arange(round(self._SYLLABLE_S * SAMPLE_RATE)) / SAMPLE_RATE
        pitch_hz = 150 + 18 * np.sin(1.9 * index) - 60 * t
        phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
        first, second = self._FORMANTS_HZ[vowel]
        tone = np.zeros(len(t))
        for harmonic in range(1, 22):
            hertz = 150 * harmonic
            gain = (
                np.exp(-(((hertz - first) / 160) ** 2))
                + 0.5 * np.exp(-(((hertz - second) / 220) ** 2))
                + 0.05
            )
            tone += gain * np.sin(harmonic * phase)
        envelope = np.sin(np.pi * np.clip(t / self._SYLLABLE_S, 0, 1)) ** 0.6
        return np.asarray(0.3 * tone / np.abs(tone).max() * envelope)


def _resample(samples: Samples, rate: int) -> Samples:
    """Change the rate to 16 kHz with a windowed sinc of 48 taps."""
    if rate == SAMPLE_RATE or not len(samples):
        return samples
    common = math.gcd(rate, SAMPLE_RATE)
    phases, step = SAMPLE_RATE // common, rate // common  # after so many output samples the taps come again
    half = 24
    cutoff = 0.92 * min(
        1.0, SAMPLE_RATE / rate
    )  # of the input's Nyquist frequency; a little room to fall off
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (half - 1, half + step)), 2 * half)
    resampled = np.zeros(int(len(samples) * SAMPLE_RATE / rate))
    taps = np.arange(2 * half) - (half - 1)
    for phase in range(min(phases, len(resampled))):
        first, rest = divmod(phase * step, phases)
        distance = rest / phases - taps
        kernel = cutoff * np.sinc(cutoff * distance) * (0.5 + 0.5 * np.cos(np.pi * distance / half))
        outputs = len(resampled[phase::phases])
        resampled[phase::phases] = windows[first::step][:outputs] @ kernel
    return resampled
