"""The queue between the pipeline and the speech link."""

import asyncio

from agenthuman_plugins.pipecat._curtain import Curtain
from agenthuman_plugins.pipecat._speaker import Speaker
from agenthuman_plugins.pipecat._utterance import Utterance
from agenthuman_plugins.pipecat._voice import VoiceGate
from tests.pipecat.bot import WAIT_S


class _SlowLink:
    """A link that notes what it is told, and whose first write does not return before `written` is set."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.writing = asyncio.Event()
        self.written = asyncio.Event()
        self.interrupted = asyncio.Event()

    async def send(self, pcm: bytes) -> int:
        self.told.append(pcm.decode())
        self.writing.set()
        await self.written.wait()
        return 1

    async def end_utterance(self) -> None:
        self.told.append("end")

    async def interrupt(self) -> None:
        self.told.append("interrupt")
        self.interrupted.set()


async def test_second_interruption_does_not_swallow_the_first() -> None:
    """An interruption that waits for a write to end reaches the avatar, whatever is dropped behind it."""
    link, utterance = _SlowLink(), Utterance(duration_s=1.0)
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    running = asyncio.create_task(speaker.run(link))  # type: ignore[arg-type]  # all that it uses
    try:
        speaker.speak(utterance, b"old.")
        async with asyncio.timeout(WAIT_S):
            await link.writing.wait()
            speaker.speak(utterance, b"dropped.")
            speaker.drop(interrupt=speaker.gate.interrupt())
            speaker.drop(interrupt=speaker.gate.interrupt())
            link.written.set()
            await link.interrupted.wait()
        assert link.told == ["old.", "interrupt"]
    finally:
        running.cancel()
        await asyncio.wait([running])
