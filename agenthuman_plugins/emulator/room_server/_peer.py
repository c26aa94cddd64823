"""One client's peer connection: the client offers, we answer; data channels carry bytes both ways."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from aiortc import (
    InvalidStateError,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp

from agenthuman_plugins.emulator.room_server._media import Downlink, Uplink
from agenthuman_plugins.emulator.room_server._sdp import MediaSection, finish_answer, media_sections

RELIABLE = "_reliable"  # labels that clients give their data channels
LOSSY = "_lossy"

_MAX_RELIABLE_BACKLOG = 16 * 1024 * 1024  # bytes; minutes of speech, so only a client that is gone
_MAX_LOSSY_BACKLOG = 64 * 1024  # bytes; beyond that the news are old
_CLOSE_TIMEOUT_S = 3.0

_logger = logging.getLogger(__name__)


class Source(Protocol):
    """A track that a client can receive."""

    kind: str
    uplink: Uplink

    @property
    def track_sid(self) -> str:
        """`TR_…`."""

    @property
    def participant_sid(self) -> str:
        """`PA_…` of its publisher."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A track that the client publishes in this offer.

    Attributes:
        mid: Section that carries it, for as long as it is published.
        kind: `audio` or `video`.
        track_id: The client's own id, as in its `add_track` request.
        uplink: Where its packets come in.
    """

    mid: str
    kind: str
    track_id: str
    uplink: Uplink


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to an offer.

    Attributes:
        sdp: What to send to the client.
        mid_to_track_id: Track that each section carries to the client.
        published: What the client publishes now.
    """

    sdp: str
    mid_to_track_id: dict[str, str]
    published: list[Offered]


