"""Carried mode over the whole chain: real avatars in LiveKit rooms of the user's own, voice and picture in the pipeline."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import AsyncAgentHuman, BadRequestError, LiveKitRoom
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.pipecat._rooms import Rooms
from tests.pipecat.bot import RATE, Bot, running_service, tone

VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
SHORTER_S, LONGER_S = 0.1, 0.4  # what a jitter buffer does to a second of sound; see test_chain


@pytest.fixture
async def livekit(a_room_server: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RoomServer]:
    """The user's LiveKit server, named by the environment."""
    async with await RoomServer.start(a_room_server) as server:
        for name, value in zip(VARIABLES, (server.url, server._api_key, server._api_secret), strict=True):
            monkeypatch.setenv(name, value)
        yield server


@contextlib.asynccontextmanager
async def _bot(*, media: bool = True, **options: Any) -> AsyncIterator[tuple[Bot, Emulator]]:
    """A bot with a service that makes no rooms; afterwards every session was ended by its caller."""
    emulator = Emulator(media=media, sweep=False, expiry=False, proxy_rooms=False)
    async with emulator:
        await emulator.wait_ready()
        async with AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client:
            settings = AgentHumanVideoService.Settings(avatar_wait_s=20)
            service = AgentHumanVideoService(client=client, settings=settings, **options)
            async with running_service(service, client) as bot:
                yield bot, emulator
        assert all(session["ended_by"] == "caller" for session in emulator.sessions())


async def _converse(bot: Bot) -> None:
    await bot.until_event("on_avatar_connected")
    await bot.say(tone(1.0, hz=440, loud=6000))
    await bot.until_stopped("c1")
    heard_s = np.count_nonzero(np.abs(bot.voice()) > 1000) / RATE
    assert 1.0 - SHORTER_S < heard_s < 1.0 + LONGER_S
    assert not bot.up.of(BotStartedSpeakingFrame)  # the transport tells: there is none here
    await bot.down.until(lambda: len(bot.down.of(OutputImageRawFrame)) >= 25)
    assert bot.down.of(OutputImageRawFrame)[-1].size == (640, 480)
    assert not bot.up.of(ErrorFrame)
    await bot.send(EndFrame())
    await bot.down.until(lambda: bot.down.of(EndFrame))


@pytest.mark.media
async def test_room_of_the_user_s_through_the_pipeline(livekit: RoomServer) -> None:
    """The avatar joins the user's room, and the bot brings its voice and picture from there."""
    room = LiveKitRoom.mint(
        livekit.url, livekit._api_key, livekit._api_secret, "users", avatar_identity="face"
    )
    async with _bot(room=room, picture="pipeline") as (bot, emulator):
        await _converse(bot)
    assert [session["platform"] for session in emulator.sessions()] == ["livekit"]


@pytest.mark.media
async def test_room_by_a_function(livekit: RoomServer) -> None:
    """The function's room is used, and the identity that it was given is the avatar's."""
    asked = []

    async def make_room(request: Any) -> LiveKitRoom:
        asked.append(request)
        return LiveKitRoom.mint(
            livekit.url,
            livekit._api_key,
            livekit._api_secret,
            "users",
            avatar_identity=request.avatar_identity,
        )

    async with _bot(room=make_room, picture="pipeline", avatar="avat_1") as (bot, _):
        await _converse(bot)
    assert [(request.avatar, request.session_number) for request in asked] == [("avat_1", 1)]


@pytest.mark.media
@pytest.mark.usefixtures("livekit")
async def test_service_that_makes_no_rooms() -> None:
    """Without a room, the bot asks once and then goes on in a private one on the server of the environment."""
    async with _bot() as (bot, emulator):
        await _converse(bot)
    assert [session["platform"] for session in emulator.sessions()] == ["livekit"]


async def test_service_that_makes_no_rooms_and_no_server_to_make_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without either, one error shows both ways out, and the bot speaks as plain audio."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    async with _bot(media=False) as (bot, emulator):
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        await bot.say(tone(0.5))
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert bot.down.of(TTSAudioRawFrame)
        (error,) = bot.up.of(ErrorFrame)
        assert error.category is ErrorCategory.INVALID_REQUEST
        assert all(name in error.error for name in (*VARIABLES, "room=LiveKitRoom"))
    assert not emulator.sessions()


async def test_refusal_of_the_documented_service_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked by the client, a service without `proxy` leads to a private room, in which the next create succeeds."""
    for name, value in zip(VARIABLES, ("wss://own.example", "key", "secret" * 8), strict=True):
        monkeypatch.setenv(name, value)
    async with (
        Emulator(media=False, proxy_rooms=False) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        rooms = Rooms(None, picture=None, client=client)
        asked = {"avatar": "avat_1", "aspect_ratio": "4:3", "session_number": 1}
        with pytest.raises(BadRequestError) as raised:
            await client.sessions.create(avatar="avat_1", room=await rooms.make(**asked))
        assert rooms.platform_refused(raised.value)
        await client.sessions.create(avatar="avat_1", room=await rooms.make(**asked))
        assert [session["platform"] for session in emulator.sessions()] == ["livekit"]
