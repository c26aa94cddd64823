"""A browser's call, from its offer to its end, with a peer connection in the browser's place."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from agenthuman_plugins.emulator.rooms import media_interface
from agenthuman_plugins.viewer import Viewer, _browser
from agenthuman_plugins.viewer._tracks import Picture
from tests.viewer.conftest import FakeRoom

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(media_interface() is None, reason="no network interface besides loopback"),
]

WAIT_S = 20.0  # hang limit
LIMIT_S = 0.3  # in place of the ten seconds of silence


class Tone(MediaStreamTrack):
    """A microphone that hears a tone, as fast as it is read."""

    kind = "audio"
    _pts = 0

    async def recv(self) -> AudioFrame:
        await asyncio.sleep(0.005)
        samples = (8_000 * np.sin(np.arange(self._pts, self._pts + 960) / 20)).astype(np.int16)
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._pts, Fraction(1, 48_000)
        self._pts += 960
        return frame


class Page:
    """What a page sees of its call."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection()
        self.channel = self.peer.createDataChannel("messages")
        self.told: list[Any] = []
        self.frames = {"audio": 0, "video": 0}
        self.lost = False
        self._news = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []
        self.channel.on("message", self._on_message)
        self.channel.on("close", self._on_close)
        self.peer.on("track", lambda track: self._readers.append(asyncio.create_task(self._read(track))))

    async def connect(
        self, viewer: Viewer, microphone: MediaStreamTrack | None = None, **options: Any
    ) -> None:
        if microphone is None:
            self.peer.addTransceiver("audio", direction="recvonly")
        else:
            self.peer.addTrack(microphone)
        self.peer.addTransceiver("video", direction="recvonly")
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = {"sdp": self.peer.localDescription.sdp, "type": "offer"}
        await self.peer.setRemoteDescription(RTCSessionDescription(**await viewer.answer(offer, **options)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(condition)

    async def close(self) -> None:
        await self.peer.close()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _read(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                await track.recv()
                self.frames[track.kind] += 1
                await self._tell()
        except MediaStreamError:
            pass

    async def _on_message(self, text: str) -> None:
        self.told.append(json.loads(text))
        await self._tell()

    async def _on_close(self) -> None:
        self.lost = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def page(viewer: Viewer, **options: Any) -> AsyncIterator[Page]:
    made = Page()
    try:
        await made.connect(viewer, **options)
        yield made
    finally:
        await made.close()


async def play(room: FakeRoom) -> None:
    """Show a picture and play voice, 25 times a second."""
    loop = asyncio.get_running_loop()
    planes = memoryview(np.full(64 * 48 * 3 // 2, 128, np.uint8))
    while True:
        room.show(Picture(planes, 64, 48, loop.time()))
        room.hear(loop.time(), loud=True)
        room.hear(loop.time(), loud=True)
        await asyncio.sleep(0.04)


async def test_a_page_sees_hears_and_is_told(viewer: Viewer, rooms: list[FakeRoom]) -> None:
    """Picture and voice arrive, each state is told, and messages go both ways; a broken handler harms nothing."""
    heard: list[Any] = []
    news = asyncio.Event()

    def on_message(message: dict[str, Any]) -> None:
        heard.append(message)
        news.set()
        if "fail" in message:
            raise RuntimeError("The application's own.")

    async with page(viewer, on_message=on_message) as browser:
        await browser.until(lambda: bool(browser.told))
        assert browser.told == [{"type": "state", "state": "waiting", "text": ""}]
        rooms[0].here(True)
        playing = asyncio.create_task(play(rooms[0]))
        await browser.until(lambda: min(browser.frames.values()) > 10)
        assert [message["state"] for message in browser.told] == ["waiting", "quiet", "speaking"]
        for sent in ("ping", "no JSON", '{"fail": 1}', '{"text": "hello"}'):
            news.clear()
            browser.channel.send(sent)
        async with asyncio.timeout(WAIT_S):
            while {"text": "hello"} not in heard:
                news.clear()
                await news.wait()
        assert heard == [{}, {"fail": 1}, {"text": "hello"}]
        viewer.tell({"type": "words", "text": "Hi"})
        await browser.until(lambda: {"type": "words", "text": "Hi"} in browser.told)
        await viewer.aclose("Over.")
        await browser.until(lambda: browser.lost)
        assert browser.told[-1] == {"type": "state", "state": "ended", "text": "Over."}
        playing.cancel()


async def test_a_microphone_is_heard(viewer: Viewer) -> None:
    """The user's voice comes as 16 kHz samples."""
    heard = bytearray()
    enough = asyncio.Event()

    def listen(pcm: bytes) -> None:
        heard.extend(pcm)
        if len(heard) > 32_000:
            enough.set()

    async with page(viewer, microphone=Tone(), on_microphone=listen):
        async with asyncio.timeout(WAIT_S):
            await enough.wait()
    samples = np.frombuffer(heard, np.int16)[8_000:]
    crossings = np.count_nonzero(np.diff(np.signbit(samples)))
    assert crossings / len(samples) == pytest.approx(
        3 / 20 / np.pi, rel=0.1
    )  # three times as slow as at 48 kHz


async def test_a_page_that_falls_silent_is_dropped(
    viewer: Viewer, rooms: list[FakeRoom], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose computer went to sleep keeps nothing open: no connection, no room."""
    monkeypatch.setattr(_browser, "_SILENCE_TIMEOUT_S", LIMIT_S)
    async with page(viewer) as browser:
        await browser.until(lambda: bool(browser.told))
        async with asyncio.timeout(WAIT_S):
            await rooms[0].left.wait()
        await browser.until(lambda: browser.lost)
    assert viewer.browsers == 0


async def test_a_page_that_leaves_is_gone_at_once(viewer: Viewer, rooms: list[FakeRoom]) -> None:
    """Long before it would count as silent; the other one goes on watching."""
    async with page(viewer) as staying:
        async with page(viewer) as leaving:
            await leaving.until(lambda: bool(leaving.told))
            assert viewer.browsers == 2
        async with asyncio.timeout(_browser._SILENCE_TIMEOUT_S / 2):
            while viewer.browsers == 2:  # noqa: ASYNC110 - a browser that has gone sets no event outside
                await asyncio.sleep(0.01)
        assert not rooms[0].left.is_set()
        await staying.until(lambda: bool(staying.told))
