"""The single-file bots, run as their docstrings say: on this machine alone, with a real guest who sees and hears."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from agenthuman_plugins.client.rooms import AVATAR_IDENTITY
from agenthuman_plugins.emulator.rooms import media_interface
from agenthuman_plugins.speech.proxies import direct_to
from tests.demo.conftest import START_TIMEOUT_S, Demo
from tests.demo.test_browser import WITNESS, browsing, when
from tests.demo.visitor import WAIT_S, Visitor
from tests.emulator.processes import still_alive

EXAMPLES = Path(__file__).parents[2] / "examples"
LOUD = 2000  # of 16-bit samples

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(media_interface() is None, reason="no network interface besides loopback"),
]


class Caller(Visitor):
    """A browser that calls a bot of Pipecat's runner, and speaks its protocol."""

    async def _say_goodbye(self) -> None:
        """The closing connection tells it."""

    def position(self, kind: str) -> int:
        """Where the first message of a kind is among the messages."""
        return [message["type"] for message in self.messages].index(kind)


@asynccontextmanager
async def _local_bot(example: str, ready: str, *arguments: str) -> AsyncIterator[tuple[Demo, re.Match[str]]]:
    """A running example and what its output says when it is ready; SIGINT ends it and everything it has started."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(EXAMPLES / example), "--local", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "LOGURU_LEVEL": "INFO", "OPENAI_API_KEY": ""},
    )
    bot = Demo(process)
    reading = asyncio.create_task(bot.read())
    try:
        async with asyncio.timeout(START_TIMEOUT_S), bot.said:
            await bot.said.wait_for(lambda: bot.silent or re.search(ready, bot.text))
        found = re.search(ready, bot.text)
        assert found, bot.text
        yield bot, found
        family = bot.family()
        assert await bot.end(signal.SIGINT) == 0, bot.text
        assert not await asyncio.to_thread(still_alive, family, WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
        await reading
    assert "Sessions opened: 1, all ended" in bot.text
    assert "Traceback" not in bot.text


@pytest.mark.parametrize(
    ("example", "reply"),
    [
        pytest.param("pipecat_smallwebrtc.py", "Hello! Ask me who I am", id="smallwebrtc"),
        pytest.param("pipecat_daily.py", "Hello! Ask me who I am", id="daily"),
        pytest.param("pipecat_langgraph.py", "Hello! My watch says", id="langgraph"),
        pytest.param("pipecat_realtime.py", "Hello! I hear and speak by myself", id="realtime"),
    ],
)
async def test_a_browser_is_greeted_by_a_face(example: str, reply: str, unused_tcp_port: int) -> None:
    """Who calls sees the avatar, and reads what it says once it is spoken; Ctrl-C in the middle ends the session."""
    pytest.importorskip("python_multipart", reason="Pipecat's runner needs it")
    ready = r"Uvicorn running on http://localhost:\d+"
    async with _local_bot(example, ready, "--port", str(unused_tcp_port)):
        caller = Caller(f"http://127.0.0.1:{unused_tcp_port}")
        try:
            await caller.join()
            caller.send(label="rtvi-ai", type="client-ready", id="1", data={"version": "2.0.0"})
            await caller.told("bot-started-speaking")
            await caller.until(lambda: caller.pictures > 25)
            # What was spoken comes word by word, or with no words' times as a whole.
            await caller.until(lambda: _texts(caller.messages, "bot-tts-text").startswith(reply))
            await caller.until(
                lambda: _texts(filter(_is_spoken, caller.messages), "bot-output").startswith(reply)
            )
            assert not any(map(_is_spoken, caller.messages[: caller.position("bot-started-speaking")]))
        finally:
            caller.vanish()
    await caller.leave()


def _texts(messages: Iterable[dict[str, Any]], kind: str) -> str:
    """What messages of a kind say, whether the texts bring spaces of their own or not."""
    texts = [message["data"]["text"] for message in messages if message["type"] == kind]
    return " ".join(" ".join(texts).split())


def _is_spoken(message: dict[str, Any]) -> bool:
    """Whether it is a caption of what was spoken: to its last word, or with no words' times as a whole."""
    if message["type"] != "bot-output":
        return False
    caption = message["data"]
    return caption["spoken_status"] == "completed" or not caption["will_be_spoken"]


async def test_the_page_needs_nobody_else(chromium: str, unused_tcp_port: int) -> None:
    """After Connect, even pressed twice, our page shows a moving face, speaks, and answers text, without a foreign request."""
    pytest.importorskip("python_multipart", reason="Pipecat's runner needs it")
    ready = r"Uvicorn running on (http://localhost:\d+)"
    async with (
        _local_bot("pipecat_smallwebrtc.py", ready, "--port", str(unused_tcp_port)) as (_, found),
        browsing(chromium, found[1]) as (page, complaints),
    ):
        await page.eval_on_selector(
            "button >> text=Connect", "(button) => { button.click(); button.click(); }"
        )
        await page.wait_for_selector("#veil.lifted", state="attached")
        await page.evaluate(WITNESS)
        await page.wait_for_selector("#log .bot.speaking >> text=Hello! Ask me who I am")
        await page.evaluate(when("witness.changes > 10 && witness.levels.some(({ loud }) => loud)"))
        await page.fill("#text", "Tell me a story")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#log .bot.cut >> text=Hello!")
        await page.wait_for_selector("#log .user >> text=Tell me a story")
        await page.wait_for_selector("#log .bot.speaking >> text=Once upon")
        assert "ms" in await page.inner_text("#voice-delay")
        assert not complaints


async def test_the_avatar_publishes_in_the_guests_room() -> None:
    """A guest of the LiveKit room sees and hears the avatar itself; Ctrl-C ends its session."""
    ready = r"Join (ws://\S+) as a guest with the token (\S+)"
    async with _local_bot("pipecat_livekit.py", ready) as (bot, found):
        room, tracks, news = rtc.Room(), {}, asyncio.Event()

        @room.on("track_subscribed")
        def on_track(track: rtc.Track, _: object, participant: rtc.RemoteParticipant) -> None:
            if participant.identity == AVATAR_IDENTITY:
                tracks[track.kind] = track
                news.set()

        async with asyncio.timeout(WAIT_S):
            with direct_to(found[1]):
                await room.connect(found[1], found[2])
            while len(tracks) < 2:
                await news.wait()
                news.clear()
            await _until(rtc.AudioStream(tracks[rtc.TrackKind.KIND_AUDIO]), _is_loud)
            await _until(
                rtc.VideoStream(tracks[rtc.TrackKind.KIND_VIDEO]), lambda event: event.frame.width > 0
            )
        assert "The avatar of session" in bot.text
    await room.disconnect()


async def _until(stream: rtc.AudioStream | rtc.VideoStream, condition: Callable[[object], bool]) -> None:
    try:
        async for event in stream:
            if condition(event):
                return
    finally:
        await stream.aclose()


def _is_loud(event: rtc.AudioFrameEvent) -> bool:
    return bool(np.abs(np.frombuffer(event.frame.data, np.int16).astype(np.int32)).max() > LOUD)