class Peer:
    """A client's peer connection. `answer` and `add_candidate` are for one task, in the client's order.

    Args:
        on_connected: Called once, when media and data can flow both ways.
        on_lost: Called when the client cannot be reached any more, or does not read.
        on_data: Called with label and content of every data channel message.
    """

    def __init__(
        self,
        *,
        on_connected: Callable[[], None],
        on_lost: Callable[[], None],
        on_data: Callable[[str, bytes], None],
    ) -> None:
        # Without MAX_BUNDLE aiortc 1.16 gives the second and later video sections a transport that dies.
        # Without the empty list it would ask a public STUN server.
        self._connection = RTCPeerConnection(
            RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_data = on_data
        self._channels: dict[str, RTCDataChannel] = {}
        self._carried: dict[str, Source] = {}  # by section
        self._published: dict[str, Offered] = {}  # by section
        self._retired: set[str] = set()  # sections that were published in; not to be sent in
        self._idle: dict[str, int] = {"audio": 0, "video": 0}
        self._connection.on("connectionstatechange", self._on_state)
        self._connection.on("datachannel", self._on_channel)

    @property
    def carried(self) -> frozenset[str]:
        """Sids of the tracks that the client receives."""
        return frozenset(source.track_sid for source in self._carried.values())

    def idle_sections(self, kind: str) -> int:
        """Sections that could carry one more track in the next answer."""
        return self._idle[kind]

    def drop(self, track_sid: str) -> None:
        """Stop sending a track at once; its section is free after the next answer."""
        for mid, transceiver in self._transceivers().items():
            if mid in self._carried and self._carried[mid].track_sid == track_sid:
                _downlink(transceiver).detach()
                del self._carried[mid]

    async def answer(self, offer: str, wanted: Iterable[Source]) -> Answer:
        """Answer an offer, with as many of the wanted tracks as it has sections for.

        Raises:
            ConnectionError: The client hung up meanwhile.
        """
        try:
            return await self._answer(offer, wanted)
        except InvalidStateError:
            raise ConnectionError("The peer connection is closed.") from None

    async def _answer(self, offer: str, wanted: Iterable[Source]) -> Answer:
        await self._connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        sections = media_sections(offer)
        transceivers = self._transceivers()
        published = {
            section.mid: self._published.get(section.mid)
            or Offered(section.mid, section.kind, section.track_id, _uplink(transceivers[section.mid]))
            for section in sections
            if section.publishes
        }
        for mid in published:
            transceivers[mid].direction = "recvonly"
        for mid in self._published.keys() - published.keys():
            await transceivers[mid].receiver.stop()
        self._published = published
        self._retired |= published.keys()
        self._attach(wanted, self._free_sections(sections))
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        return Answer(
            sdp=finish_answer(self._connection.localDescription.sdp, sections),
            mid_to_track_id={mid: source.track_sid for mid, source in self._carried.items()},
            published=list(published.values()),
        )

    def _free_sections(self, sections: list[MediaSection]) -> dict[str, list[str]]:
        """Sections by kind that can carry a track in this answer."""
        free: dict[str, list[str]] = {"audio": [], "video": []}
        transceivers = self._transceivers()
        self._idle = {"audio": 0, "video": 0}
        for section in sections:
            if section.direction != "recvonly" or section.mid in self._carried.keys() | self._retired:
                continue
            self._idle[section.kind] += 1
            if transceivers[section.mid].direction == "sendonly":
                # It carried a track until now. An answer in between that says "inactive" makes the client
                # take the next one for what it is: another track.
                transceivers[section.mid].direction = "inactive"
            else:
                free[section.kind].append(section.mid)
        return free

    def _attach(self, wanted: Iterable[Source], free: dict[str, list[str]]) -> None:
        carried, transceivers = self.carried, self._transceivers()
        for source in wanted:
            if source.track_sid in carried or not free[source.kind]:
                continue
            mid = free[source.kind].pop(0)
            # The client finds publisher and track in the stream id, which is why it must look like this.
            stream_id = f"{source.participant_sid}|{source.track_sid}"
            _downlink(transceivers[mid]).attach(source.uplink, stream_id=stream_id, track_id=source.track_sid)
            transceivers[mid].direction = "sendonly"
            self._carried[mid] = source
            self._idle[source.kind] -= 1

    async def add_candidate(self, sdp_mid: str, candidate: str) -> None:
        """Take one of the client's addresses; those that aiortc cannot use are ignored."""
        words = candidate.removeprefix("candidate:")
        if " udp " not in words.lower():
            return
        parsed = candidate_from_sdp(words)
        parsed.sdpMid = sdp_mid
        with contextlib.suppress(
            ValueError, ConnectionError, InvalidStateError
        ):  # late, or of a kind it refuses
            await self._connection.addIceCandidate(parsed)

    def send(self, label: str, message: bytes) -> None:
        """Send on the client's data channel of that label; without it, or with a full one, drop the message."""
        channel = self._channels.get(label)
        if channel is None or channel.readyState != "open":
            return
        limit = _MAX_RELIABLE_BACKLOG if label == RELIABLE else _MAX_LOSSY_BACKLOG
        if channel.bufferedAmount <= limit:
            channel.send(message)
        elif label == RELIABLE:
            _logger.warning("A client does not read its data channel; disconnecting it")
            self._channels.clear()
            self._on_lost()

    async def aclose(self) -> None:
        """Close the connection; harmless when repeated."""
        self._connection.remove_all_listeners()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._connection.close()
        except TimeoutError:
            _logger.warning("A peer connection did not close in time")
        except Exception as error:  # an offer that failed half-way leaves parts that do not close
            _logger.debug("A peer connection did not close", exc_info=error)

    def _transceivers(self) -> dict[str, RTCRtpTransceiver]:
        return {t.mid: t for t in self._connection.getTransceivers() if t.mid is not None}

    def _on_state(self) -> None:
        if self._connection.connectionState in ("failed", "closed"):
            self._on_lost()

    def _on_channel(self, channel: RTCDataChannel) -> None:
        # The client opens its channels over the finished connection, so with the last one all is up. To call
        # it connected earlier would lose what the others then send to it.
        self._channels[channel.label] = channel
        if {RELIABLE, LOSSY} <= self._channels.keys():
            self._on_connected()

        def on_message(message: Any) -> None:
            if isinstance(message, bytes):
                self._on_data(channel.label, message)

        channel.on("message", on_message)


# `_aiortc.install` made RTCPeerConnection use our classes in place of its own.


def _uplink(transceiver: RTCRtpTransceiver) -> Uplink:
    return cast("Uplink", transceiver.receiver)


def _downlink(transceiver: RTCRtpTransceiver) -> Downlink:
    return cast("Downlink", transceiver.sender)
