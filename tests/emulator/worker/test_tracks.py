"""The avatar's voice, with a source that tests hold back."""

import asyncio
from types import SimpleNamespace

from agenthuman_plugins.emulator.worker._tracks import VoiceTrack
from tests.emulator.worker.fakes import SILENCE
from tests.virtual_time import in_virtual_time


@in_virtual_time
async def test_avatar_survives_a_machine_that_stands_still() -> None:
    """A block waits for as long as the queue stays full; it is not lost, and the avatar does not end."""
    taken = []

    async def capture(frame: object) -> None:
        await asyncio.sleep(60)
        taken.append(frame)

    voice = VoiceTrack()
    voice._source = SimpleNamespace(capture_frame=capture)  # type: ignore[assignment]
    await voice.play(SILENCE)
    assert len(taken) == 1
