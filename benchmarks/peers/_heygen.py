"""HeyGen LiveAvatar: REST and WebSocket on a socket; the objects of the LiveKit SDK faked."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import aiohttp
from aiohttp import web
from livekit import rtc
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.heygen.api_liveavatar import LiveAvatarApi
from pipecat.services.heygen.client import HEY_GEN_SAMPLE_RATE, ServiceType
from pipecat.services.heygen.video import HeyGenVideoService

from benchmarks.peers._pictures import decoded
from benchmarks.peers._vendor import Vendor

_TRACK_RATE = 48_000
_TRACK_PIECE_S = 0.01  # LiveKit's default

_LIMIT_S = 10.0  # hang limit


class HeyGen(Vendor):
    name = "HeyGen"
    boundary = "REST and WebSocket on a socket; `livekit.rtc` Room, AudioStream and VideoStream faked"

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[FrameProcessor]:
        routes = (
            web.post("/sessions/token", self._token),
            web.post("/sessions/start", self._start),
            web.post("/sessions/stop", self._stop),
            web.get("/ws", self._speech),
        )
        async with self.serving(*routes) as self._url, aiohttp.ClientSession() as session:
            with (
                mock.patch.object(LiveAvatarApi, "BASE_URL", self._url),
                mock.patch.multiple(
                    rtc, Room=self._room, AudioStream=self._audio_stream, VideoStream=self._video_stream
                ),
            ):
                yield HeyGenVideoService(
                    api_key="test", session=session, service_type=ServiceType.LIVE_AVATAR
                )

    async def _token(self, _: web.Request) -> web.Response:
        data = {"session_id": "-", "session_token": "test"}
        return web.json_response({"code": 1000, "data": data, "message": ""})

    async def _start(self, _: web.Request) -> web.Response:
        session_id = await self.create()
        await self.avatar(_TRACK_RATE).connect(timeout_s=_LIMIT_S)
        data = {
            "session_id": session_id,
            "livekit_url": "ws://fake",
            "livekit_client_token": "test",
            "livekit_agent_token": "test",
            "max_session_duration": 600,
            "ws_url": self._url.replace("http", "ws") + "/ws",
        }
        return web.json_response({"code": 1000, "data": data, "message": ""})

    async def _stop(self, request: web.Request) -> web.Response:
        self.ended.append((await request.json())["session_id"])
        return web.json_response({"code": 1000, "data": None, "message": ""})

    async def _speech(self, request: web.Request) -> web.WebSocketResponse:
        self._socket = socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        avatar = self.avatars[-1]
        async for message in socket:
            event = message.json()
            match event["type"]:
                case "agent.speak":
                    await avatar.speak(base64.b64decode(event["audio"]), HEY_GEN_SAMPLE_RATE)
                case "agent.speak_end":
                    await avatar.end_utterance()
                case "agent.interrupt":
                    await avatar.interrupt()
        return socket

    def closed(self) -> None:
        self._closing = asyncio.create_task(self._socket.close())
        self._livekit.end()

    def _room(self) -> "_Room":
        self._livekit = _Room(self.conditions.join_s)
        return self._livekit

    async def _audio_stream(self, **_: Any) -> AsyncIterator[Any]:
        async for audio in self.avatars[-1].pieces(_TRACK_PIECE_S):
            frame = rtc.AudioFrame(audio.pcm, audio.sample_rate, 1, len(audio.pcm) // 2)
            yield SimpleNamespace(frame=frame)

    async def _video_stream(self, _: object) -> AsyncIterator[Any]:
        async for picture in self.avatars[-1].every_picture():
            yield SimpleNamespace(frame=decoded(picture), timestamp_us=picture.timestamp_us)


class _Room:
    """A LiveKit room with the avatar in it."""

    name = "fake"

    def __init__(self, join_s: float) -> None:
        self.local_participant = SimpleNamespace(sid="PA_bot")
        self.remote_participants: dict[str, Any] = {}
        self._join_s = join_s
        self._handlers: dict[str, Callable[..., None]] = {}

    def on(self, event: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        return lambda handler: self._handlers.setdefault(event, handler)

    def end(self) -> None:
        """The room is deleted: the avatar leaves, then everybody is disconnected."""
        for event, argument in (
            ("participant_disconnected", self.remote_participants.pop("avatar", None)),
            ("disconnected", "ROOM_DELETED"),
        ):
            if handler := self._handlers.get(event):
                handler(argument)

    async def connect(self, *_: str) -> None:
        await asyncio.sleep(self._join_s)
        kinds = (rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO)
        tracks = {str(kind): SimpleNamespace(kind=kind, track=object(), sid="TR", name="") for kind in kinds}
        self.remote_participants["avatar"] = SimpleNamespace(
            sid="PA_avatar", identity="avatar", track_publications=tracks
        )

    async def disconnect(self) -> None:
        self.remote_participants.clear()
