"""Direct mode over the whole chain: a real avatar in the user's own room, spoken to by the bot."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)

from agenthuman_plugins.client import AsyncAgentHuman, DailyRoom, LiveKitRoom
from agenthuman_plugins.client.rooms import AVATAR_IDENTITY, ON_BEHALF_OF
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.pipecat import AgentHumanVideoService
from tests.pipecat.bot import Bot, running_service, sentence, tone

pytestmark = pytest.mark.media


@contextlib.asynccontextmanager
async def _direct(room: LiveKitRoom | DailyRoom, emulator: Emulator) -> AsyncIterator[Bot]:
    """A bot in direct mode; afterwards its session was ended by its caller."""
    async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client:
        service = AgentHumanVideoService(
            client=client,
            room=room,
            gateway_url=emulator.gateway_url,
            settings=AgentHumanVideoService.Settings(avatar_wait_s=20),
        )
        async with running_service(service) as bot:
            await bot.until_event("on_avatar_connected")
            yield bot
    assert len(emulator.sessions()) == 1
    assert emulator.sessions()[0]["ended_at"] is not None


async def _converse(bot: Bot) -> None:
    await bot.say(tone(0.5), sentence("one"), tone(0.5), sentence("two"))
    await bot.until_stopped("c1")
    await bot.up.until(lambda: bot.up.of(BotStoppedSpeakingFrame))
    assert len(bot.up.of(BotStartedSpeakingFrame)) == 1
    await bot.say(tone(0.3), sentence("three"), tone(5.0), sentence("never"), context_id="c2")
    await bot.down.until(lambda: len(bot.down.of(TTSTextFrame)) == 3)
    await bot.send(InterruptionFrame())
    await bot.until_stopped("c2")
    await bot.say(tone(0.3), sentence("four"), context_id="c3")
    await bot.until_stopped("c3")
    assert [f.text for f in bot.down.of(TTSTextFrame)] == ["one", "two", "three", "four"]
    await bot.until_event("on_playback_finished", 3)
    assert not bot.down.of(TTSAudioRawFrame)
    assert not bot.down.of(OutputImageRawFrame)
    assert not bot.up.of(ErrorFrame)


async def test_conversation_in_the_users_livekit_room(a_room_server: str) -> None:
    """Over byte streams in the user's room: states, order and interruption are as in the other mode."""
    async with await RoomServer.start(a_room_server) as server, Emulator(sweep=False) as emulator:
        room = LiveKitRoom(
            server.url,
            server.mint(
                room="users", identity=AVATAR_IDENTITY, kind="agent", attributes={ON_BEHALF_OF: "bot"}
            ),
            agent_token=server.mint(room="users", identity="bot", kind="agent"),
        )
        await emulator.wait_ready()
        async with _direct(room, emulator) as bot:
            await _converse(bot)


async def test_conversation_over_the_gateway() -> None:
    """In a Daily room speech goes over the gateway, and an own clock tells what was played."""
    room = DailyRoom("https://example.daily.co/room", "token")
    async with Emulator(media=False, sweep=False) as emulator, _direct(room, emulator) as bot:
        await _converse(bot)
