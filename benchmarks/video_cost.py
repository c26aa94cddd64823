"""What a picture of 1280x960 costs the process of the bot, from the room to the transport's queue.

An avatar of the emulator shows itself at 25 pictures a second. The same seconds are measured with the picture
received and decoded only, as LiveKit does in any case, and with our part added: conversion to RGB (on LiveKit's
threads), copy, delay line, frame, and the hop to the next processor. Their difference is our cost; what of it is
spent on the event loop is measured by the loop thread's own clock.
"""

import asyncio
import time
from statistics import median

from pipecat.frames.frames import OutputImageRawFrame

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.pipecat.picture._curtain import Curtain
from agenthuman_plugins.pipecat.picture._lipsync import LipSync
from agenthuman_plugins.pipecat.picture._pump import PictureCount, PicturePump
from agenthuman_plugins.pipecat.picture._transport import PictureBacklog
from agenthuman_plugins.speech import LiveKitSpeechLink
from agenthuman_plugins.speech.link import AvatarVideo
from benchmarks._row import Row

_SIZE = (1280, 960)
_WINDOW_S = 2.0
_ROUNDS = 6
_LIMIT_S = 30.0


async def measure() -> list[Row]:
    async with Emulator(plan="pro", video_size=_SIZE) as emulator:
        await emulator.wait_ready()
        async with (
            AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
            client.sessions.open() as session,
        ):
            assert session.room
            assert session.room.url
            assert session.room.token
            link = LiveKitSpeechLink(session.room.url, session.room.token.get_secret_value())
            await link.connect(timeout_s=_LIMIT_S)
            try:
                return await _measure(link)
            finally:
                await link.aclose()


async def _measure(link: LiveKitSpeechLink) -> list[Row]:
    hearing = asyncio.create_task(_hear(link))  # runs in both, as in a bot
    count, lipsync, sizes = PictureCount(), LipSync(), set()

    async def push(frame: OutputImageRawFrame) -> None:
        sizes.add(frame.size)

    async def begin(_: AvatarVideo) -> None:
        begun.set()

    await asyncio.sleep(_WINDOW_S)  # the first seconds are full of connecting
    before = [await _window() for _ in range(_ROUNDS)]
    begun = asyncio.Event()
    pump = PicturePump(
        push,
        on_first=begin,
        delay_s=lambda: lipsync.delay_s,
        curtain=Curtain(lambda: 0.0, lambda: 0.0),
        reconnecting=lambda: False,
        backlog=PictureBacklog(None),
        count=count,
        pipeline_ns=time.monotonic_ns,
    )
    watching = asyncio.create_task(pump.run(link.video()))
    async with asyncio.timeout(_LIMIT_S):
        await begun.wait()
    loops, processes, rates = [], [], []
    for _ in range(_ROUNDS):
        shown = count.shown
        loop_s, process_s = await _window()
        shown = count.shown - shown
        rates.append(shown / _WINDOW_S)
        loops.append(1000 * (loop_s - median(loop for loop, _ in before)) / shown)
        processes.append(1000 * (process_s - median(process for _, process in before)) / shown)
    for task in (watching, hearing):
        task.cancel()
    await asyncio.gather(watching, hearing, return_exceptions=True)
    assert sizes == {_SIZE}, sizes
    return [
        Row("a picture of 1280x960, event loop", loops),
        Row("a picture of 1280x960, all threads", processes),
        Row("pictures a second", rates, "fps"),
        Row("dropped", [count.dropped], ""),
    ]


async def _hear(link: LiveKitSpeechLink) -> None:
    async for _ in link.audio():
        pass


async def _window() -> tuple[float, float]:
    """CPU seconds of the loop's thread and of the process over a while."""
    loop_s, process_s = time.thread_time(), time.process_time()
    await asyncio.sleep(_WINDOW_S)
    return time.thread_time() - loop_s, time.process_time() - process_s
