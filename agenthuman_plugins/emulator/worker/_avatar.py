"""The avatar in a LiveKit room.

Events for the parent: `ready` (both tracks are published), `participants` with `count` (the others in the room; after
`ready` and on every change), `disconnected` with `reason` (the room was lost; the process ends), and those of
`_player.py`, which has the messages from the parent, too.
"""

import asyncio
import json
import logging
from typing import Any

import cv2
from livekit import rtc
from livekit.rtc.participant import PublishDataError, PublishTrackError

from agenthuman_plugins.client.rooms import ON_BEHALF_OF
from agenthuman_plugins.emulator.face import Face, Look
from agenthuman_plugins.emulator.process import Emit, Event
from agenthuman_plugins.emulator.worker._notifier import PlaybackNotifier
from agenthuman_plugins.emulator.worker._player import STOPPED, Player
from agenthuman_plugins.emulator.worker._roomless import RoomlessAvatar
from agenthuman_plugins.emulator.worker._sender import Sender
from agenthuman_plugins.emulator.worker._settings import WorkerSettings
from agenthuman_plugins.emulator.worker._streams import SpeechReceiver
from agenthuman_plugins.emulator.worker._tracks import PictureTrack, VoiceTrack
from agenthuman_plugins.speech.proxies import direct_to
from agenthuman_plugins.speech.redaction import keep_out_of_logs, redact

_log = logging.getLogger(__name__)

_SPEECH_TOPIC = "lk.audio_stream"
_STATE_TOPIC = "session.state"
_CLEAR = "lk.clear_buffer"

_JOIN_TIMEOUT_S = 10.0
_PUBLISH_TIMEOUT_S = 10.0
_GOODBYE_TIMEOUT_S = 1.5  # less than what `process` gives a child to end in order


async def main(settings: dict[str, Any], emit: Emit, messages: "asyncio.Queue[Event]") -> None:
    """Be an avatar until told to leave, disconnected or cancelled; the child side of `run_child`."""
    cv2.setNumThreads(1)  # one small picture at a time: more threads cost more than they bring
    checked = WorkerSettings.from_json(settings)
    avatar = Avatar(checked, emit) if checked.url else RoomlessAvatar(checked, emit)
    with direct_to(checked.url):
        await avatar.run(messages)


