"""Sends speech to the avatar in a task of its own.

Pipecat cancels what a processor awaits when the user interrupts; a network write must not be cut in the middle,
so frame processing only queues here. Without a link (while it is being made) the queue is the buffer.

Speech is made faster than it is spoken. It leaves when the avatar is about to need it, in pieces of what has come
together by then: a whole reply at once would keep sender, room server and avatar busy and their pictures late, and
an interruption would wait behind it on the wire.
"""

import asyncio
import contextlib
import math
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from agenthuman_plugins.pipecat.picture._curtain import Curtain
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE, SpeechLink
from agenthuman_plugins.speech.progress import Playback, Utterance

# Silence between an interrupted utterance and the next one, so that their sound can be told apart; a new reply
# takes longer to be thought and spoken anyway.
_GAP_S = 0.08
_GIVE_UP_S = 5.0  # for a link to let go of a piece
_AHEAD_S = 2.0  # speech that the avatar has and has not spoken
_BYTES_PER_S = 2 * SPEECH_SAMPLE_RATE
_PIECE_BYTES = round(
    0.4 * _BYTES_PER_S
)  # fits into one packet of LiveKit's, behind which an interruption waits


class _Mark(Enum):
    END = auto()
    INTERRUPT = auto()


@dataclass(slots=True)
class _Speech:
    utterance: Utterance
    pcm: bytes


class Speaker:
    """The queue between the pipeline and the speech link.

    Args:
        curtain: Is told when the avatar has stopped.

    Attributes:
        playback: Is told which utterance is on its way, before its first sample leaves.
    """

    def __init__(self, playback: Playback, curtain: Curtain) -> None:
        self.playback = playback
        self._curtain = curtain
        self._queue: deque[_Speech | _Mark] = deque()
        self._changed = asyncio.Event()
        self._cut: asyncio.Future[None] | None = (
            None  # done by an interruption of the piece that is on its way
        )
        self._cut_short = False  # whether the interruption in the queue has cut such a piece already
        self._spoken_at = 0.0  # when what was sent will have been spoken; event loop's time
        self._open: Utterance | None = None  # sent in part
        self._sent = 0  # utterances on the present link, which numbers them 1, 2, …
        self._held = False

    @property
    def between_utterances(self) -> bool:
        """Whether no utterance was sent in part."""
        return self._open is None

    def hold(self, held: bool) -> None:
        """Let no other utterance begin; the one that is being sent goes on."""
        self._held = held
        self._changed.set()

    def speak(self, utterance: Utterance, pcm: bytes) -> None:
        """Queue speech (16 kHz, mono, 16-bit)."""
        if pcm:
            utterance.remember(pcm)
            newest = self._queue[-1] if self._queue else None
            if isinstance(newest, _Speech) and newest.utterance is utterance:
                room = _PIECE_BYTES - len(newest.pcm)
                newest.pcm += pcm[:room]
                pcm = pcm[room:]
            for at in range(0, len(pcm), _PIECE_BYTES):
                self._put(_Speech(utterance, pcm[at : at + _PIECE_BYTES]))

    def end_utterance(self) -> None:
        """Queue the end of the utterance."""
        self._put(_Mark.END)

    def drop(self, *, interrupt: bool) -> None:
        """Drop what is queued.

        Args:
            interrupt: Whether to stop what was sent, too.
        """
        interrupt |= _Mark.INTERRUPT in self._queue  # the avatar has not been told yet
        interrupt |= self._open is not None  # its end is dropped: the next one must not be taken for its rest
        self._queue.clear()
        if interrupt:
            self._put(_Mark.INTERRUPT)
            if self._cut is not None and not self._cut.done():
                self._cut.set_result(None)

    def _put(self, item: _Speech | _Mark) -> None:
        self._queue.append(item)
        self._changed.set()

    async def run(self, link: SpeechLink) -> None:
        """Send what is queued through a fresh `link` until cancelled.

        Raises:
            SpeechLinkError: The link broke.
        """
        self._sent, self._spoken_at, self._cut_short = 0, 0.0, False
        try:
            while True:
                item = await self._next()
                if isinstance(item, _Speech):
                    await self._send(link, item)
                elif item is _Mark.END:
                    await link.end_utterance()
                    if self._open is not None:
                        self._open.sent_s, self._open = math.inf, None
                else:
                    if not self._cut_short:
                        await link.interrupt()
                    self._cut_short = False
                    self._spoken_at, self._open = 0.0, None
                    self._curtain.confirm()
                    await asyncio.sleep(_GAP_S)
        finally:
            self._open = None

    async def _send(self, link: SpeechLink, speech: _Speech) -> None:
        utterance, seconds = speech.utterance, len(speech.pcm) / _BYTES_PER_S
        if not utterance.number:
            # Numbered ahead of the link's answer: the report of its start can overtake that.
            self._sent += 1
            utterance.number, utterance.sent_s = self._sent, 0.0
            utterance.sent_at = asyncio.get_running_loop().time()
            self.playback.expect(utterance)
        self._open = utterance
        # One that the link has over before its end (the avatar was away for a moment) shifts its count.
        self._sent = max(self._sent, await self._sent_or_cut(link, speech.pcm))
        utterance.sent_s += seconds
        self._spoken_at = max(self._spoken_at, asyncio.get_running_loop().time()) + seconds

    async def _sent_or_cut(self, link: SpeechLink, pcm: bytes) -> int:
        """Send, and let an interruption not wait for that: a link ends a send that it cuts."""
        cut = self._cut = asyncio.get_running_loop().create_future()
        sending = asyncio.create_task(link.send(pcm), name="send a piece of speech")
        try:
            await asyncio.wait({sending, cut}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                await link.interrupt()
                self._cut_short = True
            return await sending
        finally:
            cut.cancel()
            if not sending.done():
                sending.cancel()
                await asyncio.wait({sending}, timeout=_GIVE_UP_S)
            if sending.done() and not sending.cancelled():
                sending.exception()  # of a link that is given up; unread, it would be logged as a defect

    def _wait_s(self, item: _Speech | _Mark) -> float | None:
        """For how long an item has to wait; `None` while it is held."""
        if not isinstance(item, _Speech):
            return 0.0
        if self._held and not item.utterance.number:
            return None
        return self._spoken_at - _AHEAD_S - asyncio.get_running_loop().time()

    async def _next(self) -> _Speech | _Mark:
        """Take what is next, as soon as it has to leave."""
        while True:
            self._changed.clear()
            wait_s = None
            if self._queue:
                wait_s = self._wait_s(self._queue[0])
                if wait_s is not None and wait_s <= 0:
                    return self._queue.popleft()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
