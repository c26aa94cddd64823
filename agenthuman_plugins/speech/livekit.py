"""The speech link through a LiveKit room.

The protocol is the one that LiveKit's avatar workers speak, spoken directly on `livekit`: one byte stream per
utterance, whose closing marks the utterance's end; RPC to clear, and RPC from the avatar to report playback.
"""

import asyncio
import atexit
import logging
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    from livekit import rtc
except ImportError as error:
    raise ImportError('LiveKit is not installed: run `pip install "agenthuman-plugins[pipecat]"`.') from error

from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.client.rooms import AVATAR_IDENTITY
from agenthuman_plugins.speech._feed import Changes, Feed
from agenthuman_plugins.speech._tracks import AvatarTracks
from agenthuman_plugins.speech._utterances import CLEAR_TIMEOUT_S, PlaybackEvent, Utterances
from agenthuman_plugins.speech._wire import json_object, origin
from agenthuman_plugins.speech.link import (
    SPEECH_SAMPLE_RATE,
    AvatarAudio,
    AvatarConnected,
    AvatarDisconnected,
    AvatarVideo,
    LinkEvent,
    LinkLost,
    Reconnected,
    Reconnecting,
)
from agenthuman_plugins.speech.redaction import keep_out_of_logs, redact

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_AUDIO_TOPIC = "lk.audio_stream"
_AUDIO_ATTRIBUTES = {"sample_rate": str(SPEECH_SAMPLE_RATE), "num_channels": "1"}
_CLEAR_METHOD = "lk.clear_buffer"
_STARTED_METHOD = "lk.playback_started"
_FINISHED_METHOD = "lk.playback_finished"
_STATE_TOPIC = "session.state"

_SIGNAL_TIMEOUT_S = 5.0  # of each of LiveKit's own attempts to reach the server
_WRITE_TIMEOUT_S = 5.0  # a write takes a millisecond; while LiveKit reconnects it waits
_SETTLE_TIMEOUT_S = 1.0  # for a write to come to its end after its caller was cancelled
_LEAVE_TIMEOUT_S = 3.0
# LiveKit cannot be stopped while it joins; by its own time-outs it has given up by then.
_ABANDONED_JOIN_S = 60.0

# LiveKit's threads still log while they close, and one that calls into a Python that is ending aborts the process.
# Registered before LiveKit registers its own clean-up, so that this runs after it and lets those calls through.
_EXIT_DRAIN_S = 0.2
atexit.register(time.sleep, _EXIT_DRAIN_S)

_abandoned: set[asyncio.Task[None]] = set()  # joins that nobody waits for, to be left again


