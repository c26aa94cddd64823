"""Our two ends of the avatar protocol against livekit-agents' own, which live in `.venv-agents` (make test)."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agenthuman_plugins.emulator.process import Child
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.speech import AVATAR_IDENTITY, LinkEvent, PlaybackFinished, PlaybackStarted
from agenthuman_plugins.speech.livekit import LiveKitSpeechLink
from agenthuman_plugins.speech.proxies import direct_to

_HERE = Path(__file__).parent
_PYTHON = _HERE.parent.parent / ".venv-agents" / "bin" / "python"
_LIMIT_S = 60.0  # hang limit; importing livekit-agents alone takes seconds on a busy machine

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(not _PYTHON.exists(), reason="no .venv-agents (make .venv-agents/.installed)"),
]

BOT = "bot"


def _tone(seconds: float) -> bytes:
    return (8000 * np.sin(np.arange(round(16_000 * seconds)) * 0.17)).astype(np.int16).tobytes()


def _tokens(server: RoomServer) -> tuple[str, str]:
    """Tokens of the bot and of its avatar for a room of their own."""
    room = f"crosscheck-{secrets.token_hex(4)}"
    bot = server.mint(room=room, identity=BOT, kind="agent")
    behalf = {"lk.publish_on_behalf": BOT}
    return bot, server.mint(room=room, identity=AVATAR_IDENTITY, kind="agent", attributes=behalf)


@contextlib.asynccontextmanager
async def _stock(script: str, settings: dict[str, Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A script of livekit-agents; closing its standard input ends it."""
    with direct_to(settings["url"]):
        process = await asyncio.create_subprocess_exec(
            _PYTHON, _HERE / script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
    assert process.stdin
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        yield process
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _report(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout
    async with asyncio.timeout(_LIMIT_S):
        return dict(json.loads(await process.stdout.readline()))


class _Speaker:
    """Our link, and what it told."""

    def __init__(self, link: LiveKitSpeechLink) -> None:
        self.link = link
        self.seen: list[LinkEvent] = []
        self._news = asyncio.Condition()

    async def follow(self) -> None:
        async for event in self.link.events():
            async with self._news:
                self.seen.append(event)
                self._news.notify_all()

    async def until(self, kind: type[LinkEvent], count: int) -> list[Any]:
        async with asyncio.timeout(_LIMIT_S), self._news:
            await self._news.wait_for(lambda: sum(isinstance(e, kind) for e in self.seen) >= count)
        return [event for event in self.seen if isinstance(event, kind)]


async def test_our_link_speaks_through_the_stock_avatar(room_server_kind: str) -> None:
    """A stock worker plays our utterances, is interrupted by us, and plays the next one from its start."""
    async with await RoomServer.start(room_server_kind) as server:
        bot, avatar = _tokens(server)
        async with _stock("stock_avatar.py", {"url": server.url, "token": avatar, "sender": BOT}):
            link = LiveKitSpeechLink(server.url, bot)
            speaker = _Speaker(link)
            await link.connect(timeout_s=_LIMIT_S)
            following = asyncio.create_task(speaker.follow())

            await link.send(_tone(1.0))
            await link.end_utterance()
            (first,) = await speaker.until(PlaybackFinished, 1)
            assert (first.utterance, first.interrupted, first.estimated) == (1, False, False)
            assert abs(first.position_s - 1.0) < 0.11  # a stock worker counts in frames of 100 ms

            await link.send(_tone(5.0))
            await speaker.until(PlaybackStarted, 2)
            await link.interrupt()
            _, cut = await speaker.until(PlaybackFinished, 2)
            assert (cut.utterance, cut.interrupted) == (2, True)
            assert cut.position_s < 5.0

            await link.send(_tone(0.5))
            await link.end_utterance()
            *_, last = await speaker.until(PlaybackFinished, 3)
            assert (last.utterance, last.interrupted) == (3, False)
            # Not its length: a stock worker sometimes takes the end mark of the stream that was cut for the end of
            # the next one, and then reports that too early.
            assert last.position_s > 0

            await link.aclose()
            await following


async def test_stock_output_speaks_through_our_avatar(room_server_kind: str) -> None:
    """Our worker plays what a stock agent sends, reports it, and obeys its interruption."""
    async with await RoomServer.start(room_server_kind) as server:
        bot, avatar = _tokens(server)
        worker = await Child.start(
            "agenthuman_plugins.emulator.worker",
            {
                "url": server.url,
                "token": avatar,
                "avatar": "avat_stock",
                "width": 320,
                "height": 240,
                "fps": 25,
            },
        )
        try:
            settings = {"url": server.url, "token": bot, "avatar": AVATAR_IDENTITY}
            async with _stock("stock_agent.py", settings) as agent:
                assert agent.stdin
                assert await _report(agent) == {"event": "connected"}
                agent.stdin.write(b'{"say": 1.0}\n')
                played = await _report(agent)
                assert (played["interrupted"], played["starts"]) == (False, 1)
                assert abs(played["position"] - 1.0) < 0.01
                agent.stdin.write(b'{"say": 5.0, "cut_after": 0.5}\n')
                played = await _report(agent)
                assert played["interrupted"] is True
                assert played["position"] < 5.0
                agent.stdin.write(b'{"say": 0.5}\n')
                played = await _report(agent)
                assert (played["interrupted"], played["starts"]) == (False, 1)
                assert abs(played["position"] - 0.5) < 0.01
        finally:
            await worker.stop()
