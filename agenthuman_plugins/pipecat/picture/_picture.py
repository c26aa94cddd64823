"""The avatar's picture as the service shows it: from a link to the output transport, in step with the voice."""

import asyncio
import math
from collections.abc import Callable, Iterable

from loguru import logger
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

from agenthuman_plugins.pipecat.picture._check import check_params, check_size
from agenthuman_plugins.pipecat.picture._curtain import Curtain
from agenthuman_plugins.pipecat.picture._lipsync import LipSync
from agenthuman_plugins.pipecat.picture._pump import CAN_SCALE, PictureCount, PicturePump
from agenthuman_plugins.pipecat.picture._transport import (
    PictureBacklog,
    VoiceBacklog,
    output_transport,
    params_of,
    takes_media,
)
from agenthuman_plugins.speech.link import AvatarVideo, SpeechLink

_RECONNECT_S = 60.0  # LiveKit gives up before
_KEY_FRAME_S = 3.0


class AvatarPicture:
    """Shows the pictures of one link after the other.

    Args:
        service: Pushes the frames, and calls `on_first_video_frame` with the first one of each link.
        scale: Whether to bring the pictures to the transport's size, in a twentieth of the time that Pipecat takes.

    Attributes:
        lipsync: How much later the voice comes.
        curtain: Keeps back what may show a reply that was cut.
        count: What became of the pictures, over all links.
        destination: The transport's destination that the newest speech is for.
    """

    def __init__(self, service: FrameProcessor, *, scale: bool = True) -> None:
        self.lipsync = LipSync()
        self.curtain = Curtain(lambda: self.lipsync.transit_s, _now)
        self.count = PictureCount()
        self.destination: str | None = None
        self._reconnecting_until = -math.inf
        self._service = service
        self._scale = scale
        self._ready = asyncio.Event()
        self._watched: BaseOutputTransport | None = None  # what the two count in
        self._backlog: PictureBacklog | None = None
        self._voice_backlog: VoiceBacklog | None = None
        self._size_checked = False

    @property
    def wanted(self) -> bool:
        """Whether there is somebody to show pictures to."""
        params = self._params()
        return self._ready.is_set() and (params is None or params.video_out_enabled)

    def begin(self) -> None:
        """Begin a run: the transport has to be ready anew."""
        self._ready.clear()
        if self._backlog is not None and self._voice_backlog is not None:
            self._backlog.forget()
            self._voice_backlog.forget()

    def check(self, aspect_ratio: str) -> None:
        """Warn about a transport that does not fit an avatar of this shape."""
        if (params := self._params()) is not None:
            self._warn(check_params(params, aspect_ratio=aspect_ratio))

    def transport_is_ready(self) -> None:
        """Note that the transport takes pictures; before, none is converted."""
        self._ready.set()

    def look_for_transport(self) -> None:
        """Note that the transport takes pictures if it does; nobody may have told a service that had no work."""
        transport = output_transport(self._service)
        if transport is not None and takes_media(transport):
            self.transport_is_ready()

    def reconnecting(self) -> None:
        """Note that the link's connection is being restored, in which no picture can come."""
        self._reconnecting_until = _now() + _RECONNECT_S

    def reconnected(self) -> None:
        """Note that it is back; the first picture takes its time."""
        self._reconnecting_until = _now() + _KEY_FRAME_S

    def speech_reported(self, number: int) -> None:
        """Note the avatar's report that it starts an utterance."""
        self.lipsync.reported(number, _now())

    def speech_heard(self, number: int, ago_s: float) -> None:
        """Note that an utterance is heard from now on.

        Args:
            number: The utterance.
            ago_s: How long ago its first sample came, the silence before its voice included, in seconds.
        """
        self.lipsync.heard(number, _now() - ago_s)

    def voice_pushed(self, seconds: float, newest_s: float, *, held: bool) -> None:
        """Note that a piece of sound came.

        Args:
            seconds: How much of the voice was pushed then: sound that was kept goes with the piece that shows what it is.
            newest_s: Length of the piece.
            held: Whether sound is being kept.
        """
        if seconds and self._voice_backlog is not None:
            self.lipsync.waits(self._voice_backlog.seconds + max(seconds - newest_s, 0.0))
            self._voice_backlog.add(seconds)
        self.lipsync.held_back(held=held)

    def voice_over(self) -> None:
        """Note that the transport has played or dropped all of the voice."""
        self.lipsync.nothing_waits()
        if self._voice_backlog is not None:
            self._voice_backlog.forget()

    def take_over(self) -> None:
        """Note that the pictures of another link are shown from now on."""
        self._reconnecting_until = -math.inf
        self.curtain.open()

    async def show(
        self, link: SpeechLink, *, shows: Callable[[], bool], on_ready: Callable[[], None]
    ) -> None:
        """Push the pictures of a link until it is closed.

        Args:
            link: Connected.
            shows: Tells whether it is this link's turn. Before that, its pictures come and go unseen: those that wait
                for their voice are then there to follow the last one of the link before.
            on_ready: Called when the first one could be shown.

        Raises:
            ExceptionGroup: Of a `SpeechLinkError`: the picture is frozen.
        """
        await self._ready.wait()
        params = self._params()
        if params is not None and not params.video_out_enabled:
            return  # nobody would see them
        transport = output_transport(self._service)
        if self._backlog is None or transport is not self._watched:
            self._watched = transport
            self._backlog, self._voice_backlog = PictureBacklog(transport), VoiceBacklog(transport)
        pump = PicturePump(
            self._service.push_frame,
            shows=shows,
            on_ready=on_ready,
            on_first=lambda picture: self._on_first(picture, params),
            delay_s=lambda: self.lipsync.delay_s,
            curtain=self.curtain,
            backlog=self._backlog,
            count=self.count,
            reconnecting=self._is_reconnecting,
            pipeline_ns=self._service.get_clock().get_time,
            destination=lambda: self._known_destination(params),
            scale_to=self._size_to_show(params) if self._scale else None,
        )
        await pump.run(link.video())

    def _known_destination(self, params: TransportParams | None) -> str | None:
        """Where the video goes: with the speech, if the transport has such a destination for video."""
        known = [] if params is None else params.video_out_destinations
        return self.destination if self.destination in known else None

    def _size_to_show(self, params: TransportParams | None) -> tuple[int, int] | None:
        """The transport's size, if it names one."""
        size = (0, 0) if params is None else (params.video_out_width, params.video_out_height)
        return size if min(size) > 0 else None

    def _is_reconnecting(self) -> bool:
        return _now() < self._reconnecting_until

    async def _on_first(self, picture: AvatarVideo, params: TransportParams | None) -> None:
        if params is not None and self._size_to_show(params) is not None and not self._size_checked:
            self._size_checked = True
            scaled_here = self._scale and CAN_SCALE
            self._warn(check_size(params, picture.width, picture.height, scaled_here=scaled_here))
        await self._service._call_event_handler("on_first_video_frame")  # noqa: SLF001 - as every service does

    def _params(self) -> TransportParams | None:
        transport = output_transport(self._service)
        return None if transport is None else params_of(transport)

    def _warn(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            logger.warning(f"{self._service}: {sentence}")


def _now() -> float:
    return asyncio.get_running_loop().time()
