"""What the worker is told by its parent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MIN_SIDE = 64  # pixels; a smaller face is not one
_FPS = (16, 20, 25, 32, 40, 50)  # a block of 16 kHz speech per picture: a whole number of samples


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of one avatar.

    Attributes:
        url: `ws://…` or `wss://…` of the LiveKit server; empty for no room at all.
        token: Token that the avatar joins with.
        avatar: Avatar id; decides the look.
        width: Pixels; even, as the video format needs.
        height: Pixels; even, as the video format needs.
        fps: Pictures per second; the speech is cut into as many blocks.
        sender: Identity to listen to; `None` means the usual rules (see `_sender.py`).
        faults: What shall go wrong; see `_player.py`.
    """

    url: str
    token: str = field(repr=False)
    avatar: str
    width: int = 640
    height: int = 480
    fps: int = 25
    sender: str | None = None
    faults: Sequence[str] = ()

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> "WorkerSettings":
        """Check what came over the pipe.

        Raises:
            ValueError: A setting is missing, unknown or out of range; the text holds no token.
        """
        try:
            parsed = cls(**settings)
        except TypeError as error:
            raise ValueError(f"Avatar worker settings do not fit: {error}.") from None
        if min(parsed.width, parsed.height) < _MIN_SIDE or parsed.width % 2 or parsed.height % 2:
            raise ValueError(
                f"Video size {parsed.width}x{parsed.height}: both must be even and at least {_MIN_SIDE}."
            )
        if parsed.fps not in _FPS:
            raise ValueError(f"fps {parsed.fps}: must be one of {', '.join(map(str, _FPS))}.")
        return parsed
