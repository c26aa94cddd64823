"""RTP packets from a publisher to its subscribers.

`Uplink` and `Downlink` stand in for aiortc's receiver and sender (see `_aiortc`), which decode, buffer and
re-packetise. Here a packet is forwarded the moment it comes: no jitter buffer, no thread, and no queue that
could grow. Losses are repaired hop by hop: we ask the publisher again, and answer the subscribers from a
short history.
"""

import asyncio
import random
import time
import uuid
from typing import Any

from aiortc import RTCDtlsTransport
from aiortc.codecs import is_rtx
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import NackGenerator, StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    HeaderExtensionsMap,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
    wrap_rtx,
)

_REPORT_INTERVAL_S = 0.5
_KEY_FRAME_INTERVAL_S = 0.3  # an encoder asked more often only wastes its bitrate
_BANDWIDTH_BPS = 8_000_000  # what publishers may use: everything runs on one host
_HISTORY_PACKETS = 512  # 2 s of video; a power of two
_RTCP_SOURCE_CNAME = 1  # item type, RFC 3550 section 6.5.1


class _Source:
    """One SSRC of a publisher."""

    def __init__(self, kind: str, clock_rate: int) -> None:
        self.statistics = StreamStatistics(clock_rate)
        self.nack = NackGenerator() if kind == "video" else None
        self._highest: int | None = None
        self._sender_report: tuple[int, float] | None = None  # middle of its NTP time; when it came

    def note_sender_report(self, info: RtcpSenderInfo) -> None:
        """Remember the publisher's clock for the next `receiver_info`, which tells it the round trip."""
        self._sender_report = info.ntp_timestamp >> 16 & 0xFFFFFFFF, time.monotonic()

    def receiver_info(self, ssrc: int) -> RtcpReceiverInfo:
        """What arrived since the last call (RFC 3550 section 6.4.1)."""
        report, came = self._sender_report or (0, time.monotonic())
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=self.statistics.fraction_lost,
            packets_lost=self.statistics.packets_lost,
            highest_sequence=self.statistics.max_seq or 0,
            jitter=self.statistics.jitter,
            lsr=report,
            dlsr=int((time.monotonic() - came) * 0x10000) & 0xFFFFFFFF,
        )

    def unwrap(self, sequence_number: int) -> int:
        """Sequence number as it would be without the 16-bit limit, so that it can be compared."""
        if self._highest is None:
            self._highest = sequence_number
        ahead = (sequence_number - self._highest + 0x8000) % 0x10000 - 0x8000
        unwrapped = self._highest + ahead
        self._highest = max(self._highest, unwrapped)
        return unwrapped


