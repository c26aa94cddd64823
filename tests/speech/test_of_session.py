"""Which link a session gets, and that each of them speaks."""

import asyncio
import subprocess
import sys

import pytest
from livekit import rtc

from agenthuman_plugins.client import (
    APIResponseError,
    AsyncAgentHuman,
    ConfigurationError,
    DailyRoom,
    LiveKitRoom,
    Session,
)
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.speech import (
    AVATAR_IDENTITY,
    AvatarConnected,
    GatewaySpeechLink,
    LiveKitSpeechLink,
    PlaybackFinished,
    speech_link,
)
from tests.emulator.conftest import until
from tests.emulator.test_gateway import post
from tests.speech.scripted_avatar import ScriptedAvatar

LIMIT_S = 30.0  # hang limit
SECOND = bytes(range(256)) * 125  # 32,000 bytes of 16 kHz speech
DAILY = DailyRoom("https://x.daily.co/y", "daily-token")
GATEWAY = "ws://127.0.0.1:1"


def session(**fields) -> Session:
    return Session.model_validate({"session_id": "sess_1", "session_token": "session-token"} | fields)


PROXIED = session(room={"roomURL": "wss://rooms.example", "participantToken": "our-token"})


def test_room_of_the_service():
    """Without a room of one's own, the link joins the one that the service made, as asked for."""
    link = speech_link(PROXIED, audio_sample_rate=48_000, audio_frame_ms=20, media=False)
    assert isinstance(link, LiveKitSpeechLink)
    assert (link._url, link._token, link._media) == ("wss://rooms.example", "our-token", False)
    assert (link._tracks._sample_rate, link._tracks._frame_ms) == (48_000, 20)
    assert speech_link(PROXIED)._media is True


def test_own_livekit_room():
    """With an agent token the link joins the caller's room by it, and brings voice and picture only if asked to."""
    room = LiveKitRoom.mint("wss://own.example", "key", "secret" * 8, "room", avatar_identity="face-7")
    for media, brings in ((None, False), (False, False), (True, True)):
        link = speech_link(session(), room=room, audio_sample_rate=48_000, audio_frame_ms=20, media=media)
        assert isinstance(link, LiveKitSpeechLink)
        assert (link._url, link._token, link._media) == ("wss://own.example", room.agent_token, brings)
        assert link._avatar_identity == "face-7"
        assert (link._tracks._sample_rate, link._tracks._frame_ms) == (48_000, 20)


@pytest.mark.parametrize("avatar_token", ["not-a-jwt", "a.e30.c"])  # the second says nothing
def test_avatar_of_an_unreadable_token(avatar_token):
    """A token that does not say who joins by it is taken to be for the usual avatar."""
    room = LiveKitRoom("wss://own.example", avatar_token, agent_token="agent")
    assert speech_link(session(), room=room)._avatar_identity == AVATAR_IDENTITY


@pytest.mark.parametrize("room", [DAILY, LiveKitRoom("wss://own.example", "avatar-token")])
def test_room_that_we_cannot_join(room):
    """A Daily room, and a LiveKit room without an agent token, are spoken into through the gateway."""
    link = speech_link(session(), room=room, gateway_url=GATEWAY)
    assert isinstance(link, GatewaySpeechLink)
    assert link._url == GATEWAY
    assert link._init == {
        "type": "session.init",
        "session_id": "sess_1",
        "session_token": "session-token",
    }


@pytest.mark.parametrize(
    ("session", "room", "lack"),
    [
        (session(), None, "which room"),
        (session(room={"roomURL": "wss://rooms.example"}), None, "which room"),
        (session(session_token=None), DAILY, "session_token"),
        (session(ws_uri="try_again"), None, "cannot be used"),
        (session(ws_uri="ws://wss.agenthuman.com"), None, "cannot be used"),
    ],
)
def test_session_that_lacks_something(session, room, lack):
    """A session that cannot be spoken through is the service's fault, and no fault of the link."""
    with pytest.raises(APIResponseError, match=lack):
        speech_link(session, room=room)


@pytest.mark.parametrize("ws_uri", [None, "wss://gateway.example"])
def test_wrong_gateway_url(ws_uri):
    """An address of the caller's that is not safe is a wrong setting."""
    with pytest.raises(ConfigurationError):
        speech_link(session(ws_uri=ws_uri), room=DAILY, gateway_url="ws://wss.agenthuman.com")


