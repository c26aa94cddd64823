"""Packets from a publisher to a subscriber, without a network."""

import asyncio
import struct
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest_asyncio
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
    is_rtcp,
)

from agenthuman_plugins.emulator.room_server._media import Downlink, Uplink

KEY, DELTA = b"\x10\x00key", b"\x10\x01delta"  # VP8: descriptor, then the bit that tells them apart
PUBLISHER_SSRC = 4_711
VP8 = RTCRtpCodecParameters("video/VP8", 90_000, payloadType=96)
RTX = RTCRtpCodecParameters("video/rtx", 90_000, payloadType=97, parameters={"apt": 96})


class FakeTransport:
    """Keeps what is sent, and can be cut."""

    def __init__(self) -> None:
        self.connected = True
        self.rtp: list[RtpPacket] = []
        self.rtcp: asyncio.Queue[Any] = asyncio.Queue()

    async def _send_rtp(self, data: bytes) -> None:
        if not self.connected:
            raise ConnectionError
        if is_rtcp(data):
            for packet in RtcpPacket.parse(data):
                self.rtcp.put_nowait(packet)
        else:
            self.rtp.append(RtpPacket.parse(data))

    async def feedback(self, kind: type, fmt: int) -> Any:
        async with asyncio.timeout(10):
            while True:
                packet = await self.rtcp.get()
                if isinstance(packet, kind) and packet.fmt == fmt:
                    return packet

    def _register_rtp_receiver(self, receiver: Uplink, parameters: RTCRtpReceiveParameters) -> None: ...
    def _unregister_rtp_receiver(self, receiver: Uplink) -> None: ...
    def _register_rtp_sender(self, sender: Downlink, parameters: RTCRtpSendParameters) -> None: ...
    def _unregister_rtp_sender(self, sender: Downlink) -> None: ...


class Line(SimpleNamespace):
    """An uplink with one downlink."""

    publisher: FakeTransport
    subscriber: FakeTransport
    uplink: Uplink
    downlink: Downlink

    async def publish(self, *packets: tuple[int, bytes], timestamp: int = 1_000) -> None:
        for sequence_number, payload in packets:
            packet = RtpPacket(96, 1, sequence_number % 0x10000, timestamp, PUBLISHER_SSRC, payload)
            await self.uplink._handle_rtp_packet(packet, arrival_time_ms=0)

    @property
    def received(self) -> list[tuple[int, bytes]]:
        """What the subscriber got: sequence numbers counted from the first one, and payloads."""
        first = self.subscriber.rtp[0].sequence_number if self.subscriber.rtp else 0
        return [
            ((packet.sequence_number - first) % 0x10000, packet.payload) for packet in self.subscriber.rtp
        ]


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    publisher, subscriber = FakeTransport(), FakeTransport()
    uplink, downlink = Uplink("video", publisher), Downlink("video", subscriber)
    await uplink.receive(RTCRtpReceiveParameters(codecs=[VP8]))
    downlink.attach(uplink, stream_id="PA_1|TR_1", track_id="TR_1")
    downlink._enabled = True
    await downlink.send(RTCRtpSendParameters(codecs=[VP8, RTX], muxId="3"))
    yield Line(publisher=publisher, subscriber=subscriber, uplink=uplink, downlink=downlink)
    await downlink.stop()
    await uplink.stop()


async def test_stream_starts_with_a_key_frame(line: Line) -> None:
    """What cannot be decoded is held back, and the publisher is asked for what can."""
    await line.publish((1, DELTA), (2, DELTA))
    assert line.received == []
    request = await line.publisher.feedback(RtcpPsfbPacket, RTCP_PSFB_PLI)
    assert request.media_ssrc == PUBLISHER_SSRC
    await line.publish((3, KEY), (4, DELTA))
    assert line.received == [(0, KEY), (1, DELTA)]


async def test_packets_keep_time_marker_and_payload(line: Line) -> None:
    """Only SSRC, sequence and payload type are the subscriber's own."""
    await line.publish((9, KEY), timestamp=123_456)
    (packet,) = line.subscriber.rtp
    assert (packet.timestamp, packet.marker, packet.payload) == (123_456, 1, KEY)
    assert packet.ssrc == line.downlink._ssrc


