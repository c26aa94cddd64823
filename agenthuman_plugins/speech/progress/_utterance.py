"""One stretch of speech, and what must be known of it to recognise how far it was played."""

import math
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np

from agenthuman_plugins.speech.progress._onset import VOICE_PEAK, Onset
from agenthuman_plugins.speech.progress._spoken import Spoken

_LOUD_PEAK = 400  # -38 dBFS: no codec and no resampler turns this into what counts as silence
_WINDOW_S = 0.02


@dataclass(eq=False, slots=True)
class Utterance:
    """One stretch of speech, from a TTS start to its stop.

    Attributes:
        context_id: The adapter's own id of what it belongs to, such as Pipecat's of the TTS context.
        destination: The adapter's own name for where its voice is to be heard, such as one of a transport's tracks.
        came_at: Wall-clock time at which its first speech came.
        number: The link's number for it; 0 until its first sample is sent.
        duration_s: Seconds of speech so far.
        position_s: How far it was played.
        sent_at: Event loop's time at which its first sample left.
        sent_s: Seconds of it that have left for the avatar; infinite when all of it has, or nobody counts.
        complete: Whether no more speech will come.
        settled_s: Up to where it is known which text says it, if text comes first.
        text_leads: Whether each text without a time came ahead of its speech, not behind it.
        lead_s: Seconds of silence that it begins with; `None` until a voiced sample came.
        voiced_end_s: Where its last voiced sample so far ends.
        longest_pause_s: Its longest silence between two voiced samples.
        begun_ns: Pipeline time that its word times count from; `None` until speech or a timed word came.
        plain_ns: Pipeline time at which its beginning would be heard as plain audio, if it was handed back.
        onset: How its voice begins.
        spoken: What it sounds like where it is being said.
    """

    context_id: str | None = None
    destination: str | None = None
    came_at: float = 0.0
    number: int = 0
    duration_s: float = 0.0
    position_s: float = 0.0
    sent_at: float = 0.0
    sent_s: float = math.inf
    complete: bool = False
    settled_s: float = 0.0
    text_leads: bool = False
    lead_s: float | None = None
    voiced_end_s: float = 0.0
    longest_pause_s: float = 0.0
    begun_ns: int | None = None
    plain_ns: int | None = None
    onset: Onset = field(default_factory=Onset)
    spoken: Spoken = field(default_factory=Spoken)
    _loud_s: list[float] = field(default_factory=list)  # where its loud windows begin

    def measure(self, pcm: bytes, sample_rate: int, num_channels: int = 1) -> None:
        """Look at the next piece of the speech (16-bit, interleaved) before `duration_s` grows by it."""
        # int32: the absolute value of the lowest 16-bit sample does not fit into 16 bits.
        samples = np.abs(np.frombuffer(pcm, np.int16).astype(np.int32))
        level = samples.reshape(-1, num_channels).max(axis=1)
        voiced = np.flatnonzero(level > VOICE_PEAK)
        if not voiced.size:
            return
        begin_s = self.duration_s + float(voiced[0]) / sample_rate
        if self.lead_s is None:
            self.lead_s = begin_s
        else:
            self.longest_pause_s = max(self.longest_pause_s, begin_s - self.voiced_end_s)
        inner = int(np.diff(voiced).max(initial=0)) / sample_rate
        self.longest_pause_s = max(self.longest_pause_s, inner)
        self.voiced_end_s = self.duration_s + float(voiced[-1] + 1) / sample_rate
        windows = np.unique(np.flatnonzero(level > _LOUD_PEAK) // round(_WINDOW_S * sample_rate))
        self._loud_s += [self.duration_s + float(window) * _WINDOW_S for window in windows]

    def remember(self, pcm: bytes) -> None:
        """Keep the next piece of what is sent (16 kHz, mono, 16-bit), to know it again."""
        self.onset.add(pcm)
        self.spoken.add(pcm, self.position_s)

    def through_silence(self, position_s: float, passed_s: float) -> float:
        """Position after `passed_s` of silence: it goes on through a pause, but not past what must be heard."""
        index = bisect_left(self._loud_s, position_s)
        limit = self._loud_s[index] if index < len(self._loud_s) else self.duration_s
        return min(position_s + passed_s, max(limit, position_s), self.duration_s)
