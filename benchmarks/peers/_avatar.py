"""The one avatar behind every service, and what reached it over the wire."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from agenthuman_plugins.speech import AvatarAudio, AvatarVideo, InProcessSpeechLink, LinkEvent
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

ItemT = TypeVar("ItemT")

LOUD = 1_000  # a sample beyond this is speech; the tones are at 8000
FPS = 25


def is_loud(pcm: bytes) -> bool:
    return bool((np.abs(np.frombuffer(pcm, np.int16).astype(int)) > LOUD).any())


@dataclass
class Wire:
    """What a vendor was sent: when, and how much."""

    speech: list[tuple[float, float]] = field(default_factory=list)  # time, seconds of speech
    ends: list[float] = field(default_factory=list)
    clears: list[float] = field(default_factory=list)

    @property
    def speech_s(self) -> float:
        return sum(seconds for _, seconds in self.speech)


class Avatar:
    """A `SpeechLink` to an avatar that plays in real time and is a way off.

    Its voice and picture are `transit_s` under way, as over a network with its jitter buffers: whoever stops it
    still gets what was sent before. What is reported, and what is sent to it, arrives at once.

    Args:
        rate: Hz of the voice to deliver.
        width: Pixels of the picture, whose brightness follows the voice.
        height: Pixels of the picture.
        transit_s: Delay of voice and picture.
        join_s: How long the avatar takes to appear.
        still: It sends no picture by itself, only what `show` is given.
        tint: Blue of its picture, by which it can be told from another one; `None` makes it as grey as the rest.
    """

    def __init__(
        self,
        *,
        rate: int,
        width: int = 64,
        height: int = 48,
        transit_s: float = 0.4,
        join_s: float = 0.0,
        still: bool = False,
        tint: int | None = None,
    ) -> None:
        self.wire = Wire()
        self.is_there = False
        self.heard: list[
            tuple[float, bool]
        ] = []  # when voice arrived at the other side, and whether it was loud
        self._transit_s = transit_s
        self._still = still
        self._link = InProcessSpeechLink(
            width=width,
            height=height,
            fps=FPS,
            audio_sample_rate=rate,
            connect_delay_s=join_s,
            draw=None if tint is None else _tinted(tint, width * height),
        )
        # Unbounded, as the queues of the SDKs are where a benchmark does not say otherwise. `None` ends a stream.
        self._audio: asyncio.Queue[tuple[float, AvatarAudio] | None] = asyncio.Queue()  # with the arrival
        self._video: asyncio.Queue[AvatarVideo | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, *, timeout_s: float) -> None:
        await self._link.connect(timeout_s=timeout_s)
        self.is_there = True
        self._tasks = [
            asyncio.create_task(self._carry(self._link.audio(), self._take_audio)),
            asyncio.create_task(self._carry(self._link.video(), self._take_picture)),
        ]

    async def send(self, pcm: bytes) -> int:
        self.took(len(pcm) / 2 / SPEECH_SAMPLE_RATE)
        return await self._link.send(pcm)

    def took(self, seconds: float) -> None:
        self.wire.speech.append((time.perf_counter(), seconds))

    async def speak(self, pcm: bytes, rate: int) -> None:
        """Take speech at another rate, as some vendors do."""
        self.took(len(pcm) / 2 / rate)
        if self.is_there:
            await self._link.send(_resampled(pcm, rate, SPEECH_SAMPLE_RATE))

    async def end_utterance(self) -> None:
        self.wire.ends.append(time.perf_counter())
        await self._link.end_utterance()

    async def interrupt(self) -> None:
        self.wire.clears.append(time.perf_counter())
        await self._link.interrupt()

    async def wait_playback(self, *, timeout_s: float) -> bool:
        return await self._link.wait_playback(timeout_s=timeout_s)

    def events(self) -> AsyncIterator[LinkEvent]:
        return self._link.events()

    async def audio(self) -> AsyncIterator[AvatarAudio]:
        while arrival := await self._audio.get():
            arrived, audio = arrival
            self.heard.append((arrived, is_loud(audio.pcm)))
            yield audio

    async def video(self) -> AsyncIterator[AvatarVideo]:
        """The pictures; like a real link's stream, it skips to the newest."""
        while picture := await self._video.get():
            while not self._video.empty():
                picture = self._video.get_nowait() or picture
            yield picture

    def show(self, picture: AvatarVideo) -> None:
        """Let a picture arrive at once."""
        self._video.put_nowait(picture)

    @property
    def unread_pictures(self) -> int:
        return self._video.qsize()

    async def every_picture(self) -> AsyncIterator[AvatarVideo]:
        while picture := await self._video.get():
            yield picture

    async def pieces(self, piece_s: float) -> AsyncIterator[AvatarAudio]:
        """The voice in shorter pieces, each at its time: how an SDK hands it on."""
        while arrival := await self._audio.get():
            arrived, audio = arrival
            size = round(audio.sample_rate * piece_s) * 2
            for number, start in enumerate(range(0, len(audio.pcm), size)):
                pcm = audio.pcm[start : start + size]
                due = arrived + number * piece_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                self.heard.append((due, is_loud(pcm)))
                yield AvatarAudio(pcm, audio.sample_rate)

    def vanish(self) -> None:
        """End in the middle of whatever it does, as when its vendor ends the session: nothing more is sent."""
        self.is_there = False
        self._link.crash("The session has ended.")
        loop = asyncio.get_running_loop()
        for stream in (self._audio, self._video):
            loop.call_later(self._transit_s, stream.put_nowait, None)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.aclose()

    async def _carry(self, source: AsyncIterator[ItemT], deliver: Callable[[ItemT], None]) -> None:
        loop = asyncio.get_running_loop()
        async for item in source:
            loop.call_later(self._transit_s, deliver, item)

    def _take_audio(self, audio: AvatarAudio) -> None:
        self._audio.put_nowait((time.perf_counter(), audio))

    def _take_picture(self, picture: AvatarVideo) -> None:
        if not self._still:
            self._video.put_nowait(picture)


def _tinted(tint: int, pixels: int) -> Callable[[bytes, float], bytes]:
    """The plain picture of the in-process avatar, but for its blue."""

    def draw(pcm: bytes, _: float) -> bytes:
        grey = 32 + int(np.abs(np.frombuffer(pcm, np.int16).astype(int)).max(initial=0)) * 223 // 32_768
        return bytes((grey, grey, tint)) * pixels

    return draw


def _resampled(pcm: bytes, rate: int, to_rate: int) -> bytes:
    samples = np.frombuffer(pcm, np.int16)
    if rate == to_rate or not len(samples):
        return pcm
    at = np.arange(len(samples) * to_rate // rate) * rate / to_rate
    return np.interp(at, np.arange(len(samples)), samples).astype(np.int16).tobytes()
