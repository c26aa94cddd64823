"""How far the avatar has spoken, and what is due when: for every adapter that speaks through an avatar.

- `Utterance`: one stretch of speech, and what tells it from other sound.
- `Playback`: how far it was played; one interface for the two that follow.
- `VoiceGate`: how far it was played, by the voice that comes back.
- `PlaybackClock`: the same, by the link's reports and the time, where no voice comes back.
- `Timeline`: what must wait for speech before it (text, stop frames), and the speech that was not played.

Pure but for a clock: no network, no framework. It needs NumPy, which `livekit` brings.
"""

from agenthuman_plugins.speech.progress._clock import PlaybackClock
from agenthuman_plugins.speech.progress._onset import Onset, voiced_span
from agenthuman_plugins.speech.progress._playback import Playback
from agenthuman_plugins.speech.progress._timeline import END_S, Timeline, Waiting
from agenthuman_plugins.speech.progress._utterance import Utterance
from agenthuman_plugins.speech.progress._voice import Heard, VoiceGate

__all__ = [
    "END_S",
    "Heard",
    "Onset",
    "Playback",
    "PlaybackClock",
    "Timeline",
    "Utterance",
    "VoiceGate",
    "Waiting",
    "voiced_span",
]
