"""How far the avatar has spoken: one interface, whatever tells it."""

import asyncio
from typing import Protocol

from agenthuman_plugins.speech.progress._utterance import Utterance
from agenthuman_plugins.speech.progress._voice import Heard


class Playback(Protocol):
    """Follows the utterances that were sent to one avatar until each of them is over.

    `VoiceGate` goes by the voice that comes back, `PlaybackClock` by the link's reports and the time.

    Attributes:
        busy: Set while something is in flight.
    """

    busy: asyncio.Event

    @property
    def audible(self) -> Utterance | None:
        """The utterance that is being heard, if there is one."""

    @property
    def awaited(self) -> Utterance | None:
        """The utterance of which something should be heard now; `None` while nothing is due."""

    @property
    def searching(self) -> bool:
        """Whether sound is kept until it is known to be the new utterance's, as after an interruption."""

    @property
    def said_s(self) -> float:
        """How far the avatar has really said the utterance that is being heard, in seconds."""

    def expect(self, utterance: Utterance) -> None:
        """Note that an utterance is being sent."""

    def started(self, number: int) -> None:
        """Note the avatar's report that an utterance starts."""

    def ended(self, number: int) -> None:
        """Note the report that an utterance is over."""

    def sent_s(self, number: int) -> float:
        """Seconds of an utterance in flight that have left for the avatar; 0 if it is over."""

    def interrupt(self) -> bool:
        """Forget all utterances; `False` if there was none."""

    def hear(self, pcm: bytes, sample_rate: int, concealed_s: float | None = None) -> list[Heard]:
        """What a block of the avatar's voice (16-bit, mono) means for the utterances, in order."""

    def tick(self) -> list[Heard]:
        """What the time since the last call means for the utterances, in order."""
