"""What the transport behind the service shows."""

from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

from agenthuman_plugins.client.rooms import ASPECT_RATIOS


def output_params(processor: FrameProcessor) -> TransportParams | None:
    """Parameters of the first output transport behind `processor`, or `None` if there is none."""
    following = processor.next
    while following is not None:
        if isinstance(following, BaseOutputTransport):
            return following._params  # noqa: SLF001 - Pipecat has no public way; its own services read it too
        following = following.next
    return None


def nearest_aspect_ratio(width: int, height: int) -> str:
    """The avatar's ratio that comes closest to `width` by `height` pixels."""

    def distance(ratio: str) -> float:
        across, down = map(int, ratio.split(":"))
        return abs(across / down - width / height)

    return min(ASPECT_RATIOS, key=distance)