class Avatar:
    """One avatar in one room.

    Args:
        settings: Which room, which avatar.
        emit: Sends events to the parent.
    """

    def __init__(self, settings: WorkerSettings, emit: Emit) -> None:
        self._settings = settings
        self._emit = emit
        self._room = rtc.Room()
        self._player = Player(self, emit, settings.faults)
        self._sender = Sender(settings.sender)
        self._notifier = PlaybackNotifier(self._call)
        self._voice = VoiceTrack()
        self._picture = PictureTrack(settings.width, settings.height, settings.fps)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._state_packets: set[asyncio.Task[None]] = set()

    async def run(self, messages: "asyncio.Queue[Event]") -> None:
        """Join, play what comes, leave.

        Args:
            messages: What the parent sends.

        Raises:
            ConnectionError: The room could not be joined, or the tracks could not be published.
        """
        settings = self._settings
        # The portrait is painted once, which takes a while: off the loop.
        face = await asyncio.to_thread(Face, settings.width, settings.height, Look.of(settings.avatar))
        self._player.show(face, self._voice, self._picture, fps=settings.fps)
        self._receiver = SpeechReceiver(self._player.push, self._player.end)
        reason = STOPPED
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._join()
            leave = asyncio.create_task(self._player.follow(messages), name="messages of the parent")
            loop = asyncio.create_task(self._player.run(), name="avatar loop")
            receiver = asyncio.create_task(self._receiver.run(), name="speech receiver")
            tasks = [leave, loop, receiver]
            await self._publish()
            self._emit({"event": "ready"})
            self._participants_changed()
            self._send_state("connected")
            await asyncio.wait({*tasks, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            for endless in (loop, receiver):
                if endless.done():
                    endless.result()  # raises: it ends in no other way
            if leave.done():
                reason = leave.result()
            elif self._lost.done():
                self._emit({"event": "disconnected", "reason": self._lost.result()})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._leave(reason)

    def playback_started(self) -> None:
        """Tell the sender."""
        if sender := self._sender.reachable:
            self._notifier.started(sender)

    def playback_finished(self, position_s: float, *, interrupted: bool) -> None:
        """Tell the sender."""
        if sender := self._sender.reachable:
            self._notifier.finished(sender, position_s, interrupted=interrupted)

    def lose(self) -> None:
        """Leave the room without a word, as if the connection had broken."""
        if not self._lost.done():
            self._lost.set_result("fault")

    async def _join(self) -> None:
        room = self._room
        keep_out_of_logs(self._settings.token)
        # Before the connection: a stream whose topic nobody handles is lost.
        room.register_byte_stream_handler(_SPEECH_TOPIC, self._on_stream)
        room.on("participant_connected", self._on_participant_connected)
        room.on("participant_active", self._on_participant_active)
        room.on("participant_disconnected", self._on_participant_disconnected)
        room.on("disconnected", self._on_disconnected)
        options = rtc.RoomOptions(auto_subscribe=False)
        try:
            async with asyncio.timeout(_JOIN_TIMEOUT_S):
                await room.connect(self._settings.url, self._settings.token, options)
        except TimeoutError:
            message = f"The avatar could not join the room within {_JOIN_TIMEOUT_S:g} s."
            raise ConnectionError(message) from None
        except rtc.ConnectError as error:
            raise ConnectionError(f"The avatar could not join the room: {redact(error.message)}") from None
        room.local_participant.register_rpc_method(_CLEAR, self._on_clear)
        self._sender.name(room.local_participant.attributes.get(ON_BEHALF_OF))

    async def _publish(self) -> None:
        participant = self._room.local_participant
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                for published in (self._voice, self._picture):
                    await participant.publish_track(published.track, published.options)
        except (TimeoutError, PublishTrackError) as error:
            reason = str(error) or f"no answer within {_PUBLISH_TIMEOUT_S:g} s"
            raise ConnectionError(f"The avatar could not publish its voice and video: {reason}") from None

    async def _leave(self, reason: str) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                await self._notifier.aclose()
                if self._room.isconnected() and not self._lost.done():
                    await self._say_goodbye(reason)
                await self._room.disconnect()
        except Exception as error:  # noqa: BLE001 - the process ends next, and with it the connection
            _log.debug("Leaving the room: %r", error)

    async def _say_goodbye(self, reason: str) -> None:
        await self._publish_state("disconnected", reason=reason)
        participant = self._room.local_participant
        for sid in list(participant.track_publications):
            await participant.unpublish_track(sid)

    def _on_stream(self, reader: rtc.ByteStreamReader, identity: str) -> None:
        self._sender.look_among(self._room.remote_participants.values())
        if self._sender.accepts(identity):
            self._receiver.open(reader, reader.info.attributes or {})
        else:
            reader.close()

    async def _on_clear(self, invocation: rtc.RpcInvocationData) -> str:
        self._sender.look_among(self._room.remote_participants.values())
        if invocation.caller_identity != self._sender.identity:
            return "reject"
        self._clear()
        return "ok"

    def _clear(self) -> None:
        self._receiver.clear()
        self._player.clear()

    def _on_participant_connected(self, _: rtc.RemoteParticipant) -> None:
        self._participants_changed()

    def _on_participant_active(self, participant: rtc.RemoteParticipant) -> None:
        # Packets are not kept for those who come later.
        self._send_state("connected", to=participant.identity)

    def _on_participant_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        if self._sender.left(participant.identity):
            self._clear()  # nobody is left to end what it was saying
        self._participants_changed()

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        if not self._lost.done():
            self._lost.set_result(rtc.DisconnectReason.Name(reason).lower())

    def _participants_changed(self) -> None:
        self._emit({"event": "participants", "count": len(self._room.remote_participants)})

    def _send_state(self, state: str, *, to: str | None = None) -> None:
        task = asyncio.create_task(self._publish_state(state, to=to), name="session.state")
        self._state_packets.add(task)
        task.add_done_callback(self._state_packets.discard)

    async def _publish_state(self, state: str, *, to: str | None = None, reason: str | None = None) -> None:
        packet = {"state": state} | ({"reason": reason} if reason else {})
        try:
            await self._room.local_participant.publish_data(
                json.dumps(packet), topic=_STATE_TOPIC, destination_identities=[to] if to else []
            )
        except PublishDataError as error:
            _log.debug("session.state: %s", error.message)

    async def _call(self, identity: str, method: str, payload: str) -> None:
        await self._room.local_participant.perform_rpc(
            destination_identity=identity, method=method, payload=payload
        )
