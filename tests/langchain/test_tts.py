"""What a `tts` may be, and what it gives: pieces of 16 kHz speech as they come."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from agenthuman_plugins.client import ConfigurationError
from agenthuman_plugins.langchain.tts import Voice, VoiceError, check_installed

LIMIT_S = 30.0  # hang limit
PCM = bytes(range(200))


def with_rate(tts: Callable[[str], Any], rate: Any = 16_000) -> Any:
    tts.sample_rate = rate  # type: ignore[attr-defined]
    return tts


async def spoken(tts: Any) -> bytes:
    async with asyncio.timeout(LIMIT_S):
        return b"".join([pcm async for pcm in Voice(tts).speech("Hello.")])


def pieces(_: str) -> Iterator[bytes]:
    yield PCM[:3]
    yield PCM[3:]


async def async_pieces(_: str) -> AsyncIterator[bytes]:
    yield PCM[:3]
    yield PCM[3:]


async def pair(_: str) -> tuple[bytes, int]:
    return PCM, 16_000


async def awaited_pieces(text: str) -> AsyncIterator[bytes]:
    return async_pieces(text)


class AsyncObject:
    sample_rate = 16_000

    async def __call__(self, text: str) -> bytes:
        return PCM


@pytest.mark.parametrize(
    "tts",
    [
        pytest.param(lambda _: (PCM, 16_000), id="pair"),
        pytest.param(pair, id="async-pair"),
        pytest.param(lambda text: pair(text + "!"), id="function-that-makes-a-coroutine"),
        pytest.param(with_rate(lambda _: PCM), id="bytes"),
        pytest.param(lambda _: (bytearray(PCM), 16_000), id="bytearray"),
        pytest.param(with_rate(lambda _: [PCM[:100], b"", PCM[100:]]), id="list"),
        pytest.param(with_rate(pieces), id="generator"),
        pytest.param(with_rate(async_pieces), id="async-generator"),
        pytest.param(with_rate(awaited_pieces), id="async-function-that-makes-pieces"),
        pytest.param(lambda _: (pieces(_), 16_000), id="pieces-with-rate"),
        pytest.param(AsyncObject(), id="object-with-async-call"),
    ],
)
async def test_every_form_gives_the_same_speech(tts: Any) -> None:
    """All natural forms of a voice give its samples, whole and in order, and the loop is not blocked."""
    with blockbuster_ctx():
        assert await spoken(tts) == PCM


@pytest.mark.parametrize(
    ("tts", "text"),
    [
        pytest.param(lambda _: PCM, "gave no sample rate", id="no-rate"),
        pytest.param(lambda _: (PCM, "16000"), "gave no sample rate", id="rate-as-text"),
        pytest.param(lambda _: (PCM, 16_000, 1), "tuple of 3", id="triple"),
        pytest.param(lambda _: (PCM[:3], 16_000), "odd number of bytes", id="odd"),
        pytest.param(with_rate(lambda _: "speech"), "'str'", id="text"),
        pytest.param(with_rate(lambda _: ["speech"]), "'str' where bytes", id="text-pieces"),
        pytest.param(with_rate(lambda _: None), "'NoneType'", id="nothing"),
        pytest.param(lambda _: (b"RIFF" + PCM, 16_000), "a WAV file", id="wav"),
        pytest.param(with_rate(lambda _: [b"ID3" + PCM]), "an MP3 file", id="mp3"),
    ],
)
async def test_what_is_no_speech_is_told_in_a_sentence(tts: Any, text: str) -> None:
    """What a voice must not give is named, and never played as noise."""
    with pytest.raises(VoiceError, match=text):
        await spoken(tts)


@pytest.mark.parametrize("tts", ["voice", None, with_rate(lambda _: PCM, 0), with_rate(lambda _: PCM, "x")])
def test_wrong_voice_is_refused_at_construction(tts: Any) -> None:
    """What can be told without speaking is told to the programmer at once."""
    with pytest.raises(ConfigurationError, match="tts"):
        Voice(tts)


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
async def test_other_rates_are_resampled_without_loss(rate: int) -> None:
    """One second of any rate is one second of 16 kHz, the last samples included."""
    pcm = await spoken(with_rate(lambda _: [bytes(2 * rate // 10)] * 10, rate))
    assert len(pcm) / 2 == pytest.approx(16_000, abs=1)


async def test_own_errors_of_a_voice_come_out() -> None:
    """What the voice raises on its thread is what its reader gets."""

    def fail(_: str) -> Iterator[bytes]:
        yield PCM
        raise ConnectionError("voice is down")

    with pytest.raises(ConnectionError, match="voice is down"):
        await spoken(with_rate(fail))


async def test_first_piece_does_not_wait_for_the_last() -> None:
    """Speech is passed on while the voice still works."""
    go_on = threading.Event()

    def slow(_: str) -> Iterator[bytes]:
        yield PCM
        assert go_on.wait(LIMIT_S)
        yield PCM

    async with asyncio.timeout(LIMIT_S):
        speech = Voice(with_rate(slow)).speech("Hello.")
        assert await anext(speech) == PCM
        go_on.set()
        assert await anext(speech) == PCM


async def test_voice_that_is_given_up_is_stopped() -> None:
    """An endless voice does not run on when nobody listens any more."""
    stopped = threading.Event()

    def endless(_: str) -> Iterator[bytes]:
        try:
            while True:
                yield PCM
        finally:
            stopped.set()

    speech = Voice(with_rate(endless)).speech("Hello.")
    async with asyncio.timeout(LIMIT_S):
        await anext(speech)
        await speech.aclose()
        assert await asyncio.to_thread(stopped.wait, LIMIT_S)


def test_what_speaks_is_installed() -> None:
    """With the extra installed, nothing is complained of."""
    check_installed()


@pytest.mark.parametrize("missing", ["livekit", "livekit.rtc", "websockets"])
def test_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of the extra is missing, the programmer reads which command installs it, and nothing is imported."""
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "livekit":
        monkeypatch.delitem(sys.modules, "livekit.rtc", raising=False)
    with pytest.raises(ConfigurationError, match=r'pip install "agenthuman-plugins\[speech\]"'):
        check_installed()
