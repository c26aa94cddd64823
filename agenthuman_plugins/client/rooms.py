"""Where the avatar appears: rooms of the caller's own.

Without one (`room=None`) the service makes a LiveKit room itself and tells how to join it
(platform `proxy`, which the public pages do not list).
"""

from dataclasses import dataclass, field
from typing import Literal

ASPECT_RATIOS = ("4:3", "3:4", "1:1")
AspectRatio = Literal["4:3", "3:4", "1:1"]


@dataclass(frozen=True, slots=True)
class LiveKitRoom:
    """A LiveKit room that the avatar joins.

    Attributes:
        url: `wss://…` (or `ws://…`) of the LiveKit server.
        avatar_token: Token that the avatar joins with.
        agent_token: Token that our own side joins with to speak through the avatar.
    """

    url: str
    avatar_token: str = field(repr=False)
    agent_token: str | None = field(default=None, repr=False)
