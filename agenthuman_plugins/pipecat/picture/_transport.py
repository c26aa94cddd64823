"""The output transport behind the service: where it is, what it shows, and what waits in it."""

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Iterator

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    StartFrame,
    SystemFrame,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

from agenthuman_plugins.client.rooms import ASPECT_RATIOS


def output_transport(processor: FrameProcessor) -> BaseOutputTransport | None:
    """The output transport behind `processor`, or `None` if there is none.

    Of several in the branches of one parallel pipeline, it is the first that shows video.
    """
    for following in processors_behind(processor):
        if (transport := transport_within(following)) is not None:
            return transport
    return None


def processors_behind(processor: FrameProcessor) -> Iterator[FrameProcessor]:
    """What a frame from `processor` comes to, in order; pipelines are named, not walked through."""
    while (following := _behind(processor)) is not None:
        yield following
        processor = following


def _behind(processor: FrameProcessor) -> FrameProcessor | None:
    around = pipeline_around(processor)
    return processor.next if around is None else around.next


def transport_within(processor: FrameProcessor) -> BaseOutputTransport | None:
    """The output transport that `processor` is or holds, at any depth; the first that shows video, else the first."""
    transports = list(_transports_within(processor))
    shows_video = (transport for transport in transports if params_of(transport).video_out_enabled)
    return next(shows_video, transports[0] if transports else None)


def _transports_within(processor: FrameProcessor) -> Iterator[BaseOutputTransport]:
    if isinstance(processor, BaseOutputTransport):
        yield processor
    for part in processor.processors:
        yield from _transports_within(part)


def pipeline_around(sink: FrameProcessor) -> FrameProcessor | None:
    """The pipeline, or the parallel pipeline, whose end `sink` is."""
    # An end pushes by a method of what it is the end of; Pipecat has no public way.
    pipeline = getattr(getattr(sink, "_downstream_push_frame", None), "__self__", None)
    return pipeline if isinstance(pipeline, FrameProcessor) else None


def output_params(processor: FrameProcessor) -> TransportParams | None:
    """Parameters of the first output transport behind `processor`, or `None` if there is none."""
    transport = output_transport(processor)
    return None if transport is None else params_of(transport)


def params_of(transport: BaseOutputTransport) -> TransportParams:
    """The transport's parameters."""
    return transport._params  # noqa: SLF001 - Pipecat has no public way; its own services read it too


def takes_media(transport: BaseOutputTransport) -> bool:
    """Whether the transport has said that it is ready."""
    return bool(transport._media_senders)  # noqa: SLF001 - as above


def nearest_aspect_ratio(width: int, height: int) -> str:
    """The avatar's ratio that comes closest to `width` by `height` pixels; the first one if that is no size."""
    if width <= 0 or height <= 0:
        return ASPECT_RATIOS[0]

    def distance(ratio: str) -> float:
        across, down = map(int, ratio.split(":"))
        return abs(across / down - width / height)

    return min(ASPECT_RATIOS, key=distance)


_PASSAGE_S = 0.25  # from us through the transport, if nothing is played there; else milliseconds
_MAX_VOICE_S = 1.0  # more was dropped, because nobody is connected


class PictureBacklog:
    """Counts the pictures that wait, beside the one that a processor or the output transport has in its hand.

    Pipecat's queues have no limit: pictures of 4 MB that nobody takes would fill the memory, and be shown late.

    Args:
        transport: Where the pictures go; without one nothing is counted.
    """

    def __init__(self, transport: BaseOutputTransport | None) -> None:
        self._transport = transport
        self._on_the_way: deque[weakref.ref[OutputImageRawFrame]] = deque()
        if transport is not None:
            transport.add_event_handler("on_after_process_frame", self._on_processed)

    def add(self, frame: OutputImageRawFrame) -> None:
        """Note a picture that is being pushed."""
        if self._transport is not None:
            self._on_the_way.append(weakref.ref(frame))

    def forget(self) -> None:
        """Count none of those any more that are on their way."""
        self._on_the_way.clear()

    def __len__(self) -> int:
        # Whoever replaces or drops a picture on its way lets go of ours when the next one comes.
        while self._on_the_way and self._on_the_way[0]() is None:
            self._on_the_way.popleft()
        return max(len(self._on_the_way) - 1, 0) + _queued(self._transport)

    async def _on_processed(self, _: object, frame: Frame) -> None:
        for place, pushed in enumerate(self._on_the_way):
            if pushed() is frame:
                for _ in range(place + 1):  # pictures do not overtake each other
                    self._on_the_way.popleft()
                return


