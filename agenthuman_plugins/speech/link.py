"""The speech link: audio to the avatar, its picture and voice back.

One interface with several implementations; what stands on it (the Pipecat service, the LangChain tools)
does not know whether the avatar sits in a LiveKit room, behind the gateway or in this process.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

SPEECH_SAMPLE_RATE = 16_000  # Hz; mono, signed 16-bit little-endian: what the avatar takes


@dataclass(frozen=True, slots=True)
class AvatarAudio:
    """A piece of the avatar's voice.

    Attributes:
        pcm: Signed 16-bit little-endian samples, interleaved.
        sample_rate: Samples per second and channel.
        num_channels: Channels in `pcm`.
        buffered_s: Seconds that it waited in the jitter buffer, as last measured.
        concealed_s: Seconds of sound up to this piece that the receiver made up, because none came; `None` if that was
            not measured since the piece before.
    """

    pcm: bytes
    sample_rate: int
    num_channels: int = 1
    buffered_s: float = 0.0
    concealed_s: float | None = None


@dataclass(frozen=True, slots=True)
class AvatarVideo:
    """One frame of the avatar's video.

    Attributes:
        rgb: `height * width * 3` bytes, row by row.
        width: Pixels; may change from one frame to the next.
        height: Pixels; may change from one frame to the next.
        timestamp_us: Media time in microseconds from an arbitrary start.
    """

    rgb: bytes
    width: int
    height: int
    timestamp_us: int


@dataclass(frozen=True, slots=True)
class AvatarConnected:
    """The avatar is in the room and sends video: it can be spoken through."""


@dataclass(frozen=True, slots=True)
class AvatarDisconnected:
    """The avatar left or lost its video, and was not back within two seconds; the link itself stands."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The connection is being restored; nothing is played meanwhile."""


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection is back."""


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The connection is gone for good; only a new link helps. The last event of a link.

    Attributes:
        reason: Why, as a sentence.
        replaced: Whether another participant joined the LiveKit room with our identity. A new link would disconnect
            that one in turn, so do not make one by yourself.
    """

    reason: str
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class PlaybackStarted:
    """The avatar plays the first sample of an utterance.

    Not every avatar reports it: see `PlaybackFinished`, which always comes.
    """

    utterance: int


@dataclass(frozen=True, slots=True)
class PlaybackFinished:
    """An utterance is over, exactly once for each utterance that was sent.

    Attributes:
        utterance: Number that `SpeechLink.send` returned.
        position_s: Seconds of the utterance that were played.
        interrupted: Whether `SpeechLink.interrupt` cut it short.
        estimated: Whether the position comes from our own clock because the avatar did not report in time.
    """

    utterance: int
    position_s: float
    interrupted: bool
    estimated: bool = False


LinkEvent = (
    AvatarConnected
    | AvatarDisconnected
    | Reconnecting
    | Reconnected
    | LinkLost
    | PlaybackStarted
    | PlaybackFinished
)


class SpeechLink(Protocol):
    """A connection to one avatar. One task speaks through it; each stream has one reader."""

    async def connect(self, *, timeout_s: float) -> None:
        """Connect and wait until the avatar can be spoken through.

        Example:
            ```python
            await link.connect(timeout_s=20)
            ```

        Raises:
            SpeechLinkError: The room could not be joined, or the avatar did not appear within `timeout_s`.
        """

    async def send(self, pcm: bytes) -> int:
        """Send speech and return the number of the utterance that it belongs to (1, 2, …).

        The first call after `end_utterance`, `interrupt` or `connect` opens a new utterance.

        Example:
            ```python
            async for piece in tts.stream("Hello!"):
                await link.send(piece)
            await link.end_utterance()
            ```

        Args:
            pcm: 16 kHz, mono, signed 16-bit little-endian; any length. It leaves in pieces of at most a second, and
                may wait between them. What an interruption cuts short is not sent on, and is no error.

        Raises:
            SpeechLinkError: The connection is gone, or the avatar is not there (then `retryable`). One that has just
                left is waited for, two seconds at most.
        """

    async def end_utterance(self) -> None:
        """Mark the end of the open utterance; without one, do nothing.

        Example:
            ```python
            await link.send(pcm)
            await link.end_utterance()  # what is sent next is another utterance
            ```
        """

    async def interrupt(self) -> None:
        """Stop the avatar at once and drop what it has not played; without speech in flight, do nothing.

        It waits for no `send`. Returns when every utterance in flight is finished (each with its `PlaybackFinished`):
        at the avatar's report, 0.15 s after its answer if there is none, or after two seconds without any answer.

        Example:
            ```python
            await link.interrupt()
            await link.send(next_reply)  # at once, and from its first word
            ```
        """

    async def wait_playback(self, *, timeout_s: float) -> bool:
        """Wait until nothing is in flight; `False` if that took longer than `timeout_s`.

        Example:
            ```python
            if not await link.wait_playback(timeout_s=60):
                print("still speaking")
            ```
        """

    def events(self) -> AsyncIterator[LinkEvent]:
        """What happens on the link, in order, until it is closed. For one reader.

        Example:
            ```python
            async for event in link.events():
                if isinstance(event, PlaybackFinished):
                    print(event.position_s, event.interrupted)
            ```
        """

    def audio(self) -> AsyncIterator[AvatarAudio]:
        """The avatar's voice, silence included, until the link is closed. For one reader.

        Continues over a track that is published again.

        Example:
            ```python
            async for audio in link.audio():
                speaker.write(audio.pcm)
            ```
        """

    def video(self) -> AsyncIterator[AvatarVideo]:
        """The avatar's video until the link is closed; a slow reader misses frames, and never lags behind.

        Example:
            ```python
            async for frame in link.video():
                screen.show(frame.rgb, frame.width, frame.height)
            ```
        """

    async def aclose(self) -> None:
        """Leave and free everything; harmless when repeated or never connected.

        It does not end the session, except through the gateway: see `GatewaySpeechLink`.

        Example:
            ```python
            await link.aclose()  # and, apart from it, `client.sessions.end(session_id)`
            ```
        """
