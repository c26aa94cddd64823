"""Who is in a room, what is published, and who gets it. No I/O of its own: it sends through callables."""

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from livekit.protocol import models, rtc

from agenthuman_plugins.emulator.room_server._media import Uplink
from agenthuman_plugins.emulator.room_server._peer import LOSSY, RELIABLE, Offered, Peer
from agenthuman_plugins.emulator.room_server._token import Claims

_KINDS = {
    "agent": models.ParticipantInfo.Kind.AGENT,
    "egress": models.ParticipantInfo.Kind.EGRESS,
    "ingress": models.ParticipantInfo.Kind.INGRESS,
    "sip": models.ParticipantInfo.Kind.SIP,
}
_MIME_TYPES = {"audio": "audio/opus", "video": "video/VP8"}
_NOT_ALLOWED = rtc.RequestResponse.Reason.NOT_ALLOWED

_logger = logging.getLogger(__name__)


def new_sid(prefix: str) -> str:
    """A sid as clients check it: `PA_…` participant, `TR_…` track, `RM_…` room."""
    return f"{prefix}_{secrets.token_hex(6)}"


@dataclass(slots=True)
class Publication:
    """A published track; a `_peer.Source`."""

    publisher: "Participant"
    info: Any  # models.TrackInfo
    mid: str
    kind: str
    uplink: Uplink
    announced_subscriber: bool = False

    @property
    def track_sid(self) -> str:
        """`TR_…`."""
        return str(self.info.sid)

    @property
    def participant_sid(self) -> str:
        """`PA_…` of the publisher."""
        return self.publisher.sid


