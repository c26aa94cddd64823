"""Voice and picture out of a room of the caller's own, with real avatars in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest

from agenthuman_plugins.client import AsyncAgentHuman, LiveKitRoom
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.speech import AVATAR_IDENTITY, PlaybackFinished, SpeechLink, speech_link
from tests.emulator.conftest import until
from tests.speech.conftest import TestRoom
from tests.speech.scripted_avatar import ScriptedAvatar

pytestmark = pytest.mark.media

JOIN_S = 30.0
LIMIT_S = 20.0  # hang limit
LOUD = 4_000
HALF_SECOND = (LOUD * np.sign(np.sin(np.arange(8_000) * 0.2))).astype(np.int16).tobytes()  # 16 kHz


def minted(room: TestRoom, avatar_identity: str = AVATAR_IDENTITY) -> LiveKitRoom:
    key, secret = room.server._api_key, room.server._api_secret
    return LiveKitRoom.mint(room.url, key, secret, room.name, avatar_identity=avatar_identity)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A service as the documents have it: it makes no rooms."""
    async with Emulator(room_server="embedded", plan="pro", sweep=False, proxy_rooms=False) as emulator:
        yield emulator


@contextlib.asynccontextmanager
async def avatar_in(emulator: Emulator, room: LiveKitRoom) -> AsyncIterator[SpeechLink]:
    async with (
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
        client.sessions.open(avatar="avat_1", room=room) as session,
    ):
        link = speech_link(session, room=room, audio_sample_rate=16_000, media=True)
        try:
            await link.connect(timeout_s=JOIN_S)
            yield link
        finally:
            await link.aclose()


async def say(link: SpeechLink) -> int:
    number = await link.send(HALF_SECOND)
    await link.end_utterance()
    async with asyncio.timeout(LIMIT_S):
        async for event in link.events():
            if isinstance(event, PlaybackFinished):
                return number
    raise AssertionError("closed without PlaybackFinished")


class Ear:
    """Counts the loud pieces of a voice, and lets a test wait for pieces."""

    def __init__(self, link: SpeechLink) -> None:
        self.loud = self.pieces = 0
        self._task = asyncio.create_task(self._listen(link))

    async def _listen(self, link: SpeechLink) -> None:
        async for piece in link.audio():
            self.pieces += 1
            self.loud += int(np.abs(np.frombuffer(piece.pcm, np.int16)).max() > LOUD / 4)

    async def more(self, count: int) -> None:
        wanted = self.pieces + count
        await until(lambda: self.pieces >= wanted)

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_voice_and_video_come_out_of_our_own_room(a_room: TestRoom, emulator: Emulator):
    """Over a documented platform the link brings voice and video of its avatar, and of nobody else in the room."""
    own = minted(a_room, "face-7")
    async with ScriptedAvatar(a_room, identity="another") as stranger:
        await stranger.show()
        async with avatar_in(emulator, own) as link:
            ear = Ear(link)
            async with asyncio.timeout(LIMIT_S):
                picture = await anext(link.video())
            assert (picture.width, picture.height) == (640, 480)
            await ear.more(1)
            assert await say(link) == 1
            assert ear.loud * 0.04 == pytest.approx(0.5, abs=0.2)
            other = link._room.remote_participants["another"].track_publications.values()
            assert len(other) == 2
            assert not any(publication.subscribed for publication in other)
            await ear.aclose()
    assert [session["ended_by"] for session in emulator.sessions()] == ["caller"]


async def test_two_avatars_in_one_room_are_apart(a_room: TestRoom, emulator: Emulator):
    """Under identities of their own two avatars stand in one room: each hears and answers its own link alone."""
    async with avatar_in(emulator, minted(a_room, "one")) as first:
        ears = [Ear(first)]
        await say(first)
        async with avatar_in(emulator, minted(a_room, "two")) as second:
            ears.append(Ear(second))
            await ears[1].more(1)
            heard = ears[0].loud
            await say(second)
            await ears[0].more(10)
            assert ears[0].loud == heard
            assert ears[1].loud
        heard = ears[1].loud
        await say(first)
        assert ears[1].loud == heard
        for ear in ears:
            await ear.aclose()
    assert [session["ended_by"] for session in emulator.sessions()] == ["caller", "caller"]


async def test_second_avatar_with_the_token_of_the_first_evicts_it(a_room: TestRoom, emulator: Emulator):
    """One token holds one avatar: why a fixed room never has two sessions at a time."""
    own = minted(a_room)
    async with avatar_in(emulator, own):
        first = emulator.sessions()[0]["session_id"]

        def timeline() -> list[tuple[str, str | None]]:
            (session,) = [s for s in emulator.sessions() if s["session_id"] == first]
            return [(entry["event"], entry.get("reason")) for entry in session["timeline"]]

        async with (
            AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
            client.sessions.open(avatar="avat_1", room=own),
        ):
            await until(lambda: ("disconnected", "duplicate_identity") in timeline())
