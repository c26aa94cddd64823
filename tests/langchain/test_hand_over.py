"""Two workers of an application that speak through one session, in a room that both join."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator

import pytest

from agenthuman_plugins.emulator.rooms import RoomServer, media_interface
from agenthuman_plugins.langchain._loop import BackgroundLoop
from agenthuman_plugins.langchain._speech import SayError, Speech, Wire
from agenthuman_plugins.speech import LiveKitSpeechLink
from tests.langchain.links import LIMIT_S, RATE, tone
from tests.speech.conftest import TestRoom
from tests.speech.scripted_avatar import ScriptedAvatar

SESSION = "sess_1"
SHORT, LONG = tone(0.2), tone(60)

pytestmark = [
    pytest.mark.chain,
    pytest.mark.skipif(
        media_interface() is None,
        reason="no network interface besides loopback, which LiveKit clients do not use",
    ),
]


class Worker:
    """What one process of an application speaks with; both join the room with the same identity."""

    def __init__(self, room: TestRoom) -> None:
        self.links = 0
        self.handed_over: list[str] = []
        self.left = threading.Event()
        self.loop = BackgroundLoop()
        self.speech = Speech(
            lambda text: (LONG if text == "long" else SHORT, RATE), self.loop, on_handed_over=self._leave
        )
        self._room = room

    async def say(self, text: str) -> bool:
        async with asyncio.timeout(LIMIT_S):
            return (
                await self.speech.aspeak(Wire(SESSION, self._make_link, one_link=False, advice=""), text)
            ).complete

    async def stop(self) -> None:
        await self.speech.aclose()
        await self.loop.aclose()

    def _make_link(self) -> LiveKitSpeechLink:
        self.links += 1
        return LiveKitSpeechLink(self._room.url, self._room.bot_token(), media=False)

    def _leave(self, session_id: str) -> None:
        self.handed_over.append(session_id)
        self.left.set()


@pytest.fixture
async def room(a_room_server: str) -> AsyncIterator[TestRoom]:
    async with await RoomServer.start(a_room_server) as server:
        yield TestRoom(server, f"hand-over-{next(_names)}")


_names = itertools.count(1)


async def test_session_moves_from_worker_to_worker_and_back(room: TestRoom) -> None:
    """Whoever was called last speaks; the other one is told, leaves, and never comes back by itself."""
    async with ScriptedAvatar(room) as avatar:
        avatar.report_end = True
        await avatar.show()
        first, second = Worker(room), Worker(room)
        try:
            speaking = asyncio.create_task(first.say("long"))
            await avatar.until(lambda: avatar.streams and avatar.streams[0].pcm)
            assert await second.say("short")
            with pytest.raises(
                SayError, match="Another worker of this application speaks through this session now"
            ):
                await speaking
            assert await asyncio.to_thread(first.left.wait, LIMIT_S)
            assert not first.speech.has_link(SESSION)
            assert await second.say("short")
            assert (first.links, second.links, first.handed_over, second.handed_over) == (1, 1, [SESSION], [])
            assert await first.say("short")  # the conversation moved back
            assert await asyncio.to_thread(second.left.wait, LIMIT_S)
            assert (first.links, second.links, first.handed_over, second.handed_over) == (
                2,
                1,
                [SESSION],
                [SESSION],
            )
        finally:
            await first.stop()
            await second.stop()