class Uplink:
    """What a client publishes in one section of its offers; RTCPeerConnection makes it as its receiver."""

    def __init__(self, kind: str, transport: RTCDtlsTransport) -> None:
        self.transport = transport
        self._kind = kind
        self._track: Any = None  # written and read by RTCPeerConnection, otherwise unused
        self._enabled = True  # written by the transceiver
        self._rtcp_ssrc = 0
        self._clock_rates: dict[int, int] = {}  # by payload type
        self._sources: dict[int, _Source] = {}
        self._downlinks: set[Downlink] = set()
        self._key_frame_wanted = asyncio.Event()
        self._reporter: asyncio.Task[None] | None = None

    def add(self, downlink: "Downlink") -> None:
        """Forward to one more subscriber."""
        self._downlinks.add(downlink)
        self.request_key_frame()

    def remove(self, downlink: "Downlink") -> None:
        """Forward to a subscriber no longer."""
        self._downlinks.discard(downlink)

    def request_key_frame(self) -> None:
        """Ask the publisher for a whole picture, soon; harmless when repeated."""
        if self._kind == "video":
            self._key_frame_wanted.set()

    # What RTCPeerConnection and RTCDtlsTransport call.

    @property
    def track(self) -> Any:
        return self._track

    def setTransport(self, transport: RTCDtlsTransport) -> None:  # noqa: N802 - aiortc's name
        self.transport = transport

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        self._rtcp_ssrc = ssrc

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        if self._reporter is None:
            self._clock_rates = {codec.payloadType or 0: codec.clockRate for codec in parameters.codecs}
            self.transport._register_rtp_receiver(self, parameters)  # noqa: SLF001
            self._reporter = asyncio.create_task(self._report(), name=f"reports to a {self._kind} publisher")

    async def stop(self) -> None:
        if self._reporter is not None:
            reporter, self._reporter = self._reporter, None
            self.transport._unregister_rtp_receiver(self)  # noqa: SLF001
            self._sources.clear()
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    def _handle_disconnect(self) -> None:
        """Nothing to do: the room hears of the end from the peer connection."""

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpSrPacket):
            if source := self._sources.get(packet.ssrc):
                source.note_sender_report(packet.sender_info)
            for downlink in tuple(self._downlinks):
                await downlink.relay_sender_report(packet.sender_info)

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:  # noqa: ARG002
        clock_rate = self._clock_rates.get(packet.payload_type)
        if clock_rate is None or not self._enabled:
            return
        source = self._sources.get(packet.ssrc)
        if source is None:
            source = self._sources[packet.ssrc] = _Source(self._kind, clock_rate)
        source.statistics.add(packet)
        if source.nack is not None and source.nack.add(packet):
            nack = RtcpRtpfbPacket(RTCP_RTPFB_NACK, self._rtcp_ssrc, packet.ssrc, sorted(source.nack.missing))
            await self._send(bytes(nack))
        sequence = source.unwrap(packet.sequence_number)
        decodable = self._kind == "audio" or _starts_key_frame(packet.payload)
        for downlink in tuple(self._downlinks):
            await downlink.forward(packet, sequence, decodable=decodable)

    async def _report(self) -> None:
        """Tell the publisher what arrived and what it may send; pass on the need for a key frame."""
        while True:
            try:
                async with asyncio.timeout(_REPORT_INTERVAL_S):
                    await self._key_frame_wanted.wait()
            except TimeoutError:
                await self._send(self._receiver_reports())
                continue
            self._key_frame_wanted.clear()
            for ssrc in self._sources:
                await self._send(bytes(RtcpPsfbPacket(RTCP_PSFB_PLI, self._rtcp_ssrc, ssrc)))
            await asyncio.sleep(_KEY_FRAME_INTERVAL_S)

    def _receiver_reports(self) -> bytes:
        reports = [source.receiver_info(ssrc) for ssrc, source in self._sources.items()]
        data = bytes(RtcpRrPacket(ssrc=self._rtcp_ssrc, reports=reports))
        if self._kind == "video" and self._sources:
            bandwidth = pack_remb_fci(_BANDWIDTH_BPS, list(self._sources))
            data += bytes(RtcpPsfbPacket(RTCP_PSFB_APP, self._rtcp_ssrc, 0, bandwidth))
        return data

    async def _send(self, rtcp: bytes) -> None:
        await _send(self.transport, rtcp)