def test_nothing_heavy_is_imported():
    """Importing the module needs neither livekit nor websockets."""
    code = (
        "import sys; sys.modules['livekit'] = sys.modules['websockets'] = None\n"
        "import agenthuman_plugins.speech.of_session; print('imported')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout.strip() == "imported"


async def test_older_generation():
    """A session of the older generation is initialised in its own form, at its own address."""
    async with (
        Emulator(media=False, generation="managed") as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        reply = await post(emulator, "/v1/sessions", {"avatar_id": "avat_1"})  # the client sends today's form
        created = Session.model_validate(reply["session"])
        started = await client.sessions.start(created.session_id)
        link = speech_link(
            created.model_copy(update={"ws_uri": started.ws_uri, "daily_room": started.daily_room})
        )
        try:
            await link.connect(timeout_s=LIMIT_S)
            assert await link.send(SECOND) == 1
            await link.interrupt()
        finally:
            await link.aclose()


async def finished(link) -> PlaybackFinished:
    async with asyncio.timeout(LIMIT_S):
        async for event in link.events():
            if isinstance(event, PlaybackFinished):
                return event
    raise AssertionError("closed without PlaybackFinished")


@pytest.mark.media
async def test_next_to_our_own_transport(room):
    """The link speaks beside another participant of this process, who alone gets voice and picture."""
    own = LiveKitRoom(room.url, room.avatar_token(), agent_token=room.bot_token())
    transport, subscribed = rtc.Room(), set()
    transport.on("track_subscribed", lambda track, *_: subscribed.add(track.kind))
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        await transport.connect(room.url, room.guest_token("transport"))
        link = speech_link(session(), room=own)
        try:
            await link.connect(timeout_s=LIMIT_S)
            await link.send(SECOND)
            await link.end_utterance()
            await avatar.until(lambda: avatar.streams and avatar.streams[0].closed)
            await until(lambda: subscribed == {rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO})
            published = link._room.remote_participants[AVATAR_IDENTITY].track_publications.values()
            assert len(published) == 2
            assert not any(publication.subscribed for publication in published)
            assert transport.connection_state == rtc.ConnectionState.CONN_CONNECTED
            assert set(link._room.remote_participants) == {AVATAR_IDENTITY, "transport"}
        finally:
            await link.aclose()
            await transport.disconnect()
    assert (avatar.streams[0].sender, bytes(avatar.streams[0].pcm)) == ("bot", SECOND)
    assert [item async for item in link.audio()] == [item async for item in link.video()] == []


@pytest.mark.media
async def test_avatar_joins_our_own_room(a_room):
    """A real avatar in the caller's room hears the agent's speech and reports it played, whatever its name."""
    own = LiveKitRoom(
        a_room.url,
        a_room.server.mint(
            room=a_room.name, identity="face-7", kind="agent", attributes={"lk.publish_on_behalf": "bot"}
        ),
        agent_token=a_room.bot_token(),
    )
    async with (
        Emulator(room_server="embedded", sweep=False) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        link = speech_link(await client.sessions.create(avatar="avat_1", room=own), room=own)
        try:
            await link.connect(timeout_s=30)
            assert await anext(link.events()) == AvatarConnected()
            await link.send(SECOND)
            await link.end_utterance()
            event = await finished(link)
        finally:
            await link.aclose()
    assert event == PlaybackFinished(1, pytest.approx(1.0), interrupted=False, estimated=False)


@pytest.mark.media
async def test_room_of_the_service_for_speech_alone(a_room_server):
    """Without media a session in the service's room is spoken through, and nothing comes back."""
    async with (
        Emulator(room_server=a_room_server, sweep=False) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        link = speech_link(await client.sessions.create(avatar="avat_1"), media=False)
        try:
            await link.connect(timeout_s=30)
            await link.send(SECOND)
            await link.end_utterance()
            assert (await finished(link)).position_s == pytest.approx(1.0)
            published = link._room.remote_participants[AVATAR_IDENTITY].track_publications.values()
            assert published
            assert not any(publication.subscribed for publication in published)
        finally:
            await link.aclose()
        assert emulator.sessions()[0]["ended_by"] is None  # leaving is not ending
