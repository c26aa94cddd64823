"""The speech link through a LiveKit room.

The protocol is the one that LiveKit's avatar workers speak, spoken directly on `livekit`: one byte stream per
utterance, whose closing marks the utterance's end; RPC to clear, and RPC from the avatar to report playback.

LiveKit's client follows no redirect with the token. Locked by test_redirect_is_not_followed.
"""

import asyncio
import atexit
import logging
import time
from typing import Any
from urllib.parse import urlsplit

try:
    from livekit import rtc
except ImportError as error:
    raise ImportError('LiveKit is not installed: run `pip install "agenthuman-plugins[speech]"`.') from error

from agenthuman_plugins.client.addresses import check_plain, is_this_machine
from agenthuman_plugins.client.errors import ConfigurationError, SpeechLinkError
from agenthuman_plugins.client.rooms import AVATAR_IDENTITY
from agenthuman_plugins.speech._base import LinkBase, loop_time
from agenthuman_plugins.speech._feed import Feed
from agenthuman_plugins.speech._presence import Change, Presence, State
from agenthuman_plugins.speech._speech_stream import PIECE_BYTES, SpeechStream
from agenthuman_plugins.speech._tracks import AvatarTracks
from agenthuman_plugins.speech._utterances import Utterances
from agenthuman_plugins.speech._wire import json_object, origin
from agenthuman_plugins.speech.link import AvatarAudio, AvatarVideo, Reconnected, Reconnecting
from agenthuman_plugins.speech.proxies import hide_proxies, show_proxies
from agenthuman_plugins.speech.redaction import keep_out_of_logs, redact

_log = logging.getLogger(__name__)

_STARTED_METHOD = "lk.playback_started"
_FINISHED_METHOD = "lk.playback_finished"
_STATE_TOPIC = "session.state"

_SIGNAL_TIMEOUT_S = 5.0  # of each of LiveKit's own attempts to reach the server
_SETTLE_TIMEOUT_S = 1.0  # for a write to come to its end before we leave
_LEAVE_TIMEOUT_S = 3.0
# LiveKit cannot be stopped while it joins; by its own time-outs it has given up by then.
_ABANDONED_JOIN_S = 60.0

# LiveKit's threads still log while they close, and one that calls into a Python that is ending aborts the process.
# Registered before LiveKit registers its own clean-up, so that this runs after it and lets those calls through.
_EXIT_DRAIN_S = 0.2
atexit.register(time.sleep, _EXIT_DRAIN_S)

_abandoned: set[asyncio.Task[None]] = set()  # joins that nobody waits for, to be left again


