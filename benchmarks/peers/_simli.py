"""Simli: its SDK is real; the SDK's connection to the vendor is faked."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import numpy as np
from livekit import rtc
from pipecat.processors.frame_processor import FrameProcessor

from benchmarks.peers._avatar import Avatar
from benchmarks.peers._pictures import i420
from benchmarks.peers._vendor import CannotRunError, Vendor

try:
    import av
    from pipecat.services.simli.video import SimliVideoService
    from simli.transports import livekit_transport, p2p_transport
    from websockets import WebSocketException
except Exception as error:  # noqa: BLE001 - Pipecat raises bare ones without the SDK
    _MISSING: Exception | None = error
else:
    _MISSING = None

_TRACK_RATE = 48_000
_TRACK_PIECE_S = 0.02  # an Opus packet, as aiortc decodes it
_SPEECH_RATE = 16_000
_INTRODUCTION = b"PLAY_IMMEDIATE"

_LIMIT_S = 10.0  # hang limit


class Simli(Vendor):
    name = "Simli"
    boundary = "the SDK's `P2PTransport` and `LivekitTransport` (the WebSocket and its aiortc tracks) faked"
    has_sessions = False

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[FrameProcessor]:
        if _MISSING:
            raise CannotRunError("simli-ai is not installed")
        async with self.serving():
            with (
                mock.patch.object(p2p_transport, "P2PTransport", self._connection),
                mock.patch.object(livekit_transport, "LivekitTransport", self._connection),
            ):
                yield SimliVideoService(api_key="test", face_id="test")

    def _connection(self, *_: object) -> "_Connection":
        return _Connection(self)


class _Connection:
    """The avatar's tracks, and the socket that its speech goes to."""

    _avatar: Avatar
    wsConnection: "_Connection"  # noqa: N815 - the SDK's name; as there, missing until it is connected

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    async def Connect(self) -> None:  # noqa: N802 - the SDK's name
        if self._vendor.conditions.refuses or self._vendor.full:
            raise PermissionError("refused")
        await asyncio.sleep(self._vendor.conditions.join_s or self._vendor.conditions.create_s)
        self._avatar = self._vendor.avatar(_TRACK_RATE)
        await self._avatar.connect(timeout_s=_LIMIT_S)
        self.wsConnection = self
        self._vendor.begin(f"connection-{len(self._vendor.opened) + 1}")

    async def stop(self) -> None:
        self._vendor.ended += self._vendor.opened[-1:]

    async def send(self, message: str | bytes) -> None:
        if not self._avatar.is_there:
            raise WebSocketException("The session has ended.")
        if isinstance(message, str):
            if self._avatar.wire.speech:  # the SDK sends one when it starts, too
                await self._avatar.interrupt()
            return
        pcm = message.removeprefix(_INTRODUCTION)
        if any(pcm):  # the SDK begins with silence
            await self._avatar.speak(pcm, _SPEECH_RATE)

    async def AudioFrameIterator(self) -> AsyncIterator[Any]:  # noqa: N802 - the SDK's name
        async for audio in self._avatar.pieces(_TRACK_PIECE_S):
            stereo = np.frombuffer(audio.pcm, np.int16).repeat(2)[None, :]
            frame = av.AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
            frame.sample_rate = audio.sample_rate
            yield frame

    async def VideoFrameIterator(self) -> AsyncIterator[Any]:  # noqa: N802 - the SDK's name
        async for picture in self._avatar.every_picture():
            yield _decoded(i420(picture))


@functools.lru_cache(maxsize=8)  # what the fake costs must not be charged to the service
def _decoded(frame: rtc.VideoFrame) -> Any:
    planes = np.frombuffer(frame.data, np.uint8).reshape(-1, frame.width)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")
