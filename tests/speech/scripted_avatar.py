"""An avatar that receives like a real one and does what a test says: for what a good avatar never does."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Self

from livekit import rtc

from agenthuman_plugins.speech import AVATAR_IDENTITY
from agenthuman_plugins.speech._utterances import BYTES_PER_SECOND
from tests.speech.conftest import BOT, TestRoom

WIDTH, HEIGHT = 128, 96
_PICTURE_S = 0.04


@dataclass
class Stream:
    """A byte stream as it came."""

    topic: str
    name: str
    attributes: dict[str, str]
    sender: str
    pcm: bytearray = field(default_factory=bytearray)
    closed: bool = False


class ScriptedAvatar:
    """Joins a room, shows a picture of one colour, and keeps a record of what it is told.

    Attributes:
        streams: Every byte stream, in order of its header.
        record: What happened, in order: `open`, `close`, `clear`.
        report_end: Whether it reports a stream as played when that is closed.
    """

    def __init__(self, room: TestRoom, *, identity: str = AVATAR_IDENTITY, hidden: bool = False) -> None:
        self.streams: list[Stream] = []
        self.record: list[str] = []
        self.clear_answer = "ok"
        self.report_clear = True
        self.report_end = False
        self._test_room = room
        self._identity = identity
        self._grants = {"hidden": True} if hidden else {}
        self._room = rtc.Room()
        self._happened = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._publications: dict[str, rtc.LocalTrackPublication] = {}

    async def __aenter__(self) -> Self:
        token = (
            self._test_room.avatar_token()
            if self._identity == AVATAR_IDENTITY
            else self._test_room.guest_token(self._identity, grants=self._grants)
        )
        self._room.register_byte_stream_handler("lk.audio_stream", self._on_stream)
        await self._room.connect(self._test_room.url, token, rtc.RoomOptions(auto_subscribe=False))
        self._room.local_participant.register_rpc_method("lk.clear_buffer", self._on_clear)
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._room.disconnect()

    async def show(self, grey: int = 200) -> None:
        """Publish voice and picture, and feed them until `hide`."""
        voice, picture = rtc.AudioSource(16_000, 1, queue_size_ms=50), rtc.VideoSource(WIDTH, HEIGHT)
        tracks = {
            "audio": rtc.LocalAudioTrack.create_audio_track("voice", voice),
            "video": rtc.LocalVideoTrack.create_video_track("picture", picture),
        }
        for kind, track in tracks.items():
            options = rtc.TrackPublishOptions(simulcast=False)
            self._publications[kind] = await self._room.local_participant.publish_track(track, options)
        self._spawn(self._feed(voice, picture, grey))

    async def hide(self, *kinds: str) -> None:
        """Unpublish tracks."""
        for kind in kinds:
            await self._room.local_participant.unpublish_track(self._publications.pop(kind).sid)

    async def say_state(self, **state: str) -> None:
        """Send a `session.state` packet."""
        await self._room.local_participant.publish_data(json.dumps(state), topic="session.state")

    async def report(self, method: str, payload: str = "") -> str:
        """Call a playback RPC of the bot."""
        return await self._room.local_participant.perform_rpc(
            destination_identity=BOT, method=method, payload=payload
        )

    async def report_finished(self, position_s: float, *, interrupted: bool = False) -> str:
        """Report the end of playback."""
        payload = json.dumps({"playback_position": position_s, "interrupted": interrupted})
        return await self.report("lk.playback_finished", payload)

    async def until(self, condition) -> None:
        """Wait until something is true of what came."""
        async with asyncio.timeout(10):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    def _spawn(self, work) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

    def _note(self, what: str) -> None:
        self.record.append(what)
        self._happened.set()

    def _on_stream(self, reader: rtc.ByteStreamReader, sender: str) -> None:
        info = reader.info
        stream = Stream(info.topic, info.name, dict(info.attributes or {}), sender)
        self.streams.append(stream)
        self._note("open")
        self._spawn(self._read(reader, stream))

    async def _read(self, reader: rtc.ByteStreamReader, stream: Stream) -> None:
        with contextlib.suppress(ConnectionError):
            async for chunk in reader:
                stream.pcm += chunk
                self._happened.set()
            stream.closed = True
            self._note("close")
            if self.report_end:
                self._spawn(self.report_finished(len(stream.pcm) / BYTES_PER_SECOND))

    async def _on_clear(self, call: rtc.RpcInvocationData) -> str:
        self._note("clear")
        if self.clear_answer == "ok" and self.report_clear:
            self._spawn(self.report_finished(0.1, interrupted=True))
        return self.clear_answer

    async def _feed(self, voice: rtc.AudioSource, picture: rtc.VideoSource, grey: int) -> None:
        frame = rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGB24, bytes([grey]) * (WIDTH * HEIGHT * 3))
        while True:
            picture.capture_frame(frame)
            await voice.capture_frame(rtc.AudioFrame(b"\x10\x10" * 640, 16_000, 1, 640))
            await asyncio.sleep(_PICTURE_S)
