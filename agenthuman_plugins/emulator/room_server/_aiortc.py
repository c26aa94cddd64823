"""The adjustments to aiortc that make a forwarding server of it.

They hold for the whole process and lean on names that aiortc does not promise to keep: hence one series,
checked by name, and a process of its own.
"""

from importlib import metadata
from typing import Any

from aiortc import codecs, rtcdtlstransport, rtcpeerconnection
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters

from agenthuman_plugins.emulator.room_server._media import Downlink, Uplink

SERIES = "1.16."

_CODECS = {"audio": ("audio/opus",), "video": ("video/VP8",)}
_MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
_AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_RTP_STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"  # without it simulcast is refused
_EXTENSIONS = {"audio": {_MID: 1, _AUDIO_LEVEL: 2}, "video": {_MID: 1, _RTP_STREAM_ID: 3}}

_PRIVATE_NAMES: dict[Any, tuple[str, ...]] = {
    codecs: ("CODECS", "HEADER_EXTENSIONS"),
    rtcpeerconnection: ("RTCRtpReceiver", "RTCRtpSender"),
    rtcdtlstransport: ("RtpRouter",),
    rtcdtlstransport.RTCDtlsTransport: (
        "_register_rtp_receiver",
        "_register_rtp_sender",
        "_send_rtp",
        "_unregister_rtp_receiver",
        "_unregister_rtp_sender",
    ),
    rtcdtlstransport.RtpRouter: ("register_receiver", "route_rtp"),
}


class UnsupportedAiortcError(Exception):
    """Raised when the installed aiortc is not the one that this server was written for."""


class _Router(rtcdtlstransport.RtpRouter):
    """Routes an unknown SSRC by the section that the packet names.

    The stock router goes by payload type, which fails as soon as a client publishes two simulcast videos:
    their offers announce no SSRC.
    """

    def route_rtp(self, packet: Any) -> Any:
        receiver = self.mid_table.get(packet.extensions.mid)
        if receiver is not None and packet.ssrc not in self.ssrc_table:
            self.ssrc_table[packet.ssrc] = receiver
        return super().route_rtp(packet)


_REPLACEMENTS: tuple[tuple[Any, str, type], ...] = (
    (rtcpeerconnection, "RTCRtpReceiver", Uplink),
    (rtcpeerconnection, "RTCRtpSender", Downlink),
    (rtcdtlstransport, "RtpRouter", _Router),
)


def install() -> None:
    """Put the adjustments in place; harmless when repeated.

    Raises:
        UnsupportedAiortcError: This aiortc has other names.
    """
    version = metadata.version("aiortc")
    missing = [
        f"{owner.__name__}.{name}"
        for owner, names in _PRIVATE_NAMES.items()
        for name in names
        if not hasattr(owner, name)
    ]
    if missing or not version.startswith(SERIES):
        reason = f"; missing: {', '.join(missing)}" if missing else ""
        raise UnsupportedAiortcError(f"The room server needs aiortc {SERIES}*, found {version}{reason}.")
    for owner, name, ours in _REPLACEMENTS:
        setattr(owner, name, ours)
    for kind, names in _CODECS.items():
        kept = [codec for codec in codecs.CODECS[kind] if codec.mimeType in names]
        rtx = [c for c in codecs.CODECS[kind] if c.parameters.get("apt") in [k.payloadType for k in kept]]
        codecs.CODECS[kind][:] = kept + rtx
    for kind, uris in _EXTENSIONS.items():
        codecs.HEADER_EXTENSIONS[kind][:] = [
            RTCRtpHeaderExtensionParameters(id=number, uri=uri) for uri, number in uris.items()
        ]