class LiveKitSpeechLink:
    """A `SpeechLink` to an avatar in a LiveKit room. It connects once; make a new one to connect again.

    Args:
        url: `ws://…` or `wss://…` of the LiveKit server.
        token: Access token of our own participant; never logged.
        avatar_identity: The participant to speak through. Only its tracks, reports and packets count.
        audio_sample_rate: Hz of the voice to deliver; at the consumer's own rate nothing is resampled twice.
        audio_frame_ms: Length of the pieces of voice in milliseconds.
        media: Whether to receive voice and picture. Without, nothing is received, decoded or converted.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        avatar_identity: str = AVATAR_IDENTITY,
        audio_sample_rate: int = 24_000,
        audio_frame_ms: int = 40,
        media: bool = True,
    ) -> None:
        self._url = url
        self._token = token
        self._avatar_identity = avatar_identity
        self._media = media
        self._room: rtc.Room | None = None
        self._joining: asyncio.Task[None] | None = None
        self._tracks = AvatarTracks(sample_rate=audio_sample_rate, frame_ms=audio_frame_ms)
        self._events: Feed[LinkEvent] = Feed()
        self._utterances = Utterances(lambda: asyncio.get_running_loop().time())
        self._deadline: asyncio.TimerHandle | None = None
        self._changes = Changes()
        self._wire = asyncio.Lock()  # open, write, close and clear reach the wire in the order of the calls
        self._operations: set[asyncio.Task[Any]] = set()  # on the wire
        self._stream: tuple[int, rtc.ByteStreamWriter] | None = None  # the open one, with its utterance
        self._avatar_ready = False
        self._refusal: str | None = None  # what the avatar said when it disconnected
        self._gone: str | None = None  # why nothing can be sent any more
        self._leaving: asyncio.Task[None] | None = None

    async def connect(self, *, timeout_s: float) -> None:
        """Join the room and wait until the avatar is there and shows its picture.

        Raises:
            SpeechLinkError: The room could not be joined, or the avatar did not appear within `timeout_s`.
        """
        if self._room is not None or self._gone is not None:
            raise SpeechLinkError("A speech link connects once; make a new one.")
        try:
            problem = await self._join(timeout_s)
        except BaseException:
            await self.aclose()
            raise
        # Raised here, not where it was caught: the cause may hold the token in its text, and must not be chained.
        if problem is not None:
            await self.aclose()
            raise problem

    async def send(self, pcm: bytes) -> int:
        """Send speech and return the number of its utterance; see `SpeechLink.send`.

        Raises:
            SpeechLinkError: The connection is gone, or the avatar is not in the room.
        """
        async with self._wire:
            local = self._require_avatar()
            number = self._utterances.open()
            problem = await self._settled(self._write(local, number, pcm))
        if problem is not None:
            raise SpeechLinkError(problem, retryable=True)
        return number

    async def end_utterance(self) -> None:
        """Close the utterance's stream: the only mark of its end that the avatar gets."""
        async with self._wire:
            if self._stream is not None:
                self._utterances.end()
                self._rearm()
                await self._settled(self._close_stream())

    async def interrupt(self) -> None:
        """Make the avatar drop what it has; see `SpeechLink.interrupt`."""
        if self._utterances.cut():
            self._rearm()  # from here on the end is certain, whatever becomes of this call
            await self._clear_in_turn(asyncio.get_running_loop().time() + CLEAR_TIMEOUT_S)
        await self._changes.until(lambda: not self._utterances.clearing)

    async def wait_playback(self, *, timeout_s: float) -> bool:
        """Wait until nothing is in flight; `False` if that took longer than `timeout_s`."""
        return await self._changes.within(timeout_s, lambda: not self._utterances.in_flight)

    def events(self) -> Feed[LinkEvent]:
        """What happens on the link, in order, until it is closed or lost. For one reader."""
        return self._events

    def audio(self) -> Feed[AvatarAudio]:
        """The avatar's voice, silence included; one second of it waits for a slow reader."""
        return self._tracks.audio

    def video(self) -> Feed[AvatarVideo]:
        """The avatar's picture, converted from the first call on; a slow reader gets the newest one."""
        return self._tracks.watch()

    async def aclose(self) -> None:
        """Leave the room and free everything; harmless when repeated or never connected."""
        await asyncio.shield(self._leave("The speech link is closed."))

    # --- joining and leaving

    async def _join(self, timeout_s: float) -> SpeechLinkError | None:
        """Join and wait for the avatar; return what went wrong."""
        keep_out_of_logs(self._token)
        room = self._room = rtc.Room()
        self._listen(room)
        options = rtc.RoomOptions(auto_subscribe=False, connect_timeout=min(timeout_s, _SIGNAL_TIMEOUT_S))
        joining = self._joining = asyncio.create_task(room.connect(self._url, self._token, options))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(joining)
                self._answer_reports(room.local_participant)
                for participant in room.remote_participants.values():
                    self._on_participant(participant)
                await self._changes.until(lambda: bool(self._avatar_ready or self._refusal or self._gone))
        except TimeoutError:
            problem = (
                "The avatar did not appear in the room"
                if joining.done()
                else f"No answer from the LiveKit server at {origin(self._url)}"
            )
            return SpeechLinkError(f"{problem} within {timeout_s:g} s.", retryable=True)
        except rtc.ConnectError as error:
            problem = f"Could not join the LiveKit room at {origin(self._url)}: {redact(error.message)}"
            # HTTP 4xx is a wrong token or address: the same call will fail again.
            return SpeechLinkError(problem, retryable="client error: 4" not in problem)
        return None if self._avatar_ready else SpeechLinkError(self._gone or self._refusal or "")

    def _listen(self, room: rtc.Room) -> None:
        room.on("participant_connected", self._on_participant)
        room.on("participant_disconnected", self._on_participant_left)
        room.on("track_published", self._on_track_published)
        room.on("track_unpublished", self._on_track_unpublished)
        room.on("track_subscribed", self._on_track_subscribed)
        room.on("track_unsubscribed", self._on_track_unsubscribed)
        room.on("data_received", self._on_data)
        room.on("reconnecting", lambda: self._events.put(Reconnecting()))
        room.on("reconnected", self._on_reconnected)
        room.on("disconnected", self._on_room_lost)

    def _answer_reports(self, local: rtc.LocalParticipant) -> None:
        # Before any speech: a stock avatar worker stops for good when its report finds no handler.
        local.register_rpc_method(_STARTED_METHOD, self._on_playback_started)
        local.register_rpc_method(_FINISHED_METHOD, self._on_playback_finished)

    def _leave(self, reason: str, *, lost: bool = False) -> asyncio.Task[None]:
        """Begin to free everything, once; the task is for waiting."""
        if self._leaving is None:
            self._gone = reason
            self._stream = None  # LiveKit frees it with the room
            self._report(self._utterances.abandon())
            if lost:
                self._events.put(LinkLost(reason))
            self._events.close()
            self._leaving = asyncio.create_task(self._free(), name="leave avatar room")
        return self._leaving

    async def _free(self) -> None:
        await self._tracks.aclose()
        if self._operations:
            await asyncio.wait(self._operations, timeout=_SETTLE_TIMEOUT_S)
        if self._room is None or self._joining is None:
            return
        if self._joining.done():
            await _disconnect(self._room)
            return
        # A join that is cancelled would go on inside LiveKit and leave a ghost in the room.
        task = asyncio.create_task(_leave_after(self._joining, self._room), name="leave abandoned room")
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)

    # --- what the room tells; LiveKit calls these on the event loop

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        for publication in participant.track_publications.values():
            self._on_track_published(publication, participant)

    def _on_participant_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._avatar_identity:
            self._stream = None  # nobody reads it any more
            self._report(self._utterances.abandon())
            self._avatar_lost("The avatar left the room.")

    def _on_track_published(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity != self._avatar_identity:
            return
        if self._media:
            publication.set_subscribed(True)
        if publication.kind == rtc.TrackKind.KIND_VIDEO and not self._avatar_ready:
            self._avatar_ready = True
            self._refusal = None
            self._events.put(AvatarConnected())
            self._changes.notify()

    def _on_track_unpublished(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity != self._avatar_identity:
            return
        self._tracks.drop(publication.sid)
        # A new picture may be published before the old one goes.
        if all(p.kind != rtc.TrackKind.KIND_VIDEO for p in participant.track_publications.values()):
            self._avatar_lost("The avatar lost its picture.")

    def _on_track_subscribed(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity == self._avatar_identity and self._gone is None:
            self._tracks.take(track)

    def _on_track_unsubscribed(
        self, _track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity == self._avatar_identity:
            self._tracks.drop(publication.sid)

    def _on_data(self, packet: rtc.DataPacket) -> None:
        # LiveKit names no participant while it does not know the sender yet; the avatar's first packet may be such.
        sender = packet.participant
        if packet.topic != _STATE_TOPIC or (sender is not None and sender.identity != self._avatar_identity):
            return
        message = json_object(packet.data)
        if message.get("state") == "disconnected":
            reason = redact(str(message.get("reason") or "no reason given"))
            self._refusal = f"The avatar disconnected: {reason}"
            self._avatar_lost(self._refusal)
            self._changes.notify()

    def _on_reconnected(self) -> None:
        self._events.put(Reconnected())
        # LiveKit forgets what is subscribed to while it reconnects. Locked by test_connection_that_is_made_again.
        avatar = self._room.remote_participants.get(self._avatar_identity) if self._room else None
        if self._media and avatar is not None:
            for publication in avatar.track_publications.values():
                if not publication.subscribed:
                    publication.set_subscribed(True)

    def _on_room_lost(self, reason: int) -> None:
        name = rtc.DisconnectReason.Name(rtc.DisconnectReason.ValueType(reason)).lower().replace("_", " ")
        self._leave(f"The room was lost: {name}.", lost=True)

    def _avatar_lost(self, reason: str) -> None:
        if self._avatar_ready:
            self._avatar_ready = False
            self._events.put(AvatarDisconnected(reason))

    # --- the avatar's reports

    async def _on_playback_started(self, call: rtc.RpcInvocationData) -> str:
        if call.caller_identity != self._avatar_identity:
            return "reject"
        self._report(self._utterances.started())
        return "ok"

    async def _on_playback_finished(self, call: rtc.RpcInvocationData) -> str:
        if call.caller_identity != self._avatar_identity:
            return "reject"
        payload = json_object(call.payload)
        position_s = _number(payload.get("playback_position"))
        self._report(self._utterances.finished(position_s, interrupted=payload.get("interrupted") is True))
        return "ok"

    def _report(self, events: list[PlaybackEvent]) -> None:
        for event in events:
            self._events.put(event)
        self._rearm()
        self._changes.notify()

    def _rearm(self) -> None:
        """Set the alarm for the time at which the utterance in play is over without a report."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if (deadline := self._utterances.deadline) is not None:
            self._deadline = asyncio.get_running_loop().call_at(
                deadline, lambda: self._report(self._utterances.expire())
            )

    # --- the wire: each operation runs under the lock and to its end

    async def _settled(self, operation: Coroutine[Any, Any, _T]) -> _T:
        """Await an operation that must not be cut in half: a half-opened stream could never be closed."""
        task = asyncio.create_task(operation)
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=_SETTLE_TIMEOUT_S)
            raise

    def _require_avatar(self) -> rtc.LocalParticipant:
        if self._gone is not None or self._room is None:
            raise SpeechLinkError(self._gone or "The speech link is not connected.")
        if self._avatar_identity not in self._room.remote_participants:
            raise SpeechLinkError("The avatar is not in the room.", retryable=True)
        return self._room.local_participant

    async def _write(self, local: rtc.LocalParticipant, number: int, pcm: bytes) -> str | None:
        """Write speech of an utterance, on a new stream if it has none; return what went wrong."""
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                if self._stream is None or self._stream[0] != number:
                    await self._close_stream()
                    self._stream = number, await self._open_stream(local, number)
                await self._stream[1].write(pcm)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            self._stream = None
            self._utterances.end()
            self._rearm()
            return f"Speech could not be sent: {redact(str(error)) or 'the room does not answer'}."
        self._utterances.push(number, len(pcm))
        return None

    async def _open_stream(self, local: rtc.LocalParticipant, number: int) -> rtc.ByteStreamWriter:
        return await local.stream_bytes(
            f"AUDIO_{number}",
            topic=_AUDIO_TOPIC,
            attributes=_AUDIO_ATTRIBUTES,
            destination_identities=[self._avatar_identity],
        )

    async def _close_stream(self) -> None:
        stream, self._stream = self._stream, None  # first, since a stream can be closed only once
        if stream is None:
            return
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await stream[1].aclose()
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            _log.warning("The end of utterance %d was not sent: %s", stream[0], redact(str(error)))

    async def _clear_in_turn(self, deadline: float) -> None:
        """Clear when what is being written is out; by `deadline` the utterances are over without it."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._wire.acquire()
        except TimeoutError:
            _log.warning("The avatar was not cleared: speech is stuck on its way.")
            return
        try:
            await self._settled(self._clear(deadline))
        finally:
            self._wire.release()

    async def _clear(self, deadline: float) -> None:
        """Close the open stream, then clear: an avatar drops what still comes on a stream that it cleared."""
        answer = ""
        try:
            async with asyncio.timeout_at(deadline):
                await self._close_stream()
                answer = await self._require_avatar().perform_rpc(
                    destination_identity=self._avatar_identity, method=_CLEAR_METHOD, payload=""
                )
        except (rtc.RpcError, SpeechLinkError, TimeoutError) as error:
            _log.warning("The avatar was not cleared: %s", redact(str(error)) or "no answer")
        if answer == "ok":
            self._utterances.clear_confirmed()
            self._rearm()
        else:
            self._report(self._utterances.clear_failed())


async def _leave_after(joining: asyncio.Task[None], room: rtc.Room) -> None:
    done, _ = await asyncio.wait([joining], timeout=_ABANDONED_JOIN_S)
    if done and not joining.cancelled() and joining.exception() is None:
        await _disconnect(room)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


async def _disconnect(room: rtc.Room) -> None:
    try:
        async with asyncio.timeout(_LEAVE_TIMEOUT_S):
            await room.disconnect()
    except TimeoutError:
        _log.warning("Leaving the room took longer than %g s.", _LEAVE_TIMEOUT_S)