class VoiceBacklog:
    """Counts the seconds of the avatar's voice that wait in the output transport.

    Pipecat's transports take sound faster than they play it, and push on what they have played: LiveKit's what its
    source has taken, which has a queue of its own. One that hands over the next piece while one is being played, as the
    demo's, plays up to that piece more.

    Args:
        transport: Where the voice goes; without one that plays sound nothing is counted.
    """

    def __init__(self, transport: BaseOutputTransport | None) -> None:
        self._transport = transport
        self._counts = transport is not None and params_of(transport).audio_out_enabled
        self._waiting_s = 0.0
        if transport is not None and self._counts:
            transport.add_event_handler("on_after_push_frame", self._on_pushed)

    @property
    def seconds(self) -> float:
        """How much waits."""
        source = getattr(getattr(self._transport, "_client", None), "_audio_source", None)
        queued_s: float = getattr(source, "queued_duration", 0.0)
        return self._waiting_s + queued_s

    def add(self, seconds: float) -> None:
        """Note voice that is being pushed."""
        if self._counts:
            self._waiting_s = min(self._waiting_s + seconds, _MAX_VOICE_S)

    def forget(self) -> None:
        """Count none of it any more."""
        self._waiting_s = 0.0

    async def _on_pushed(self, _: object, frame: Frame) -> None:
        if isinstance(frame, OutputAudioRawFrame):
            # The last chunk of a reply is filled up with silence.
            self._waiting_s = max(self._waiting_s - frame.num_frames / frame.sample_rate, 0.0)


class Passage:
    """Tells when the output transport has passed on what was pushed to it, behind the sound that it had.

    Args:
        transport: Where the frames go; without one nobody waits.

    Attributes:
        transport: As above.
    """

    def __init__(self, transport: BaseOutputTransport | None) -> None:
        self._newest: Frame | None = None
        self._through = asyncio.Event()
        self._through.set()
        self.transport = transport
        if transport is not None:
            transport.add_event_handler("on_after_push_frame", self._on_pushed)

    def enter(self, frame: Frame) -> None:
        """Note a frame that is about to be pushed; what has its own time or no place in the order is not counted."""
        if (
            self.transport is not None
            and frame.pts is None
            and not isinstance(frame, SystemFrame | StartFrame | EndFrame)
        ):
            self._newest = frame
            self._through.clear()

    async def through(self) -> None:
        """Wait until the newest frame has passed; not for long, since somebody may have kept it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PASSAGE_S):
                await self._through.wait()
        self._through.set()

    async def _on_pushed(self, _: object, frame: Frame) -> None:
        if frame is self._newest:
            self._newest = None
            self._through.set()


def _queued(transport: BaseOutputTransport | None) -> int:
    """Pictures in the queues of a transport; Pipecat has no public way, so what is not there counts as empty."""
    senders = getattr(transport, "_media_senders", {}).values()
    track = getattr(
        getattr(transport, "_client", None), "_video_output_track", None
    )  # SmallWebRTC's own queue
    queues = [
        *(getattr(sender, "_video_queue", None) for sender in senders),
        getattr(track, "_video_buffer", None),
    ]
    return sum(queue.qsize() for queue in queues if queue is not None)