async def test_sequence_goes_on_over_the_wrap(line: Line) -> None:
    """The publisher's numbers wrap at 16 bits without a jump for the subscriber."""
    await line.publish(*((number, KEY) for number in range(65_534, 65_538)))
    assert [number for number, _ in line.received] == [0, 1, 2, 3]


async def test_late_packet_from_before_the_start_is_dropped(line: Line) -> None:
    """A straggler of the time before the key frame has no place in the stream."""
    await line.publish((5, KEY), (4, DELTA), (6, DELTA))
    assert line.received == [(0, KEY), (1, DELTA)]


async def test_reordered_packet_keeps_its_place(line: Line) -> None:
    """A packet that comes late fills exactly its own gap, and a lost one is asked for again."""
    await line.publish((5, KEY), (7, DELTA))
    request = await line.publisher.feedback(RtcpRtpfbPacket, RTCP_RTPFB_NACK)
    assert request.lost == [6]
    await line.publish((6, DELTA))
    assert [number for number, _ in line.received] == [0, 2, 1]


async def test_stream_starts_again_after_the_transport_was_down(line: Line) -> None:
    """What could not be sent is dropped up to the next key frame, and the numbers show no gap."""
    await line.publish((1, KEY))
    line.subscriber.connected = False
    await line.publish((2, DELTA))
    line.subscriber.connected = True
    await line.publish((3, DELTA), (4, KEY))
    assert line.received == [(0, KEY), (1, KEY)]


async def test_lost_packet_is_sent_again_on_request(line: Line) -> None:
    """A NACK is answered from the history, in the retransmission format that was negotiated."""
    await line.publish((1, KEY), (2, DELTA))
    lost = line.subscriber.rtp[1]
    await line.downlink._handle_rtcp_packet(
        RtcpRtpfbPacket(RTCP_RTPFB_NACK, 1, line.downlink._ssrc, [lost.sequence_number, 60_000])
    )
    (again,) = line.subscriber.rtp[2:]
    assert (again.payload_type, again.ssrc) == (97, line.downlink._rtx_ssrc)
    assert again.payload == struct.pack("!H", lost.sequence_number) + DELTA


async def test_need_for_a_key_frame_reaches_the_publisher(line: Line) -> None:
    """A subscriber's PLI becomes one to the publisher."""
    await line.publish((1, KEY))
    await line.downlink._handle_rtcp_packet(RtcpPsfbPacket(RTCP_PSFB_PLI, 1, line.downlink._ssrc))
    assert (await line.publisher.feedback(RtcpPsfbPacket, RTCP_PSFB_PLI)).media_ssrc == PUBLISHER_SSRC


async def test_sender_report_is_relayed_under_our_ssrc(line: Line) -> None:
    """The publisher's clock reaches the subscriber, with the counts of this stream."""
    await line.publish((1, KEY))
    await line.uplink._handle_rtcp_packet(RtcpSrPacket(PUBLISHER_SSRC, RtcpSenderInfo(1 << 33, 42, 900, 900)))
    report = line.subscriber.rtcp.get_nowait()
    assert report.ssrc == line.downlink._ssrc
    assert report.sender_info == RtcpSenderInfo(1 << 33, 42, 1, len(KEY))


async def test_attached_again_it_is_another_stream(line: Line) -> None:
    """After a pause a section has a new SSRC, and nothing is sent until it is negotiated."""
    await line.publish((1, KEY))
    before = line.downlink._ssrc
    line.downlink.detach()
    await line.publish((2, KEY))
    line.downlink.attach(line.uplink, stream_id="PA_1|TR_1", track_id="TR_1")
    await line.publish((3, KEY))
    assert len(line.subscriber.rtp) == 1
    await line.downlink.send(RTCRtpSendParameters(codecs=[VP8], muxId="3"))
    await line.publish((4, KEY))
    assert line.subscriber.rtp[1].ssrc == line.downlink._ssrc != before
