"""Speech on its way to an avatar in a LiveKit room: one byte stream per utterance, closed at its end.

Each operation on the wire runs alone and to its end, also when its caller is cancelled: a half-opened stream could
never be closed. Only a clear may overtake: it waits for no write.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from livekit import rtc

from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.speech._utterances import (
    BYTES_PER_SECOND,
    CLEAR_TIMEOUT_S,
    PlaybackEvent,
    Utterances,
)
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE
from agenthuman_plugins.speech.redaction import redact

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_AUDIO_TOPIC = "lk.audio_stream"
_AUDIO_ATTRIBUTES = {"sample_rate": str(SPEECH_SAMPLE_RATE), "num_channels": "1"}
_CLEAR_METHOD = "lk.clear_buffer"

# 0.4 s; one packet of LiveKit's, behind which a clear waits on the wire, holds 15,000 bytes.
PIECE_BYTES = 12_800
# LiveKit takes megabytes at once and keeps them until the network has taken them; a clear would wait behind all that.
# So speech leaves some seconds ahead, and beyond that only so many times as fast as it is spoken.
_AHEAD_S = 3.0
_PACE = 4.0
_WRITE_TIMEOUT_S = 5.0  # a write takes a millisecond; while LiveKit reconnects it waits


class SpeechStream:
    """Writes the utterances of one link, and clears the avatar.

    Args:
        avatar_identity: Who listens.
        utterances: The books.
        reach: Returns our participant, or raises `SpeechLinkError` if the avatar cannot be reached.
        report: Takes what has happened to utterances.
    """

    def __init__(
        self,
        avatar_identity: str,
        utterances: Utterances,
        *,
        reach: Callable[[], rtc.LocalParticipant],
        report: Callable[[list[PlaybackEvent]], None],
    ) -> None:
        self._avatar_identity = avatar_identity
        self._utterances = utterances
        self._reach = reach
        self._report = report
        self._wire = asyncio.Lock()
        self._operations: set[asyncio.Task[Any]] = set()
        self._stream: tuple[int, rtc.ByteStreamWriter] | None = None  # the open one, with its utterance
        self._drained_at = -math.inf  # when what was written has left at that pace

    @property
    def wait_s(self) -> float:
        """Seconds until the next piece should be written."""
        return self._drained_at - _AHEAD_S / _PACE - asyncio.get_running_loop().time()

    async def write(self, number: int | None, pcm: bytes) -> int:
        """Write a piece of the open utterance, or of a new one, and return its number.

        Args:
            number: The utterance to go on with; if it is over by now, nothing is written. `None` for any.
            pcm: At most `PIECE_BYTES`.

        Raises:
            SpeechLinkError: The avatar cannot be reached, or the piece did not get out.
        """
        return await self._in_turn(lambda: self._write(number, pcm))

    async def end(self) -> None:
        """Close the stream of the open utterance, which is its end; without one, do nothing."""
        await self._in_turn(self._end)

    async def clear(self) -> None:
        """Make the avatar drop what it has, within the time that the utterances allow for it.

        An avatar drops what still comes on a stream that it cleared, so the stream is closed first. A write that is
        under way may be stuck, and is not waited for: it closes its stream itself, and clears once more behind it.
        """
        deadline = asyncio.get_running_loop().time() + CLEAR_TIMEOUT_S
        self._drained_at = -math.inf
        if self._wire.locked():
            await asyncio.shield(self._start(self._clear(deadline)))
        else:
            await self._in_turn(lambda: self._close_and_clear(deadline))

    def clear_first(self) -> None:
        """Make the avatar drop what it has before anything else is written."""
        deadline = asyncio.get_running_loop().time() + CLEAR_TIMEOUT_S
        self._start(self._in_turn(lambda: self._clear(deadline)))

    def forget(self) -> None:
        """Drop the open stream: nobody reads it any more."""
        self._stream = None

    async def settle(self, timeout_s: float) -> None:
        """Wait until nothing is on the wire."""
        if self._operations:
            await asyncio.wait(self._operations, timeout=timeout_s)

    # --- the wire

    async def _in_turn(self, operation: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        await self._wire.acquire()
        task = self._start(operation())
        task.add_done_callback(lambda _: self._wire.release())
        return await asyncio.shield(task)

    def _start(self, operation: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(operation, name="speech to the avatar")
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
        return task

    async def _write(self, number: int | None, pcm: bytes) -> int:
        if number is not None and number != self._utterances.open_number:
            return number
        local, now = self._reach(), asyncio.get_running_loop().time
        number = self._utterances.open()
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                if self._stream is None or self._stream[0] != number:
                    await self._close()
                    self._stream = number, await self._opened(local, number)
                await self._stream[1].write(pcm)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            self._stream = None
            if number == self._utterances.open_number:
                self._utterances.end()
            self._report([])
            reason = redact(str(error)) or "the room does not answer"
            # Without its cause, which may hold a token.
            raise SpeechLinkError(f"Speech could not be sent: {reason}.", retryable=True) from None
        self._utterances.push(number, len(pcm))
        self._drained_at = max(self._drained_at, now()) + len(pcm) / (_PACE * BYTES_PER_SECOND)
        if (
            number != self._utterances.open_number
        ):  # cut meanwhile, and the clear may have overtaken the speech
            await self._close_and_clear(now() + CLEAR_TIMEOUT_S)
        return number

    async def _end(self) -> None:
        if self._stream is not None:
            self._utterances.end()
            self._report([])
            await self._close()

    async def _opened(self, local: rtc.LocalParticipant, number: int) -> rtc.ByteStreamWriter:
        return await local.stream_bytes(
            f"AUDIO_{number}",
            topic=_AUDIO_TOPIC,
            attributes=_AUDIO_ATTRIBUTES,
            destination_identities=[self._avatar_identity],
        )

    async def _close(self) -> None:
        stream, self._stream = self._stream, None  # first, since a stream can be closed only once
        if stream is None:
            return
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await stream[1].aclose()
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            _log.warning("The end of utterance %d was not sent: %s", stream[0], redact(str(error)))

    async def _close_and_clear(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._close()
        except TimeoutError:
            pass  # stuck: the clear says so
        await self._clear(deadline)

    async def _clear(self, deadline: float) -> None:
        answer = ""
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._reach().perform_rpc(
                    destination_identity=self._avatar_identity, method=_CLEAR_METHOD, payload=""
                )
        except SpeechLinkError:
            pass  # it is gone, which is told elsewhere
        except (rtc.RpcError, TimeoutError) as error:
            _log.warning("The avatar was not cleared: %s", redact(str(error)) or "no answer")
        if answer == "ok":
            self._utterances.clear_confirmed()
            self._report([])
        else:
            self._report(self._utterances.clear_failed())
