"""Tavus: REST on a socket; the native call client of the Daily SDK faked."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import aiohttp
from aiohttp import web
from pipecat.processors.frame_processor import FrameProcessor

from benchmarks.peers._avatar import Avatar
from benchmarks.peers._vendor import CannotRunError, Vendor

try:
    from pipecat.services.tavus.video import TavusVideoService
    from pipecat.transports.daily import transport as daily
    from pipecat.transports.tavus.transport import TavusApi
except Exception as error:  # noqa: BLE001 - Pipecat raises bare ones without the SDK
    _MISSING: Exception | None = error
else:
    _MISSING = None

_PARTICIPANT = "avatar"

_LIMIT_S = 10.0  # hang limit


class Tavus(Vendor):
    name = "Tavus"
    boundary = "REST on a socket; `daily.CallClient` faked"

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[FrameProcessor]:
        if _MISSING:
            raise CannotRunError("daily-python is not installed")
        routes = (
            web.post("/conversations", self._create),
            web.post("/conversations/{id}/end", self._end),
        )
        async with self.serving(*routes) as url, aiohttp.ClientSession() as session:
            with (
                mock.patch.object(TavusApi, "BASE_URL", url),
                mock.patch.object(daily, "CallClient", self._call_client),
                mock.patch.object(daily, "Daily", mock.Mock()),
            ):
                yield TavusVideoService(api_key="test", replica_id="test", session=session)

    async def _create(self, _: web.Request) -> web.Response:
        session_id = await self.create()
        await self.avatar(self.conditions.output_rate).connect(timeout_s=_LIMIT_S)
        return web.json_response({"conversation_id": session_id, "conversation_url": "https://fake"})

    async def _end(self, request: web.Request) -> web.Response:
        self.ended.append(request.match_info["id"])
        return web.json_response({})

    def closed(self) -> None:
        self._call.end()

    def _call_client(self, event_handler: Any) -> "_CallClient":
        self._call = _CallClient(event_handler, self.avatars[-1], self.conditions.join_s)
        return self._call


class _CallClient:
    """A call with the avatar in it. Its callbacks come from other threads, as the SDK's do."""

    def __init__(self, handler: Any, avatar: Avatar, join_s: float) -> None:
        self._handler = handler
        self._avatar = avatar
        self._join_s = join_s
        self._tasks: list[asyncio.Task[None]] = []

    def set_user_name(self, _: str) -> None: ...

    def update_subscription_profiles(self, _: object) -> None: ...

    def update_subscriptions(self, *, completion: Callable[..., None], **_: object) -> None:
        completion(None)

    def join(self, *_: object, completion: Callable[..., None], **__: object) -> None:
        self._run(self._join(completion))

    def end(self) -> None:
        """The conversation is over: the replica leaves."""
        self._run(asyncio.to_thread(self._handler.on_participant_left, {"id": _PARTICIPANT}, "leftCall"))

    def leave(self, completion: Callable[..., None]) -> None:
        completion(None)

    def release(self) -> None:
        for task in self._tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)

    def send_app_message(self, message: dict[str, Any], _: object, completion: Callable[..., None]) -> None:
        self._run(self._take(message, completion))

    def set_audio_renderer(
        self,
        participant_id: str,
        callback: Callable[..., None],
        *,
        audio_source: str,
        callback_interval_ms: int,
        **_: object,
    ) -> None:
        async def render() -> None:
            async for audio in self._avatar.pieces(callback_interval_ms / 1000):
                piece = SimpleNamespace(audio_frames=audio.pcm, sample_rate=audio.sample_rate, num_channels=1)
                await asyncio.to_thread(callback, participant_id, piece, audio_source)

        self._run(render())

    def set_video_renderer(
        self, participant_id: str, callback: Callable[..., None], *, video_source: str, color_format: str
    ) -> None:
        async def render() -> None:
            async for picture in self._avatar.every_picture():
                frame = SimpleNamespace(
                    buffer=picture.rgb, width=picture.width, height=picture.height, color_format=color_format
                )
                await asyncio.to_thread(callback, participant_id, frame, video_source)

        self._run(render())

    async def _join(self, completion: Callable[..., None]) -> None:
        await asyncio.sleep(self._join_s)
        completion({"participants": {"local": {"id": "bot"}}, "meetingSession": {"id": "meeting"}}, None)
        await asyncio.to_thread(self._handler.on_participant_joined, {"id": _PARTICIPANT})

    async def _take(self, message: dict[str, Any], completion: Callable[..., None]) -> None:
        if message["event_type"] == "conversation.interrupt":
            await self._avatar.interrupt()
        else:
            properties = message["properties"]
            if properties["done"]:  # with 40 ms of silence that is no speech
                await self._avatar.end_utterance()
            else:
                await self._avatar.speak(base64.b64decode(properties["audio"]), properties["sample_rate"])
        completion(None)

    def _run(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))