class Participant:
    """A client in a room.

    Args:
        claims: What its token allows.
        client: `ClientInfo` of its join request.
        auto_subscribe: Whether it wants every track.
        send: Takes a `SignalResponse` for it; never waits.
        hang_up: Closes its WebSocket after what was sent before.
    """

    def __init__(
        self,
        claims: Claims,
        client: Any,
        *,
        auto_subscribe: bool,
        send: Callable[[Any], None],
        hang_up: Callable[[], None],
    ) -> None:
        self.claims = claims
        self.send = send
        self.hang_up = hang_up
        self.auto_subscribe = auto_subscribe and claims.can_subscribe
        self.publications: dict[str, Publication] = {}  # by section
        self.wanted: dict[str, Publication] = {}  # by track sid
        self.pending: list[tuple[str, Any]] = []  # client's id and TrackInfo of what it is about to publish
        self.room: Room | None = None
        self.info = models.ParticipantInfo(
            sid=new_sid("PA"),
            identity=claims.identity,
            name=claims.name,
            metadata=claims.metadata,
            attributes=claims.attributes,
            kind=_KINDS.get(claims.kind, models.ParticipantInfo.Kind.STANDARD),
            state=models.ParticipantInfo.State.JOINED,
            joined_at=int(time.time()),
            joined_at_ms=int(time.time() * 1000),
            version=1,
            permission=models.ParticipantPermission(
                can_publish=claims.can_publish,
                can_subscribe=claims.can_subscribe,
                can_publish_data=claims.can_publish_data,
                can_update_metadata=claims.can_update_own_metadata,
                hidden=claims.hidden,
            ),
            # Peers choose the form of their RPC calls by these two.
            client_protocol=client.client_protocol,
            capabilities=client.capabilities,
        )
        self.peer = Peer(on_connected=self._on_connected, on_lost=hang_up, on_data=self._on_data)
        self._answering = False

    @property
    def sid(self) -> str:
        """`PA_…`."""
        return str(self.info.sid)

    @property
    def identity(self) -> str:
        """Unique in the room."""
        return self.claims.identity

    def changed(self) -> None:
        """Tell the others what `info` says now."""
        self.info.version += 1
        if self.room is not None:
            self.room.broadcast(self, besides=self)

    # What the client asks for.

    async def take_offer(self, description: Any) -> None:
        """Answer an offer, and follow what it publishes and no longer publishes."""
        self._answering = True
        wanted = dict(self.wanted)
        try:
            answer = await self.peer.answer(description.sdp, wanted.values())
        finally:
            self._answering = False
        for track_sid in wanted.keys() - self.wanted.keys():  # unpublished meanwhile
            self.peer.drop(track_sid)
        reply = rtc.SessionDescription(
            type="answer", sdp=answer.sdp, id=description.id, mid_to_track_id=answer.mid_to_track_id
        )
        self.send(rtc.SignalResponse(answer=reply))
        for track_sid in self.peer.carried & self.wanted.keys():
            self.wanted[track_sid].publisher._tell_subscribed(self.wanted[track_sid])  # noqa: SLF001
        self._follow(answer.published)
        if self.wanted.keys() - wanted.keys():  # wanted meanwhile
            self._request_sections()

    def add_track(self, request: Any) -> None:
        """Give a track its sid before it is offered."""
        if not self.claims.can_publish:
            refusal = rtc.RequestResponse(reason=_NOT_ALLOWED, message="no permission to publish")
            refusal.add_track.CopyFrom(request)
            self.send(rtc.SignalResponse(request_response=refusal))
            return
        kind = "audio" if request.type == models.TrackType.AUDIO else "video"
        info = models.TrackInfo(
            sid=new_sid("TR"),
            type=request.type,
            name=request.name,
            muted=request.muted,
            width=request.width,
            height=request.height,
            source=request.source,
            layers=request.layers,
            simulcast=len(request.layers) > 1,
            mime_type=_MIME_TYPES[kind],
            stereo=request.stereo,
            disable_dtx=request.disable_dtx,
            disable_red=request.disable_red,
            stream=request.stream,
            audio_features=request.audio_features,
        )
        self.pending.append((request.cid, info))
        self.send(rtc.SignalResponse(track_published=rtc.TrackPublishedResponse(cid=request.cid, track=info)))

    def mute(self, request: Any) -> None:
        """Mark a track of one's own as muted or not."""
        for publication in self.publications.values():
            if publication.track_sid == request.sid:
                publication.info.muted = request.muted
                self._list_tracks()

    def update_metadata(self, request: Any) -> None:
        """Change one's own name, metadata and attributes; an empty attribute is removed."""
        if not self.claims.can_update_own_metadata:
            refusal = rtc.RequestResponse(
                request_id=request.request_id,
                reason=_NOT_ALLOWED,
                message="does not have permission to update own metadata",
            )
            refusal.update_metadata.CopyFrom(request)
            self.send(rtc.SignalResponse(request_response=refusal))
            return
        self.info.name = request.name or self.info.name
        self.info.metadata = request.metadata or self.info.metadata
        for key, value in request.attributes.items():
            if value:
                self.info.attributes[key] = value
            else:
                self.info.attributes.pop(key, None)
        self.send(rtc.SignalResponse(request_response=rtc.RequestResponse(request_id=request.request_id)))
        self.changed()
        self.send(rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=[self.info])))

    def update_subscription(self, request: Any) -> None:
        """Want some tracks, or want them no longer."""
        if self.room is None or not self.claims.can_subscribe:
            return
        sids = {*request.track_sids, *(sid for part in request.participant_tracks for sid in part.track_sids)}
        if request.subscribe:
            self.want(
                publication for publication in self.room.publications() if publication.track_sid in sids
            )
        else:
            for sid in sids:
                self.want_no_longer(sid)

    # Subscriptions.

    def want(self, publications: Iterable[Publication]) -> None:
        """Subscribe to tracks."""
        self.wanted |= {publication.track_sid: publication for publication in publications}
        if not self._answering:  # an answer under way asks afterwards
            self._request_sections()

    def want_no_longer(self, track_sid: str) -> None:
        """Unsubscribe from a track, or hear that it is gone."""
        if self.wanted.pop(track_sid, None) is not None:
            self.peer.drop(track_sid)
            self._request_sections()  # the next answer says that the section is free

    def _request_sections(self) -> None:
        """Make the client offer again, with sections for all it is to receive."""
        missing = [p.kind for sid, p in self.wanted.items() if sid not in self.peer.carried]
        more = {kind: max(0, missing.count(kind) - self.peer.idle_sections(kind)) for kind in _MIME_TYPES}
        requirement = rtc.MediaSectionsRequirement(num_audios=more["audio"], num_videos=more["video"])
        self.send(rtc.SignalResponse(media_sections_requirement=requirement))

    def _tell_subscribed(self, publication: Publication) -> None:
        """Tell the publisher about its first subscriber, which it may be waiting for."""
        if not publication.announced_subscriber:
            publication.announced_subscriber = True
            message = rtc.TrackSubscribed(track_sid=publication.track_sid)
            self.send(rtc.SignalResponse(track_subscribed=message))

    # Publications.

    def _follow(self, published: list[Offered]) -> None:
        """Compare what the client publishes with what it published before."""
        gone = self.publications.keys() - {offered.mid for offered in published}
        ended = [self.publications.pop(mid) for mid in gone]
        started = [
            publication
            for offered in published
            if offered.mid not in self.publications and (publication := self._start(offered))
        ]
        if not (ended or started) or self.room is None:
            return
        self._list_tracks()
        self.room.unpublish(ended)
        self.room.publish(started)

    def _start(self, offered: Offered) -> Publication | None:
        kind = models.TrackType.AUDIO if offered.kind == "audio" else models.TrackType.VIDEO
        same_kind = [entry for entry in self.pending if entry[1].type == kind]
        # Some clients do not name the track in the offer as in the request: then the oldest one it is.
        entry = next(
            (entry for entry in same_kind if entry[0] == offered.track_id), next(iter(same_kind), None)
        )
        if entry is None:
            return None
        self.pending.remove(entry)
        publication = Publication(self, entry[1], offered.mid, offered.kind, offered.uplink)
        self.publications[offered.mid] = publication
        return publication

    def _list_tracks(self) -> None:
        del self.info.tracks[:]
        self.info.tracks.extend(publication.info for publication in self.publications.values())
        self.info.is_publisher = bool(self.publications)
        self.changed()

    # What the peer connection reports.

    def _on_connected(self) -> None:
        if self.info.state == models.ParticipantInfo.State.JOINED:
            self.info.state = models.ParticipantInfo.State.ACTIVE
            self.changed()

    def _on_data(self, label: str, message: bytes) -> None:
        if self.room is None or not self.claims.can_publish_data or label not in (RELIABLE, LOSSY):
            return
        try:
            packet = models.DataPacket.FromString(message)
        except Exception as error:  # noqa: BLE001 - protobuf's own DecodeError differs between its versions
            _logger.debug("Data that is no packet: %s", type(error).__name__)
            return
        self.room.relay(self, label, packet)


