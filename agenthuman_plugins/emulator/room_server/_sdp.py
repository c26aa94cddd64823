"""What an offer says that aiortc does not tell, and what aiortc's answer lacks. Pure text."""

import re
from dataclasses import dataclass

_START_KBPS = 2_000  # lets 1280x720 be sharp from its first second
_MIN_KBPS = _START_KBPS * 3 // 4

_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_BEST_LAYER_FIRST = ("f", "h", "q")  # LiveKit's names: full, half, quarter


@dataclass(frozen=True, slots=True)
class MediaSection:
    """One section of a client's offer.

    Attributes:
        mid: Name of the section.
        kind: `audio`, `video` or `application`.
        direction: Seen from the client: `sendonly` is what it publishes.
        track_id: Client's own id of the track that it publishes, else empty.
        rids: Simulcast layers that it offers to send.
    """

    mid: str
    kind: str
    direction: str = "sendrecv"
    track_id: str = ""
    rids: tuple[str, ...] = ()

    @property
    def publishes(self) -> bool:
        """Whether the client sends media in this section."""
        return self.kind in ("audio", "video") and self.direction in ("sendonly", "sendrecv")

    @property
    def layer(self) -> str | None:
        """The best simulcast layer by its name; the order in the offer means nothing."""
        known = [rid for rid in _BEST_LAYER_FIRST if rid in self.rids]
        return next(iter([*known, *self.rids]), None)


def media_sections(offer: str) -> list[MediaSection]:
    """Read the sections of an offer, in order."""
    return [_read_section(lines) for lines in _split(offer)[1:]]


def finish_answer(answer: str, offered: list[MediaSection]) -> str:
    """Add to aiortc's answer what the offered sections need: bitrate, and one simulcast layer."""
    session, *sections = _split(answer)
    layers = {section.mid: section.layer for section in offered}
    for lines in sections:
        if not lines[0].startswith("m=video") or "a=recvonly" not in lines:
            continue
        for position, line in enumerate(lines):
            if match := re.fullmatch(r"a=rtpmap:(\d+) VP8/90000", line):
                rate = f"x-google-min-bitrate={_MIN_KBPS};x-google-start-bitrate={_START_KBPS}"
                lines.insert(position + 1, f"a=fmtp:{match[1]} {rate}")
                break
        if layer := layers.get(_read_section(lines).mid):
            lines += [f"a=rid:{layer} recv", f"a=simulcast:recv {layer}"]
    return "".join(f"{line}\r\n" for lines in (session, *sections) for line in lines)


def _split(sdp: str) -> list[list[str]]:
    """Lines of the session, then lines of each media section."""
    parts: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            parts.append([])
        parts[-1].append(line)
    return parts


def _read_section(lines: list[str]) -> MediaSection:
    mid, direction, track_id = "", "sendrecv", ""
    rids: tuple[str, ...] = ()
    for line in lines:
        name, _, value = line.removeprefix("a=").partition(":")
        if name in _DIRECTIONS:
            direction = name
        elif name == "mid":
            mid = value
        elif name == "msid":
            track_id = value.partition(" ")[2]
        elif name == "simulcast":
            rids = _read_rids(value)
    return MediaSection(mid, lines[0][2:].partition(" ")[0], direction, track_id, rids)


def _read_rids(value: str) -> tuple[str, ...]:
    """`send f;~h;q,r` → f, h, q: layers without the pause mark and without alternatives (RFC 8853)."""
    words = value.split()
    if "send" not in words[:-1]:
        return ()
    layers = words[words.index("send") + 1]
    return tuple(layer.partition(",")[0].removeprefix("~") for layer in layers.split(";"))
