"""The avatar's tracks in a LiveKit room, received as a viewer: who publishes nothing and calls nobody."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from urllib.parse import urlsplit

from livekit import rtc

import agenthuman_plugins.speech.livekit  # noqa: F401 - for what it does at exit, before LiveKit's own clean-up
from agenthuman_plugins.client.addresses import is_this_machine
from agenthuman_plugins.speech._jitter import JitterBuffer
from agenthuman_plugins.speech._tracks import closing
from agenthuman_plugins.speech._wire import origin
from agenthuman_plugins.speech.proxies import hide_proxies, show_proxies
from agenthuman_plugins.speech.redaction import keep_out_of_logs, redact
from agenthuman_plugins.viewer._tracks import VOICE_FRAME_MS, VOICE_RATE, Picture, Sound

_JOIN_TIMEOUT_S = 10.0
_SIGNAL_TIMEOUT_S = 5.0  # of each of LiveKit's own attempts to reach the server
# LiveKit cannot be stopped while it joins; by its own time-outs it has given up by then.
_ABANDONED_JOIN_S = 60.0
_LEAVE_TIMEOUT_S = 3.0
_CLOSE_TIMEOUT_S = 2.0
# A voice comes later than its picture: it waits in the avatar's audio queue (50 ms), until a block is full, and in the
# jitter buffer, which is measured.
_VOICE_BEHIND_S = 0.07
_MAX_BEHIND_S = 0.2  # a longer wait would show

_logger = logging.getLogger(__name__)
_leaving: set[asyncio.Task[None]] = set()


class WatchedRoom:
    """The avatar in one room.

    Args:
        url: `wss://…` or `ws://…` of the LiveKit server.
        token: The viewer's own.
        avatar_identity: Whose tracks are received; nobody else's are.
        on_picture: Gets each picture when its voice is due.
        on_sound: Gets the voice, silence included, as it comes.
        on_here: Is told whether the avatar shows its picture.
    """

    def __init__(
        self,
        url: str,
        token: str,
        avatar_identity: str,
        *,
        on_picture: Callable[[Picture], None],
        on_sound: Callable[[Sound], None],
        on_here: Callable[[bool], None],
    ) -> None:
        self._url = url
        self._token = token
        self._avatar_identity = avatar_identity
        self._on_picture = on_picture
        self._on_sound = on_sound
        self._on_here = on_here
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        # By kind, the sid of its track and who reads it.
        self._readers: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._reading: set[asyncio.Task[None]] = set()  # those that are being cancelled included
        self._buffer: JitterBuffer | None = None

    async def stay(self) -> str:
        """Join, receive until the room is lost, and return why in one sentence; leaves when it is cancelled."""
        keep_out_of_logs(self._token)
        room = rtc.Room()
        self._listen(room)
        options = rtc.RoomOptions(auto_subscribe=False, connect_timeout=_SIGNAL_TIMEOUT_S)
        self._pass_by_proxies()
        joining = asyncio.create_task(room.connect(self._url, self._token, options), name="join as a viewer")
        joining.add_done_callback(lambda _: show_proxies(self))
        try:
            async with asyncio.timeout(_JOIN_TIMEOUT_S):
                await asyncio.shield(joining)
            for participant in room.remote_participants.values():
                self._on_participant(participant)
            return await self._lost
        except TimeoutError:
            return f"The LiveKit server at {origin(self._url)} did not answer."
        except rtc.ConnectError as error:
            return f"The room at {origin(self._url)} could not be joined: {redact(error.message)}"
        finally:
            for kind in list(self._readers):
                self._stop_reading(kind)
            leave = asyncio.create_task(
                _leave(joining, room, after=set(self._reading)), name="leave as a viewer"
            )
            _leaving.add(leave)
            leave.add_done_callback(_leaving.discard)
            await asyncio.wait([leave], timeout=_LEAVE_TIMEOUT_S)
            show_proxies(self)

    def _pass_by_proxies(self) -> None:
        if is_this_machine(urlsplit(self._url).hostname):
            hide_proxies(self)

    # --- what the room tells; LiveKit calls these on the event loop

    def _listen(self, room: rtc.Room) -> None:
        room.on("participant_connected", self._on_participant)
        room.on("participant_disconnected", self._on_participant_left)
        room.on("track_published", self._on_published)
        room.on("track_subscribed", self._on_subscribed)
        room.on("track_unsubscribed", self._on_unsubscribed)
        room.on("reconnecting", self._pass_by_proxies)
        room.on("reconnected", lambda: self._on_reconnected(room))
        room.on("disconnected", self._on_disconnected)

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        for publication in participant.track_publications.values():
            self._on_published(publication, participant)

    def _on_published(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity == self._avatar_identity and not publication.subscribed:
            publication.set_subscribed(True)

    def _on_participant_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._avatar_identity:
            for kind in list(self._readers):
                self._stop_reading(kind)

    def _on_subscribed(
        self, track: rtc.Track, _: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity != self._avatar_identity:
            return
        if isinstance(track, rtc.RemoteVideoTrack):
            self._read("video", track.sid, self._read_video(track))
            self._on_here(True)
        elif isinstance(track, rtc.RemoteAudioTrack):
            self._read("audio", track.sid, self._read_audio(track))

    def _on_unsubscribed(
        self, _: rtc.Track, publication: rtc.RemoteTrackPublication, __: rtc.RemoteParticipant
    ) -> None:
        for kind, (sid, _reader) in list(self._readers.items()):
            if sid == publication.sid:
                self._stop_reading(kind)

    def _on_reconnected(self, room: rtc.Room) -> None:
        show_proxies(self)
        for participant in room.remote_participants.values():  # LiveKit forgets what was subscribed to
            self._on_participant(participant)

    def _on_disconnected(self, _: int) -> None:
        if not self._lost.done():
            self._lost.set_result("The room was closed, or the connection to it was lost.")

    # --- reading

    def _read(self, kind: str, sid: str, reading: Coroutine[None, None, None]) -> None:
        if kind in self._readers:
            self._readers.pop(kind)[1].cancel()
        task = asyncio.create_task(reading, name=f"the avatar's {kind}")
        self._reading.add(task)
        task.add_done_callback(self._on_read)
        self._readers[kind] = sid, task

    def _stop_reading(self, kind: str) -> None:
        _, task = self._readers.pop(kind)
        task.cancel()
        if kind == "video":
            self._on_here(False)

    def _on_read(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.warning("Reading %s failed: %r", task.get_name(), error)

    async def _read_audio(self, track: rtc.RemoteAudioTrack) -> None:
        self._buffer = JitterBuffer(track)
        following = asyncio.create_task(self._buffer.follow(), name="jitter buffer")
        stream = rtc.AudioStream(
            track, sample_rate=VOICE_RATE, num_channels=1, frame_size_ms=VOICE_FRAME_MS, capacity=50
        )
        try:
            async with closing(stream):
                async for event in stream:
                    self._on_sound(Sound(event.frame.data.tobytes(), self._loop.time()))
        finally:
            following.cancel()
            await asyncio.wait([following], timeout=_CLOSE_TIMEOUT_S)

    async def _read_video(self, track: rtc.RemoteVideoTrack) -> None:
        stream = rtc.VideoStream(track, capacity=1, format=rtc.VideoBufferType.I420)
        due_s = 0.0
        async with closing(stream):
            async for event in stream:
                frame = event.frame
                due_s = max(due_s, self._loop.time() + self._voice_behind_s)
                picture = Picture(frame.data, frame.width, frame.height, due_s)
                self._loop.call_at(due_s, self._on_picture, picture)

    @property
    def _voice_behind_s(self) -> float:
        buffered_s = self._buffer.delay_s if self._buffer else 0.0
        return min(_VOICE_BEHIND_S + buffered_s, _MAX_BEHIND_S)


async def _leave(joining: asyncio.Task[None], room: rtc.Room, *, after: set[asyncio.Task[None]]) -> None:
    """Leave the room; a join that is cancelled would go on inside LiveKit and leave a ghost in it."""
    if after:  # LiveKit's streams are closed before their room
        await asyncio.wait(after, timeout=2 * _CLOSE_TIMEOUT_S)
    done, _ = await asyncio.wait([joining], timeout=_ABANDONED_JOIN_S)
    if not done or joining.cancelled() or joining.exception() is not None:
        return
    try:
        async with asyncio.timeout(_LEAVE_TIMEOUT_S):
            await room.disconnect()
    except TimeoutError:
        _logger.warning("Leaving the room took longer than %g s.", _LEAVE_TIMEOUT_S)
