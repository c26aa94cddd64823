"""`examples/pipecat_bot.py` with a local emulator, and a speech provider that cannot be reached."""

import asyncio
import runpy
from pathlib import Path

import pytest
from pipecat.runner.types import SmallWebRTCRunnerArguments
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection

from agenthuman_plugins.emulator import Emulator
from tests.demo.visitor import WAIT_S, Visitor

EXAMPLE = Path(__file__).parents[2] / "examples" / "pipecat_bot.py"


class Guest(Visitor):
    """A visitor who reaches the bot without a server between them."""

    def __init__(self, bot) -> None:
        super().__init__("")
        self._bot = bot
        self.run: asyncio.Task | None = None

    async def _exchange(self, offer):
        connection = SmallWebRTCConnection()
        await connection.initialize(offer["sdp"], offer["type"])
        self.run = asyncio.create_task(self._bot(SmallWebRTCRunnerArguments(webrtc_connection=connection)))
        return connection.get_answer()

    async def _say_goodbye(self) -> None:
        """The closing connection tells it."""


@pytest.mark.chain
@pytest.mark.usefixtures("network")
async def test_the_example_bot_has_a_face(monkeypatch):
    """Who connects sees the avatar; who leaves ends its session."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    bot = runpy.run_path(str(EXAMPLE))["bot"]
    async with Emulator(sweep=False, expiry=False) as emulator:
        monkeypatch.setenv("AGENTHUMAN_API_KEY", emulator.api_key)
        monkeypatch.setenv("AGENTHUMAN_BASE_URL", emulator.url)
        guest = Guest(bot)
        async with asyncio.timeout(2 * WAIT_S):
            await guest.join()
            await guest.until(lambda: guest.pictures > 10)
            await guest.leave()
            await guest.run
        assert [session["ended_by"] for session in emulator.sessions()] == ["caller"]
