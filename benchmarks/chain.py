"""The speech link over the whole local chain: emulator, room server and avatar as processes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.speech import LiveKitSpeechLink, PlaybackFinished, PlaybackStarted, SpeechLink
from benchmarks._row import Row

_ROUNDS = 10
_REPLY_S = 1.0
_LOUD = 1000
_FPS_WINDOW_S = 5.0
_LIMIT_S = 30.0


class _Ear:
    """When things were heard and reported."""

    def __init__(self, link: SpeechLink) -> None:
        self.loud = asyncio.Event()
        self.quiet = asyncio.Event()
        self.started = asyncio.Event()
        self.finished = asyncio.Event()
        self.pictures = 0
        self._link = link

    def reset(self) -> None:
        for event in (self.loud, self.quiet, self.started, self.finished):
            event.clear()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (self._hear(), self._watch(), self._follow())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self) -> None:
        async for audio in self._link.audio():
            peak = np.abs(np.frombuffer(audio.pcm, np.int16).astype(int)).max()
            (self.loud if peak > _LOUD else self.quiet).set()
            if peak > _LOUD:
                self.quiet.clear()

    async def _watch(self) -> None:
        async for _ in self._link.video():
            self.pictures += 1

    async def _follow(self) -> None:
        async for event in self._link.events():
            if isinstance(event, PlaybackStarted):
                self.started.set()
            elif isinstance(event, PlaybackFinished):
                self.finished.set()


async def measure() -> list[Row]:
    created, connected, started, heard, silent, cleared = ([] for _ in range(6))
    async with Emulator(plan="pro") as emulator:
        kind = await emulator.wait_ready()
        async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client:
            for _ in range(3):
                began = time.perf_counter()
                async with client.sessions.open() as session:
                    created.append(_ms(began))
                    assert session.room
                    assert session.room.url
                    assert session.room.token
                    link = LiveKitSpeechLink(session.room.url, session.room.token.get_secret_value())
                    await link.connect(timeout_s=_LIMIT_S)
                    connected.append(_ms(began))
                    await link.aclose()
            async with client.sessions.open() as session:
                assert session.room
                assert session.room.url
                assert session.room.token
                link = LiveKitSpeechLink(session.room.url, session.room.token.get_secret_value())
                await link.connect(timeout_s=_LIMIT_S)
                ear = _Ear(link)
                async with ear.listening(), asyncio.timeout(20 * _LIMIT_S):
                    before = ear.pictures
                    await asyncio.sleep(_FPS_WINDOW_S)  # the length of a measurement, not a wait
                    fps = (ear.pictures - before) / _FPS_WINDOW_S
                    for _ in range(_ROUNDS):
                        ear.reset()
                        began = time.perf_counter()
                        await link.send(_tone(_REPLY_S))
                        await link.end_utterance()
                        await ear.started.wait()
                        started.append(_ms(began))
                        await ear.loud.wait()
                        heard.append(_ms(began))
                        began = time.perf_counter()
                        await link.interrupt()
                        cleared.append(_ms(began))
                        ear.quiet.clear()
                        await ear.quiet.wait()
                        silent.append(_ms(began))
                await link.aclose()
    return [
        Row("session created", created),
        Row(f"session created to avatar ready ({kind})", connected),
        Row("speech sent to playback reported", started),
        Row("speech sent to voice heard", heard),
        Row("interruption to its report", cleared),
        Row("interruption to silence", silent),
        Row("pictures a second", [fps], "fps"),
    ]


def _tone(seconds: float) -> bytes:
    return (8000 * np.sin(np.arange(round(16_000 * seconds)) * 0.17)).astype(np.int16).tobytes()


def _ms(began: float) -> float:
    return 1000 * (time.perf_counter() - began)
