"""Offers read and answers finished, as text."""

import pytest

from agenthuman_plugins.emulator.room_server._sdp import MediaSection, finish_answer, media_sections

OFFER = "\r\n".join(  # noqa: FLY002 - one line of SDP is one line here
    [
        "v=0",
        "a=group:BUNDLE 0 1 2",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "a=recvonly",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "a=msid:- cid-1",
        "a=mid:1",
        "a=sendonly",
        "a=rid:q send",
        "a=simulcast:send q;~h;f,x",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:2",
        "",
    ]
)
ANSWER = "\r\n".join(  # noqa: FLY002 - as above
    [
        "v=0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "a=inactive",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "a=mid:1",
        "a=recvonly",
        "a=rtpmap:96 VP8/90000",
        "a=end",
        "",
    ]
)


def test_sections_of_an_offer() -> None:
    """Kind, direction, the client's track id and its layers are read section by section."""
    assert media_sections(OFFER) == [
        MediaSection("0", "audio", "recvonly"),
        MediaSection("1", "video", "sendonly", "cid-1", ("q", "h", "f")),
        MediaSection("2", "application"),
    ]


def test_only_media_that_the_client_sends_is_published() -> None:
    """A data channel section has no direction and is no publication."""
    assert [section.publishes for section in media_sections(OFFER)] == [False, True, False]


@pytest.mark.parametrize(
    ("rids", "layer"),
    [(("q", "h", "f"), "f"), (("h", "q"), "h"), (("q",), "q"), (("hi", "lo"), "hi"), ((), None)],
)
def test_best_layer_is_chosen_by_name(rids: tuple[str, ...], layer: str | None) -> None:
    """Full before half before quarter, in whatever order they are listed; unknown names as listed."""
    assert MediaSection("1", "video", "sendonly", rids=rids).layer == layer


def test_answer_takes_one_layer_and_asks_for_bitrate() -> None:
    """Only the video that the client sends is touched, and every line keeps its ending."""
    finished = finish_answer(ANSWER, media_sections(OFFER))
    assert finished == ANSWER.replace(
        "a=rtpmap:96 VP8/90000\r\n",
        "a=rtpmap:96 VP8/90000\r\na=fmtp:96 x-google-min-bitrate=1500;x-google-start-bitrate=2000\r\n",
    ) + ("a=rid:f recv\r\na=simulcast:recv f\r\n")
