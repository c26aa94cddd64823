"""Which part of the avatar's endless sound is the reply."""

import numpy as np

from agenthuman_plugins.pipecat._timeline import Utterance
from agenthuman_plugins.pipecat._voice import Heard, VoiceGate, first_voiced

RATE = 16_000
SILENCE = np.zeros(RATE // 50, np.int16).tobytes()  # 20 ms
VOICE = np.full(RATE // 50, 1000, np.int16).tobytes()


def _utterance(duration_s: float = 1.0, lead_s: float = 0.0, number: int = 1) -> Utterance:
    return Utterance(number=number, duration_s=duration_s, lead_s=lead_s)


def _hear(gate: VoiceGate, *blocks: bytes) -> list[Heard | None]:
    """What each block means; `None` for one that means nothing, the last of several."""
    return [heard[-1] if (heard := gate.hear(block, RATE)) else None for block in blocks]


def test_first_voiced_finds_the_sample() -> None:
    """The onset is exact to the sample, and a negative peak counts."""
    pcm = np.zeros(100, np.int16)
    pcm[37] = -32768
    assert first_voiced(pcm.tobytes()) == 37
    assert first_voiced(SILENCE) is None
    assert first_voiced(b"") is None


def test_silence_between_replies_does_not_pass() -> None:
    """Sound that belongs to no utterance is dropped, voiced or not."""
    assert _hear(VoiceGate(), SILENCE, VOICE, SILENCE) == [None, None, None]


def test_reply_passes_from_its_first_voiced_block_with_its_pauses() -> None:
    """Silence ahead of the voice is dropped, a pause inside the reply is kept."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    heard = _hear(gate, SILENCE, VOICE, SILENCE, VOICE)
    assert [h is not None for h in heard] == [False, True, True, True]
    assert [h.first for h in heard if h] == [True, False, False]


def test_position_counts_from_the_voice_and_includes_the_lead() -> None:
    """Speech that begins with 100 ms of silence is at 120 ms after its first 20 ms of voice."""
    gate = VoiceGate()
    gate.expect(_utterance(lead_s=0.1))
    heard = _hear(gate, SILENCE, VOICE)
    assert heard[1] is not None
    assert abs(heard[1].position_s - 0.12) < 1e-9


def test_position_never_exceeds_what_was_sent() -> None:
    """An avatar that pauses for lack of speech does not play what it does not have."""
    gate = VoiceGate()
    gate.expect(_utterance(duration_s=0.03))
    assert [h.position_s for h in _hear(gate, VOICE, VOICE) if h] == [0.02, 0.03]


def test_reply_ends_when_its_last_sound_has_arrived() -> None:
    """The report of the end runs ahead of the sound by what the report of the start did."""
    gate = VoiceGate()
    gate.expect(_utterance(duration_s=0.2))
    gate.started(1)
    _hear(gate, SILENCE, SILENCE, SILENCE)  # the sound arrives 60 ms after the report
    _hear(gate, *[VOICE] * 7)
    gate.ended(1)  # 60 ms of voice are still under way
    heard = _hear(gate, VOICE, VOICE, VOICE, SILENCE, VOICE)
    assert [h.finished for h in heard if h] == [False, False, False, True]
    assert heard[-1] is None


def test_tail_of_an_interrupted_reply_does_not_open_the_next() -> None:
    """Sound that was under way when the user interrupted is not the next reply's, whose start is reported."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, SILENCE, SILENCE, SILENCE, VOICE)  # the sound arrives 60 ms after its report
    gate.interrupt()
    gate.expect(_utterance(number=2))
    assert _hear(gate, VOICE) == [None]
    gate.started(2)
    assert _hear(gate, VOICE, SILENCE, SILENCE) == [None, None, None]
    (heard,) = gate.hear(VOICE, RATE)
    assert (heard.utterance.number, heard.first) == (2, True)


def test_reply_right_after_an_interruption_is_whole() -> None:
    """An avatar without delay and without a pause between the replies loses no sample of the second."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, VOICE)
    gate.interrupt()
    gate.expect(_utterance(number=2))
    gate.started(2)
    assert all(_hear(gate, VOICE, VOICE))


def test_stale_sound_is_waited_out_if_starts_are_not_reported() -> None:
    """Without reports the next reply passes after silence, or after at most 150 ms of sound."""
    for between, passed in (([SILENCE], [True] * 8), ([], [False] * 8)):
        gate = VoiceGate()
        gate.expect(_utterance())
        _hear(gate, VOICE)
        gate.interrupt()
        gate.expect(_utterance(number=2))
        _hear(gate, *between)
        assert [h is not None for h in _hear(gate, *[VOICE] * 8)] == passed
        assert gate.hear(VOICE, RATE)


def test_silent_reply_ends_without_being_heard() -> None:
    """A reply that holds no voice passes nothing, and still ends."""
    gate = VoiceGate()
    gate.expect(Utterance(number=1, duration_s=0.1))
    gate.started(1)
    gate.ended(1)
    heard = [h for h in _hear(gate, *[SILENCE] * 8) if h]
    assert [(h.audible, h.finished) for h in heard] == [(False, True)]


def test_unknown_reports_are_ignored() -> None:
    """A late or doubled report of an utterance that is over changes nothing."""
    gate = VoiceGate()
    assert gate.started(1) is None
    assert gate.ended(1) is None
    utterance = _utterance()
    gate.expect(utterance)
    assert gate.drop(utterance)
    assert not gate.drop(utterance)


def test_back_to_back_replies_keep_their_own_sound() -> None:
    """The first block of the next reply is not the last one of the reply before."""
    gate = VoiceGate()
    for number in (1, 2):
        gate.expect(_utterance(number=number, duration_s=0.04))
    gate.started(1)
    _hear(gate, VOICE, VOICE)
    gate.ended(1)
    gate.started(2)
    before, heard = gate.hear(VOICE, RATE)
    assert (before.utterance.number, before.finished, before.audible) == (1, True, False)
    assert (heard.utterance.number, heard.first, heard.audible) == (2, True, True)