class Downlink:
    """What a client receives in one section of its offers; RTCPeerConnection makes it as its sender.

    Each attachment is a stream of its own: new SSRC, new sequence. It starts with a key frame, and starts
    again with one after the transport could not send.
    """

    def __init__(self, kind: str, transport: RTCDtlsTransport) -> None:
        self.kind = kind
        self.transport = transport
        self.track = None  # RTCPeerConnection reads it
        self._enabled = False  # written by the transceiver
        self._stream_id, self._track_id = _no_track()  # these and the SSRCs are what the answer says
        self._ssrc, self._rtx_ssrc = _random_ssrc(), _random_ssrc()
        self._uplink: Uplink | None = None
        self._payload_type = 0
        self._rtx_payload_type: int | None = None
        self._cname = self._mid = ""
        self._registered_ssrc: int | None = None
        self._extensions = HeaderExtensionsMap()
        self._source: tuple[int, int] | None = None  # SSRC and sequence that the stream started with
        self._first_sequence = 0  # of what we send
        self._rtx_sequence = _random_sequence()
        self._history: dict[int, RtpPacket] = {}
        self._packet_count = self._octet_count = 0

    @property
    def attached(self) -> bool:
        """Whether the section carries a track."""
        return self._uplink is not None

    def attach(self, uplink: Uplink, *, stream_id: str, track_id: str) -> None:
        """Carry a publisher's track from the next answer on."""
        self._stream_id, self._track_id = stream_id, track_id
        self._ssrc, self._rtx_ssrc = _random_ssrc(), _random_ssrc()
        self._first_sequence = _random_sequence()
        self._packet_count = self._octet_count = 0
        self._restart()
        self._uplink = uplink
        uplink.add(self)

    def detach(self) -> None:
        """Carry nothing, from now on."""
        if self._uplink is not None:
            self._uplink.remove(self)
            self._uplink = None
            self._stream_id, self._track_id = _no_track()

    async def forward(self, packet: RtpPacket, sequence: int, *, decodable: bool) -> None:
        """Send a publisher's packet on, if the subscriber can make use of it.

        Args:
            packet: The packet as it came.
            sequence: Its sequence number, unwrapped.
            decodable: Whether a stream can start with it.
        """
        if self._uplink is None or not self._enabled or self._registered_ssrc != self._ssrc:
            return
        if self._source is None or self._source[0] != packet.ssrc:
            if not decodable:
                self._request_key_frame()
                return
            self._source = packet.ssrc, sequence
        ahead = sequence - self._source[1]
        if ahead < 0:
            return  # a late packet from before the start
        copy = RtpPacket(
            payload_type=self._payload_type,
            marker=packet.marker,
            sequence_number=(self._first_sequence + ahead) % 0x10000,
            timestamp=packet.timestamp,
            ssrc=self._ssrc,
            payload=packet.payload,
        )
        copy.padding_size = packet.padding_size
        copy.extensions.mid = self._mid
        copy.extensions.audio_level = packet.extensions.audio_level
        self._history[copy.sequence_number % _HISTORY_PACKETS] = copy
        if await _send(self.transport, copy.serialize(self._extensions)):
            self._packet_count += 1
            self._octet_count += len(copy.payload)
        else:
            self._first_sequence = copy.sequence_number  # it was not used
            self._restart()

    async def relay_sender_report(self, info: RtcpSenderInfo) -> None:
        """Send the publisher's clock on: timestamps are passed through, so its reports hold for us too."""
        if self._source is None:
            return
        counts = {"packet_count": self._packet_count % 2**32, "octet_count": self._octet_count % 2**32}
        own = RtcpSenderInfo(info.ntp_timestamp, info.rtp_timestamp, **counts)
        cname = RtcpSourceInfo(self._ssrc, [(_RTCP_SOURCE_CNAME, self._cname.encode())])
        await _send(self.transport, bytes(RtcpSrPacket(self._ssrc, own)) + bytes(RtcpSdesPacket([cname])))

    def _request_key_frame(self) -> None:
        if self._uplink is not None:
            self._uplink.request_key_frame()

    def _restart(self) -> None:
        self._source = None
        self._history.clear()

    # What RTCPeerConnection and RTCDtlsTransport call.

    def setTransport(self, transport: RTCDtlsTransport) -> None:  # noqa: N802 - aiortc's name
        self.transport = transport

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        if self._registered_ssrc == self._ssrc:
            return
        if self._registered_ssrc is not None:
            self.transport._unregister_rtp_sender(self)  # noqa: SLF001
        self._payload_type = next(codec.payloadType or 0 for codec in parameters.codecs if not is_rtx(codec))
        self._rtx_payload_type = next(
            (codec.payloadType for codec in parameters.codecs if is_rtx(codec)), None
        )
        self._cname, self._mid = parameters.rtcp.cname or "", parameters.muxId
        self._extensions.configure(parameters)
        self.transport._register_rtp_sender(self, parameters)  # noqa: SLF001
        self._registered_ssrc = self._ssrc
        self._request_key_frame()

    async def stop(self) -> None:
        self.detach()
        if self._registered_ssrc is not None:
            self._registered_ssrc = None
            self.transport._unregister_rtp_sender(self)  # noqa: SLF001

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            for sequence_number in packet.lost:
                await self._retransmit(sequence_number)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
            self._request_key_frame()

    async def _retransmit(self, sequence_number: int) -> None:
        packet = self._history.get(sequence_number % _HISTORY_PACKETS)
        if packet is None or packet.sequence_number != sequence_number:
            return
        if self._rtx_payload_type is not None:
            packet = wrap_rtx(packet, self._rtx_payload_type, self._rtx_sequence, self._rtx_ssrc)
            self._rtx_sequence = (self._rtx_sequence + 1) % 0x10000
        await _send(self.transport, packet.serialize(self._extensions))


async def _send(transport: RTCDtlsTransport, data: bytes) -> bool:
    """Send one RTP or RTCP packet; `False` while the transport is not connected."""
    try:
        await transport._send_rtp(data)  # noqa: SLF001
    except ConnectionError:
        return False
    return True


def _starts_key_frame(payload: bytes) -> bool:
    """Whether a VP8 payload begins a key frame (RFC 7741 sections 4.2 and 4.3)."""
    try:
        descriptor, data = VpxPayloadDescriptor.parse(payload)
    except ValueError:
        return False
    return bool(descriptor.partition_start and descriptor.partition_id == 0 and data and not data[0] & 1)


def _no_track() -> tuple[str, str]:
    """Stream and track id of a section that carries nothing: an answer that names two alike is refused."""
    return str(uuid.uuid4()), str(uuid.uuid4())


def _random_ssrc() -> int:
    return random.getrandbits(32)


def _random_sequence() -> int:
    # In the lower half: a wrap-around right after the start breaks SRTP for who missed the first packets.
    return random.getrandbits(15)