class LiveKitSpeechLink(LinkBase):
    """A `SpeechLink` to an avatar in a LiveKit room. It connects once; make a new one to connect again.

    Example:
        ```python
        link = LiveKitSpeechLink(room.url, room.agent_token, avatar_identity=room.avatar_identity)
        await link.connect(timeout_s=20)
        ```

    Args:
        url: `wss://…` of the LiveKit server, or `ws://…` of one on this machine or in a network of your own.
        token: Access token of our own participant; never logged.
        avatar_identity: The participant to speak through. Only its tracks, reports and packets count.
        audio_sample_rate: Hz of the voice to deliver; at the consumer's own rate nothing is resampled twice.
        audio_frame_ms: Length of the pieces of voice in milliseconds.
        media: Whether to receive voice and video. Without, nothing is received, decoded or converted.

    Raises:
        ConfigurationError: The URL is not one, or would send the token to the public service without TLS.
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
        self._is_local = _check(url)
        self._url = url
        self._token = token
        self._avatar_identity = avatar_identity
        self._media = media
        self._room: rtc.Room | None = None
        self._joining: asyncio.Task[None] | None = None
        self._tracks = AvatarTracks(sample_rate=audio_sample_rate, frame_ms=audio_frame_ms)
        self._utterances = Utterances(loop_time())
        super().__init__(self._utterances)
        self._presence = Presence(self._tell)
        self._has_left_over = False  # whether the avatar may still have speech that is over for us
        self._answering: rtc.LocalParticipant | None = None  # the avatar's reports, once it can
        self._refusal: str | None = None  # what the avatar said when it disconnected
        self._sending = asyncio.Lock()  # one send or end after the other
        self._stream = SpeechStream(avatar_identity, self._utterances, reach=self._reach, report=self._report)

    async def send(self, pcm: bytes) -> int:
        """Send speech and return the number of its utterance; see `SpeechLink.send`.

        Beyond the first three seconds, speech leaves four times as fast as it is spoken.

        Raises:
            SpeechLinkError: The connection is gone, or the avatar is not in the room, nor back within two seconds.
        """
        async with self._sending:
            number = self._utterances.open_number
            for at in range(0, max(len(pcm), 1), PIECE_BYTES):
                await self._may_write(number)
                number = await self._stream.write(number, pcm[at : at + PIECE_BYTES])
            assert number is not None  # noqa: S101 - there is at least one piece
            return number

    async def end_utterance(self) -> None:
        """Close the utterance's stream: the only mark of its end that the avatar gets."""
        async with self._sending:
            await self._stream.end()

    async def interrupt(self) -> None:
        """Make the avatar drop what it has; see `SpeechLink.interrupt`."""
        if self._utterances.cut():
            self._report()  # from here on the end is certain, whatever becomes of this call
            await self._stream.clear()
        await self._until_cleared()

    def audio(self) -> Feed[AvatarAudio]:
        """The avatar's voice, silence included; one second of it waits for a slow reader."""
        return self._tracks.audio

    def video(self) -> Feed[AvatarVideo]:
        """The avatar's picture, converted from the first call on; a slow reader gets the newest one."""
        return self._tracks.watch()

    # --- joining and leaving

    async def _open(self, timeout_s: float) -> SpeechLinkError | None:
        """Join and wait until the avatar shows its picture; return what went wrong."""
        keep_out_of_logs(self._token)
        room = self._room = rtc.Room()
        self._listen(room)
        options = rtc.RoomOptions(auto_subscribe=False, connect_timeout=min(timeout_s, _SIGNAL_TIMEOUT_S))
        self._pass_by_proxies()
        joining = self._joining = asyncio.create_task(room.connect(self._url, self._token, options))
        joining.add_done_callback(lambda _: show_proxies(self))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(joining)
                self._answer_reports(room.local_participant)
                for participant in room.remote_participants.values():
                    self._on_participant(participant)
                await self._changes.until(lambda: self._is_ready or bool(self._refusal or self._gone))
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
        return None if self._is_ready else SpeechLinkError(self._gone or self._refusal or "")

    async def _may_write(self, number: int | None) -> None:
        """Wait until a piece can leave, or need not any more."""

        def over() -> bool:
            return self._gone is not None or number != self._utterances.open_number

        # An avatar that has just left is often back in a moment.
        await self._changes.until(lambda: self._presence.state is not State.AWAY or over())
        if (wait_s := self._stream.wait_s) > 0:
            await self._changes.within(wait_s, over)

    @property
    def _is_ready(self) -> bool:
        return self._presence.state is State.READY

    def _reach(self) -> rtc.LocalParticipant:
        """Our participant, if the avatar can be reached."""
        if self._gone is not None or self._room is None:
            raise SpeechLinkError(self._gone or "The speech link is not connected.")
        if self._avatar_identity not in self._room.remote_participants:
            raise SpeechLinkError("The avatar is not in the room.", retryable=True)
        return self._room.local_participant

    def _pass_by_proxies(self) -> None:
        if self._is_local and self._gone is None:
            hide_proxies(self)

    def _listen(self, room: rtc.Room) -> None:
        room.on("participant_connected", self._on_participant)
        room.on("participant_disconnected", self._on_participant_left)
        room.on("track_published", self._on_track_published)
        room.on("track_unpublished", self._on_track_unpublished)
        room.on("track_subscribed", self._on_track_subscribed)
        room.on("track_unsubscribed", self._on_track_unsubscribed)
        room.on("data_received", self._on_data)
        room.on("reconnecting", self._on_reconnecting)
        room.on("reconnected", self._on_reconnected)
        room.on("disconnected", self._on_room_lost)

    def _answer_reports(self, local: rtc.LocalParticipant) -> None:
        # Before any speech: a stock avatar worker stops for good when its report finds no handler.
        local.register_rpc_method(_STARTED_METHOD, self._on_playback_started)
        local.register_rpc_method(_FINISHED_METHOD, self._on_playback_finished)
        self._answering = local

    def _answer_no_more_reports(self) -> None:
        # A method that stays registered holds its participant, and with it all that LiveKit has for the room: 0.4 MB
        # for each room that was left. Locked by test_left_room_is_not_held_by_its_methods.
        if self._answering is not None:
            self._answering.unregister_rpc_method(_STARTED_METHOD)
            self._answering.unregister_rpc_method(_FINISHED_METHOD)
            self._answering = None

    async def _free(self) -> None:
        self._stream.forget()  # LiveKit frees it with the room
        self._presence.close()
        await self._tracks.aclose()
        await self._stream.settle(_SETTLE_TIMEOUT_S)
        if self._room is None or self._joining is None:
            return
        if self._joining.done():
            await _disconnect(self._room)
            self._answer_no_more_reports()
            show_proxies(self)
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
            self._has_left_over |= self._utterances.in_flight
            self._stream.forget()
            self._report(self._utterances.abandon())
            self._presence.take(Change.LEFT, "The avatar left the room.")

    def _on_track_published(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity != self._avatar_identity:
            return
        if self._media:
            publication.set_subscribed(True)
        if publication.kind == rtc.TrackKind.KIND_VIDEO:
            self._refusal = None
            if self._has_left_over:
                # When it is our connection that was made again, the avatar speaks on what is over for us.
                self._has_left_over = False
                self._stream.clear_first()
            self._presence.take(Change.SHOWN)
            self._changes.notify()

    def _on_track_unpublished(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity != self._avatar_identity:
            return
        self._tracks.drop(publication.sid)
        # A new picture may be published before the old one goes.
        if all(p.kind != rtc.TrackKind.KIND_VIDEO for p in participant.track_publications.values()):
            self._presence.take(Change.LEFT, "The avatar lost its video.")

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
        # LiveKit names no sender while it does not know the participant, or when it is a hidden one. The avatar's very
        # first packet may be such; anybody's may, so it does not count. What the avatar does shows all the same.
        sender = packet.participant
        if packet.topic != _STATE_TOPIC or sender is None or sender.identity != self._avatar_identity:
            return
        message = json_object(packet.data)
        if message.get("state") == "disconnected":
            reason = redact(str(message.get("reason") or "no reason given"))
            self._refusal = f"The avatar disconnected: {reason}"
            self._presence.take(Change.REFUSED, self._refusal)
            self._changes.notify()

    def _on_reconnecting(self) -> None:
        self._pass_by_proxies()
        self._tell(Reconnecting())

    def _on_reconnected(self) -> None:
        show_proxies(self)
        self._tell(Reconnected())
        # LiveKit forgets what is subscribed to while it reconnects. Locked by test_connection_that_is_made_again.
        avatar = self._room.remote_participants.get(self._avatar_identity) if self._room else None
        if self._media and avatar is not None:
            for publication in avatar.track_publications.values():
                if not publication.subscribed:
                    publication.set_subscribed(True)

    def _on_room_lost(self, reason: int) -> None:
        replaced = reason == rtc.DisconnectReason.DUPLICATE_IDENTITY
        self._close(f"The room was lost: {_disconnect_reason(reason)}.", lost=True, replaced=replaced)

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


def _check(url: str) -> bool:
    """Whether a URL is one of this machine; refuse one over which the token must not go."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise ConfigurationError("The LiveKit url must look like wss://host.") from None
    if parts.scheme in {"ws", "http"}:
        check_plain(host, name="The LiveKit url", secure="wss://…")
    return is_this_machine(host)


def _disconnect_reason(reason: int) -> str:
    """LiveKit's name for the reason; a newer server may have more of them than the client knows."""
    try:
        name = rtc.DisconnectReason.Name(rtc.DisconnectReason.ValueType(reason))
    except ValueError:
        return f"unknown reason {reason}"
    return name.lower().replace("_", " ")


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
