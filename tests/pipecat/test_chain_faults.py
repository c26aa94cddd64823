"""What becomes of a conversation when a process of the chain fails: it goes on, with a voice."""

import contextlib
import signal
from collections.abc import AsyncIterator

import psutil
import pytest
from pipecat.frames.frames import ErrorFrame, TTSAudioRawFrame
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.pipecat import AgentHumanVideoService
from tests.pipecat.bot import RATE, Bot, running_service, tone

pytestmark = pytest.mark.media


def _avatars() -> list[psutil.Process]:
    """The avatar workers that this process started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            if "agenthuman_plugins.emulator.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


@contextlib.asynccontextmanager
async def _bot(a_room_server: str) -> AsyncIterator[Bot]:
    """A bot on an emulator that ends no session by itself; afterwards its caller has ended every session."""
    async with Emulator(room_server=a_room_server, sweep=False, expiry=False) as emulator:
        await emulator.wait_ready()
        async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client:
            settings = AgentHumanVideoService.Settings(avatar_wait_s=20, no_audio_timeout_s=0.5)
            async with running_service(AgentHumanVideoService(client=client, settings=settings)) as bot:
                await bot.until_event("on_avatar_connected")
                yield bot
            assert all(session["ended_at"] is not None for session in emulator.sessions())


def _loud_s(bot: Bot, context_id: str) -> float:
    return float((abs(bot.voice(context_id).astype(int)) > 1000).sum() / RATE)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_conversation_survives_the_avatar(a_room_server: str, fault: signal.Signals) -> None:
    """The reply in which the avatar fails goes on as plain audio, with one error; then another avatar speaks."""
    async with _bot(a_room_server) as bot:
        (avatar,) = _avatars()
        await bot.say(tone(1.6, hz=440, loud=6000))
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 10)
        avatar.send_signal(fault)
        try:
            await bot.until_event("on_fallback_started")
            await bot.until_stopped("c1")
            assert 1.2 < _loud_s(bot, "c1") < 2.2
            assert [e.category for e in bot.up.of(ErrorFrame)] == [ErrorCategory.CONNECTIVITY]
            await bot.until_event("on_fallback_ended")
            await bot.say(tone(0.5, hz=440, loud=6000), context_id="c2")
            await bot.until_event("on_playback_started", 2)
            await bot.until_stopped("c2")
            assert _loud_s(bot, "c2") > 0.4
        finally:
            if avatar.is_running():
                avatar.send_signal(signal.SIGCONT)