class Room:
    """A room while somebody is in it."""

    def __init__(self, name: str) -> None:
        self.info = models.Room(sid=new_sid("RM"), name=name, creation_time=int(time.time()))
        self.participants: dict[str, Participant] = {}  # by identity

    def publications(self, *, besides: Participant | None = None) -> list[Publication]:
        """Every published track."""
        return [
            publication
            for participant in self.participants.values()
            if participant is not besides
            for publication in participant.publications.values()
        ]

    def join(self, newcomer: Participant) -> None:
        """Admit a participant; one with the same identity has to go."""
        previous = self.participants.get(newcomer.identity)
        if previous is not None:
            self._send_away(previous, models.DisconnectReason.DUPLICATE_IDENTITY)
        self.participants[newcomer.identity] = newcomer
        newcomer.room = self
        if newcomer.auto_subscribe:  # before its first offer is answered: then the tracks are in the answer
            newcomer.wanted = {p.track_sid: p for p in self.publications(besides=newcomer)}
        self.broadcast(newcomer, besides=newcomer)

    def leave(self, participant: Participant) -> None:
        """Remove a participant, unless it is out already."""
        if self.participants.get(participant.identity) is not participant:
            return
        del self.participants[participant.identity]
        participant.room = None
        participant.info.state = models.ParticipantInfo.State.DISCONNECTED
        participant.info.version += 1
        self.unpublish(list(participant.publications.values()))
        self.broadcast(participant)

    def delete(self) -> None:
        """Send everybody away."""
        for participant in list(self.participants.values()):
            self._send_away(participant, models.DisconnectReason.ROOM_DELETED)

    def _send_away(self, participant: Participant, reason: Any) -> None:
        leave = rtc.LeaveRequest(reason=reason, action=rtc.LeaveRequest.Action.DISCONNECT)
        participant.send(rtc.SignalResponse(leave=leave))
        participant.hang_up()
        self.leave(participant)

    def visible(self) -> list[Participant]:
        """Those whom the others see."""
        return [participant for participant in self.participants.values() if not participant.claims.hidden]

    def broadcast(self, about: Participant, *, besides: Participant | None = None) -> None:
        """Tell everybody about a participant, unless it is hidden."""
        if about.claims.hidden:
            return
        update = rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=[about.info]))
        for participant in self.participants.values():
            if participant is not besides:
                participant.send(update)

    def publish(self, publications: list[Publication]) -> None:
        """Offer new tracks to those who want every track."""
        for participant in self.participants.values():
            if participant.auto_subscribe:
                others = [p for p in publications if p.publisher is not participant]
                if others:
                    participant.want(others)

    def unpublish(self, publications: list[Publication]) -> None:
        """Take tracks back."""
        for participant in self.participants.values():
            for publication in publications:
                participant.want_no_longer(publication.track_sid)

    def relay(self, sender: Participant, label: str, packet: Any) -> None:
        """Pass data on to those it is addressed to, everybody if nobody is named.

        The packet's `sequence` stays as it is: receivers drop what they take for a repetition.
        """
        packet.participant_identity = sender.identity  # never what the packet claims
        packet.participant_sid = sender.sid
        named = set(packet.destination_identities) or set(packet.user.destination_identities)
        message = packet.SerializeToString()
        for participant in list(self.participants.values()):
            if participant is not sender and (not named or participant.identity in named):
                participant.peer.send(label, message)
