"""One browser that watches, from its offer until it has gone."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler

from agenthuman_plugins.speech._wire import json_object
from agenthuman_plugins.viewer._errors import ViewerError
from agenthuman_plugins.viewer._tracks import Picture, PictureTrack, Sound, VoiceTrack

MICROPHONE_RATE = 16_000  # Hz, what ears for speech take

_CONNECT_TIMEOUT_S = 15.0  # from the offer to the first message
_SILENCE_TIMEOUT_S = 10.0  # the page pings every second; a hidden tab may be slowed down
_CLOSE_TIMEOUT_S = 3.0
_MAX_MESSAGE = 64 * 1024  # characters that a page may send at once

Message = dict[str, Any]

_logger = logging.getLogger(__name__)


class Browser:
    """A browser's peer connection.

    Args:
        on_message: Gets what the page sends.
        on_microphone: Gets the user's voice as 16-bit mono samples at `MICROPHONE_RATE`; without, a page's microphone
            is not taken.
    """

    def __init__(
        self,
        *,
        on_message: Callable[[Message], None] | None = None,
        on_microphone: Callable[[bytes], None] | None = None,
    ) -> None:
        # Without the empty list aiortc would ask a public STUN server.
        self._peer = RTCPeerConnection(
            RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        began_s = asyncio.get_running_loop().time()
        self.picture = PictureTrack(began_s)
        self.voice = VoiceTrack(began_s)
        self._on_message = on_message
        self._on_microphone = on_microphone
        self._channel: RTCDataChannel | None = None
        self._last_words: Message | None = None  # told when the channel opens
        self._alive = asyncio.Event()
        self._gone = False
        self._listening: asyncio.Task[None] | None = None
        self._peer.on("connectionstatechange", self._on_state)
        self._peer.on("datachannel", self._on_channel)
        self._peer.on("track", self._on_track)

    async def answer(self, offer: Any) -> dict[str, str]:
        """Take the browser's offer and return the answer.

        Raises:
            ViewerError: The offer cannot be used.
        """
        try:
            return await self._answer(offer)
        except Exception as error:  # aiortc has as many kinds as an offer can be wrong
            _logger.debug("Offer refused", exc_info=error)
            raise ViewerError("This browser's offer for a call cannot be used.") from error

    async def _answer(self, offer: Any) -> dict[str, str]:
        await self._peer.setRemoteDescription(RTCSessionDescription(offer["sdp"], offer["type"]))
        tracks: dict[str, MediaStreamTrack] = {"video": self.picture, "audio": self.voice}
        for transceiver in self._peer.getTransceivers():
            self._use(transceiver, tracks.pop(transceiver.kind, None))
        if {"video", "audio"} <= tracks.keys():
            raise ValueError("The offer has room for neither video nor voice.")
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        answer = self._peer.localDescription
        return {"sdp": answer.sdp, "type": answer.type}

    def show(self, picture: Picture) -> None:
        """Send a picture if the encoder keeps up."""
        if self._channel is not None:  # connected
            self.picture.put(picture)

    def play(self, sound: Sound) -> None:
        """Send a piece of voice."""
        if self._channel is not None:
            self.voice.put(sound)

    def tell(self, message: Message, *, state: bool = False) -> None:
        """Send the page a message; a state is also told to a page that is still connecting."""
        if state:
            self._last_words = message
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(json.dumps(message))

    async def stay(self) -> None:
        """Return when the browser has gone, with or without a word."""
        limit_s = _CONNECT_TIMEOUT_S
        while not self._gone:
            self._alive.clear()
            try:
                async with asyncio.timeout(limit_s):
                    await self._alive.wait()
            except TimeoutError:
                return
            limit_s = _SILENCE_TIMEOUT_S

    def dismiss(self) -> None:
        """Let `stay` return."""
        self._gone = True
        self._alive.set()

    async def aclose(self) -> None:
        """Close the connection; harmless when repeated."""
        self.dismiss()
        self._peer.remove_all_listeners()
        self.picture.stop()
        self.voice.stop()
        if self._listening is not None:
            self._listening.cancel()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._peer.close()
        except TimeoutError:
            _logger.warning("A browser's connection did not close in time")

    def _use(self, transceiver: RTCRtpTransceiver, track: MediaStreamTrack | None) -> None:
        """Send a track in a section of the offer, and take nothing that nobody reads: aiortc would keep it all."""
        if track is None:
            transceiver.direction = "inactive"
            return
        transceiver.sender.replaceTrack(track)
        wants_microphone = track.kind == "audio" and self._on_microphone is not None
        transceiver.direction = "sendrecv" if wants_microphone else "sendonly"

    def _on_state(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self.dismiss()

    def _on_channel(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        self._alive.set()
        channel.on("message", self._on_text)
        channel.on("close", self.dismiss)
        if self._last_words is not None:
            self.tell(self._last_words)

    def _on_text(self, text: str | bytes) -> None:
        self._alive.set()
        if (
            self._on_message is None
            or not isinstance(text, str)
            or text == "ping"
            or len(text) > _MAX_MESSAGE
        ):
            return
        try:
            self._on_message(json_object(text))
        except Exception:  # the connection must go on
            _logger.exception("A page's message could not be handled")

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and self._on_microphone is not None and self._listening is None:
            self._listening = asyncio.create_task(
                _listen(track, self._on_microphone), name="a page's microphone"
            )


async def _listen(track: MediaStreamTrack, on_microphone: Callable[[bytes], None]) -> None:
    resampler = AudioResampler(format="s16", layout="mono", rate=MICROPHONE_RATE)
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        if isinstance(frame, AudioFrame):
            for piece in resampler.resample(frame):
                on_microphone(piece.to_ndarray().tobytes())
