"""A browser without a window: joins the page's call by WebRTC and notes what it is told and shown."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import httpx
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

WAIT_S = 30.0  # hang limit of every wait
_PING_S = 1.0


class Visitor:
    """One visit, from the offer until `leave` or `vanish`."""

    def __init__(self, url: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.pictures = 0
        self._url = url
        self._id = ""
        self._pinging = True
        self._peer = RTCPeerConnection()
        self._channel = self._peer.createDataChannel("messages")
        self._news = asyncio.Condition()
        self._open = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def visiting(cls, url: str) -> AsyncIterator[Self]:
        visitor = cls(url)
        try:
            await visitor.join()
            yield visitor
        finally:
            await visitor.leave()

    async def join(self) -> None:
        self._peer.addTransceiver("audio", direction="sendrecv")
        self._peer.addTransceiver("video", direction="recvonly")
        self._peer.on("track", self._on_track)
        self._channel.on("open", self._open.set)
        self._channel.on("message", self._on_message)
        await self._peer.setLocalDescription(await self._peer.createOffer())
        offer = self._peer.localDescription
        answer = await self._exchange({"sdp": offer.sdp, "type": offer.type})
        self._id = answer["pc_id"]
        await self._peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        async with asyncio.timeout(WAIT_S):
            await self._open.wait()
        self._tasks.append(asyncio.create_task(self._ping()))

    async def _exchange(self, offer: dict[str, str]) -> dict[str, Any]:
        """Give the offer and return the answer."""
        async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client:
            answer = await client.post(f"{self._url}/api/offer", json=offer)
        return answer.raise_for_status().json()

    async def _say_goodbye(self) -> None:
        async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client:
            await client.post(f"{self._url}/api/leave/{self._id}")

    def send(self, **message: Any) -> None:
        self._channel.send(json.dumps(message))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(condition)

    async def told(self, kind: str, **fields: Any) -> None:
        """Wait for a message, also an earlier one."""
        wanted = {"type": kind, **fields}
        await self.until(lambda: any(wanted.items() <= message.items() for message in self.messages))

    @property
    def words(self) -> str:
        return " ".join(message["text"] for message in self.messages if message["type"] == "words")

    async def leave(self) -> None:
        """Leave as a page does that is closed."""
        if self._id:
            with contextlib.suppress(httpx.HTTPError):  # the demo may have been stopped
                await self._say_goodbye()
        await self._close()

    def vanish(self) -> None:
        """Leave as a page does whose computer went to sleep: it stays silent."""
        self._id = ""
        self._pinging = False

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._peer.close()

    async def _ping(self) -> None:
        while self._pinging and self._channel.readyState == "open":
            self._channel.send("ping")
            await asyncio.sleep(_PING_S)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._watch(track)))

    async def _watch(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
                if track.kind == "video":
                    self.pictures += 1
                    await self._tell()

    async def _on_message(self, message: str) -> None:
        self.messages.append(json.loads(message))
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
