"""Sends speech to the avatar in a task of its own.

Pipecat cancels what a processor awaits when the user interrupts; a network write must not be cut in the middle,
so frame processing only queues here. Without a link (while it is being made) the queue is the buffer.
"""

import asyncio
from enum import Enum, auto

from agenthuman_plugins.pipecat._curtain import Curtain
from agenthuman_plugins.pipecat._direct import PlaybackClock
from agenthuman_plugins.pipecat._utterance import Utterance
from agenthuman_plugins.pipecat._voice import VoiceGate
from agenthuman_plugins.speech.link import SpeechLink

# Silence between an interrupted utterance and the next one, so that their sound can be told apart; a new reply
# takes longer to be thought and spoken anyway.
_GAP_S = 0.08


class _Mark(Enum):
    END = auto()
    INTERRUPT = auto()


class Speaker:
    """The queue between the pipeline and the speech link.

    Args:
        gate: Is told which utterance is on its way, before its first sample leaves.
        curtain: Is told when the avatar has stopped.
    """

    def __init__(self, gate: VoiceGate | PlaybackClock, curtain: Curtain) -> None:
        self.gate = gate
        self._curtain = curtain
        self._queue: asyncio.Queue[tuple[Utterance, bytes] | _Mark] = asyncio.Queue()
        self._sent = 0  # utterances on the present link, which numbers them 1, 2, …

    def speak(self, utterance: Utterance, pcm: bytes) -> None:
        """Queue speech (16 kHz, mono, 16-bit)."""
        if pcm:
            utterance.onset.add(pcm)
            self._queue.put_nowait((utterance, pcm))

    def end_utterance(self) -> None:
        """Queue the end of the utterance."""
        self._queue.put_nowait(_Mark.END)

    def drop(self, *, interrupt: bool) -> None:
        """Drop what is queued.

        Args:
            interrupt: Whether to stop what was sent, too.
        """
        while not self._queue.empty():
            interrupt |= self._queue.get_nowait() is _Mark.INTERRUPT  # the avatar has not been told yet
        if interrupt:
            self._queue.put_nowait(_Mark.INTERRUPT)

    async def run(self, link: SpeechLink) -> None:
        """Send what is queued through a fresh `link` until cancelled.

        Raises:
            SpeechLinkError: The link broke.
        """
        self._sent = 0
        while True:
            item = await self._queue.get()
            if item is _Mark.END:
                await link.end_utterance()
            elif item is _Mark.INTERRUPT:
                await link.interrupt()
                self._curtain.confirm()
                await asyncio.sleep(_GAP_S)
            elif isinstance(item, tuple):
                utterance, pcm = item
                if not utterance.number:
                    # Numbered ahead of the link's answer: the report of its start can overtake that.
                    self._sent += 1
                    utterance.number = self._sent
                    self.gate.expect(utterance)
                await link.send(pcm)
