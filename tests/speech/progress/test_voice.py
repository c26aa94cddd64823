"""Which part of the avatar's endless sound is the reply."""

import numpy as np
import pytest

from agenthuman_plugins.speech.progress import Heard, Utterance, VoiceGate, voiced_span

RATE = 16_000
SILENCE = np.zeros(RATE // 50, np.int16).tobytes()  # 20 ms
VOICE = np.full(RATE // 50, 1000, np.int16).tobytes()


def _utterance(duration_s: float = 1.0, lead_s: float = 0.0, number: int = 1) -> Utterance:
    return Utterance(number=number, duration_s=duration_s, lead_s=lead_s, voiced_end_s=duration_s)


def _hear(gate: VoiceGate, *blocks: bytes) -> list[Heard | None]:
    """What each block means; `None` for one that means nothing, the last of several."""
    return [heard[-1] if (heard := gate.hear(block, RATE)) else None for block in blocks]


def test_voiced_span_is_exact_to_the_sample() -> None:
    """Onset and end are found, and the lowest sample counts as loud."""
    pcm = np.zeros(100, np.int16)
    pcm[37] = -32768
    pcm[61] = 41
    assert voiced_span(pcm.tobytes()) == (37, 62)
    assert voiced_span(SILENCE) is None
    assert voiced_span(b"") is None


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


def test_sound_that_the_receiver_made_up_was_not_said() -> None:
    """What came in place of packets that stopped does not count, audible or not; what came before does."""
    gate = VoiceGate()
    gate.expect(_utterance())
    _hear(gate, *[VOICE] * 10)
    assert round(gate.said_s, 6) == 0.2
    _hear(gate, *[VOICE] * 5)  # made up, and not measured yet
    gate.hear(SILENCE, RATE, concealed_s=0.12)
    gate.hear(SILENCE, RATE)
    assert round(gate.said_s, 6) == 0.2
    gate.hear(VOICE, RATE, concealed_s=0.0)  # packets come again
    assert gate.said_s > 0.3


def _said(*hz: float) -> tuple[VoiceGate, list[bytes]]:
    """A gate that expects these tones, each of 0.2 s, and their blocks."""
    blocks = [block for pitch in hz for block in _tone(pitch)]
    utterance = _utterance(duration_s=len(blocks) * 0.02)
    for block in blocks:
        utterance.remember(block)
    gate = VoiceGate()
    gate.expect(utterance)
    return gate, blocks


def test_sound_that_was_made_up_before_was_not_said() -> None:
    """Once packets come again, what was heard last tells how far the avatar is: not the time, which is ahead of it."""
    gate, blocks = _said(300, 450, 600, 750, 900, 1050)
    *_, heard = _hear(gate, *blocks[:30], *blocks[29:30] * 8, *blocks[30:43])
    assert heard is not None
    assert heard.position_s == pytest.approx(0.86 + 8 * 0.02, abs=0.001)
    assert gate.said_s == pytest.approx(0.86, abs=0.001)


def test_reply_does_not_end_before_its_last_word_after_a_stall() -> None:
    """When packets come again, the position is corrected: a short silence before the last word is not the end."""
    gate, blocks = _said(300, 450, 600, 750, 900)
    utterance = gate._in_flight[0].utterance
    utterance.complete, utterance.voiced_end_s = True, utterance.duration_s
    gate.started(1)
    _hear(gate, *blocks[:20], *blocks[19:20] * 9)
    gate.hear(blocks[19], RATE, concealed_s=0.2)
    _hear(gate, *blocks[20:29])
    gate.hear(blocks[29], RATE, concealed_s=0.0)
    gate.ended(1)
    heard = _hear(gate, *blocks[30:40], SILENCE, SILENCE, *blocks[40:], *[SILENCE] * 3)
    assert [h.finished for h in heard if h] == [False] * 22 + [True]


def test_reply_that_was_followed_too_late_is_known_by_its_sound() -> None:
    """Where its beginning was lost, it is further than the time tells."""
    gate, blocks = _said(300, 450, 600, 750, 900, 1050)
    _hear(gate, *blocks[20:45])
    assert gate.said_s == pytest.approx(0.9, abs=0.001)


def test_sound_that_is_alike_in_many_places_is_in_the_nearest() -> None:
    """A vowel that goes on, or a word that is said again, moves no position to another one."""
    gate, blocks = _said(300, 450, 300, 450, 300)
    _hear(gate, *blocks[:26])
    assert gate.said_s == pytest.approx(0.52, abs=0.005)


def test_voice_that_is_not_the_one_sent_is_followed_by_time() -> None:
    """An avatar that changes the voice, and a piece that is silent, leave the position where it was counted."""
    gate, _ = _said(300, 450, 600)
    _hear(gate, *_tone(500, 13))
    assert gate.said_s == pytest.approx(0.26, abs=0.001)
    _hear(gate, SILENCE)
    assert gate.said_s == pytest.approx(0.28, abs=0.001)


def test_speech_that_is_long_said_is_forgotten() -> None:
    """An endless reply fills no memory, and is known again all the same."""
    gate, blocks = _said(300)
    _hear(gate, *blocks)
    utterance = gate._in_flight[0].utterance
    for number in range(1, 300):
        utterance.duration_s += 0.2
        utterance.position_s = number * 0.2
        for block in _tone(300 + 20 * (number % 60)):
            utterance.remember(block)
            gate.hear(block, RATE)
    assert len(utterance.spoken._pcm) < 2 * 2 * RATE
    assert gate.said_s == pytest.approx(60, abs=0.01)


def test_position_never_exceeds_what_was_sent() -> None:
    """An avatar that pauses for lack of speech does not play what it does not have."""
    gate = VoiceGate()
    gate.expect(_utterance(duration_s=0.03))
    assert [h.position_s for h in _hear(gate, VOICE, VOICE) if h] == [0.02, 0.03]


def test_position_stands_still_while_the_avatar_waits_for_speech() -> None:
    """A pause in which the avatar had nothing to say does not count as speech that comes after it."""
    gate = VoiceGate()
    utterance = _utterance(duration_s=0.04)
    gate.expect(utterance)
    assert [h.starved_s > 0 for h in _hear(gate, VOICE, *[VOICE, SILENCE] * 10) if h] == [False] + [True] * 20
    utterance.duration_s = 0.1
    (heard,) = gate.hear(VOICE, RATE)
    assert (round(heard.position_s, 6), heard.starved_s) == (0.06, 0)


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


def test_reply_is_never_shorter_than_it_is() -> None:
    """A report of the end that comes far too early cuts nothing off."""
    gate = VoiceGate()
    gate.expect(_utterance(duration_s=0.2))
    gate.started(1)
    _hear(gate, VOICE)
    gate.ended(1)
    assert [h.finished for h in _hear(gate, *[VOICE, SILENCE] * 6) if h] == [False] * 9 + [True]


def test_voice_that_is_late_is_waited_for() -> None:
    """A reply that should be heard does not end before its sound has come."""
    gate = VoiceGate()
    gate.expect(_utterance(duration_s=0.04))
    gate.started(1)
    gate.ended(1)
    heard = _hear(gate, *[SILENCE] * 20, VOICE, VOICE, SILENCE)
    assert [h.finished for h in heard if h] == [False, False, True]


def test_loud_end_that_is_late_is_not_cut() -> None:
    """When the sound falls behind its measured delay, the reply ends with the silence after it."""
    gate = VoiceGate()
    gate.expect(_utterance(duration_s=0.02))
    gate.started(1)
    _hear(gate, VOICE)
    gate.ended(1)
    heard = _hear(gate, *[VOICE] * 4, SILENCE)
    assert [h.finished for h in heard if h] == [False] * 4 + [True]


def test_tail_of_an_interrupted_reply_does_not_open_the_next() -> None:
    """Sound that was under way when the user interrupted is not the next reply's, even after a pause in it."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, SILENCE, SILENCE, SILENCE, VOICE)
    assert gate.interrupt()
    assert _hear(gate, VOICE, SILENCE, SILENCE, VOICE, SILENCE, SILENCE) == [None] * 6
    gate.expect(_utterance(number=2))
    gate.started(2)
    _hear(gate, SILENCE, SILENCE)
    (heard,) = gate.hear(VOICE, RATE)
    assert (heard.utterance.number, heard.first) == (2, True)


def test_gap_of_the_network_does_not_separate() -> None:
    """Old sound behind a gap is dropped, although the new utterance is reported: its sound takes longer."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, *[SILENCE] * 10, VOICE)  # the sound arrives 200 ms after its report
    gate.interrupt()
    gate.expect(_utterance(number=2))
    _hear(gate, VOICE, SILENCE, SILENCE)
    gate.started(2)
    assert _hear(gate, VOICE, VOICE, *[SILENCE] * 8) == [None] * 10
    heard = gate.hear(VOICE, RATE)
    assert [(h.utterance.number, h.first) for h in heard] == [(2, True)]


def test_reply_whose_sound_comes_sooner_than_the_last_one_is_heard() -> None:
    """A delay that was long once does not make the next reply's sound an old one's."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, *[SILENCE] * 12, VOICE)  # the sound arrives 240 ms after its report
    gate.interrupt()
    gate.expect(_utterance(number=2))
    _hear(gate, VOICE, SILENCE, SILENCE)
    gate.started(2)
    heard = _hear(gate, *[SILENCE] * 4, VOICE)
    assert [h and h.first for h in heard] == [None] * 4 + [True]


def _tone(hz: float, blocks: int = 10) -> list[bytes]:
    wave = 6000 * np.sin(2 * np.pi * hz * np.arange(blocks * RATE // 50) / RATE)
    return [block.astype(np.int16).tobytes() for block in np.split(wave, blocks)]


def _interrupted_with_next(hz: float) -> VoiceGate:
    """An interruption, and a next reply of which the beginning is known."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, *_tone(300))
    gate.interrupt()
    following = _utterance(number=2)
    following.onset.add(b"".join(_tone(hz)))
    gate.expect(following)
    return gate


def test_next_reply_is_found_by_its_sound() -> None:
    """Neither a gap nor the time lets old sound through, and the new passes from its first block at any time."""
    gate = _interrupted_with_next(700)
    gate.started(2)
    assert _hear(gate, *[SILENCE] * 20, *_tone(300), *[SILENCE] * 3) == [None] * 33
    heard = [h for block in _tone(700) for h in gate.hear(block, RATE)]
    assert len(heard) == 10
    assert heard[0].first


def test_next_reply_is_found_right_behind_old_sound() -> None:
    """A jitter buffer that swallows the silence between the two does not hide the new one."""
    gate = _interrupted_with_next(700)
    heard = [h for block in _tone(300) + _tone(700) for h in gate.hear(block, RATE)]
    assert [h.pcm for h in heard] == _tone(700)


def test_avatar_that_changes_the_voice_is_heard() -> None:
    """A reply that does not sound as it was sent is late once, and after that is told by time."""
    gate = _interrupted_with_next(700)
    gate.started(2)
    heard = [h for block in [*[SILENCE] * 10, *_tone(500, 45)] for h in gate.hear(block, RATE)]
    assert len(heard) == 45
    gate.interrupt()
    following = _utterance(number=3)
    following.onset.add(b"".join(_tone(700)))
    gate.expect(following)
    assert [h is None for h in _hear(gate, *[SILENCE] * 10, *_tone(500, 3))] == [True] * 10 + [False] * 3


def test_noise_after_an_interruption_is_neither_kept_nor_heard() -> None:
    """An avatar that is never silent fills no memory, and lets nothing old into the next reply."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, *_tone(300))
    gate.interrupt()
    _hear(gate, *_tone(500, 1000))
    assert len(gate._stretch) < 20
    following = _utterance(number=2)
    following.onset.add(b"".join(_tone(700)))
    gate.expect(following)
    gate.started(2)
    heard = [h for block in _tone(500, 60) for h in gate.hear(block, RATE)]
    assert len(heard) == 60  # what came before it was sent is none of its


def test_report_that_comes_after_the_sound_costs_nothing() -> None:
    """New sound waits for the report that it is new, and then passes whole."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, VOICE)
    gate.interrupt()
    gate.expect(_utterance(number=2))
    assert _hear(gate, SILENCE, SILENCE, VOICE, VOICE) == [None] * 4
    gate.started(2)
    heard = gate.hear(VOICE, RATE)
    assert [(h.utterance.number, h.pcm, h.first) for h in heard] == [
        (2, VOICE, True),
        (2, VOICE, False),
        (2, VOICE, False),
    ]


def test_report_that_comes_long_after_the_sound_costs_nothing() -> None:
    """A busy machine that reports the start when half of the reply was heard loses none of it."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, *[SILENCE] * 5, VOICE)  # the sound arrives 100 ms after its report
    gate.interrupt()
    gate.expect(_utterance(number=2))
    heard = _hear(gate, *[SILENCE] * 8, VOICE, VOICE, VOICE)
    gate.started(2)
    assert [h and h.first for h in heard] == [None] * 8 + [True, False, False]


@pytest.mark.parametrize("silence", [[SILENCE, SILENCE], []], ids=["after a silence", "never silent"])
def test_sound_that_goes_on_for_too_long_to_be_old_is_heard(silence: list[bytes]) -> None:
    """A reply whose beginning nothing tells, not even a silence, passes whole once it cannot be old."""
    gate = VoiceGate()
    gate.expect(_utterance())
    gate.started(1)
    _hear(gate, *[SILENCE] * 5, VOICE)
    gate.interrupt()
    gate.expect(_utterance(number=2))
    gate.started(2)
    following = [*silence, *[VOICE] * (49 - len(silence))]
    assert _hear(gate, *following) == [None] * 49
    assert len(gate.hear(VOICE, RATE)) == 50 - len(silence)


def test_silence_alone_separates_if_starts_are_not_reported() -> None:
    """An avatar that never reports a start is believed after the silence that follows an interruption."""
    gate = VoiceGate()
    gate.expect(_utterance())
    _hear(gate, VOICE)
    gate.interrupt()
    gate.expect(_utterance(number=2))
    assert _hear(gate, VOICE, SILENCE, SILENCE) == [None, None, None]
    assert gate.hear(VOICE, RATE)


def test_interruption_without_speech_changes_nothing() -> None:
    """With nothing in flight there is no old sound to wait out."""
    gate = VoiceGate()
    assert not gate.interrupt()
    gate.expect(_utterance())
    assert gate.hear(VOICE, RATE)


def test_silent_reply_ends_without_being_heard() -> None:
    """A reply that holds no voice passes nothing, and still ends."""
    gate = VoiceGate()
    gate.expect(Utterance(number=1, duration_s=0.1))
    gate.started(1)
    gate.ended(1)
    heard = [h for h in _hear(gate, *[SILENCE] * 8) if h]
    assert [(h.pcm, h.finished) for h in heard] == [(b"", True)]


def test_silent_reply_ends_after_an_interruption() -> None:
    """A reply without a voice is over, although nothing tells its sound from the old one's."""
    gate = VoiceGate()
    gate.expect(_utterance())
    _hear(gate, VOICE)
    gate.interrupt()
    gate.expect(Utterance(number=2, duration_s=0.1))
    gate.started(2)
    gate.ended(2)
    heard = [h for h in _hear(gate, *[SILENCE] * 30) if h]
    assert [(h.utterance.number, h.pcm, h.finished) for h in heard] == [(2, b"", True)]


def test_unknown_reports_are_ignored() -> None:
    """A late or doubled report of an utterance that is over changes nothing."""
    gate = VoiceGate()
    gate.started(1)
    gate.ended(1)
    utterance = _utterance()
    gate.expect(utterance)
    assert gate.awaited is utterance
    gate.interrupt()
    assert gate.awaited is None


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
    assert (before.utterance.number, before.finished, before.pcm) == (1, True, b"")
    assert (heard.utterance.number, heard.first, heard.pcm) == (2, True, VOICE)


def _complete(number: int, duration_s: float) -> Utterance:
    utterance = _utterance(number=number, duration_s=duration_s)
    utterance.complete = True
    return utterance


def test_next_reply_begins_where_the_one_before_was_all_heard() -> None:
    """Without a report and without a pause, as much sound as was sent is the first one's, and the rest the next one's."""
    gate = VoiceGate()
    for number in (1, 2):
        gate.expect(_complete(number, 0.04))
    heard = [h for block in [VOICE] * 4 for h in gate.hear(block, RATE)]
    assert [(h.utterance.number, h.pcm == VOICE) for h in heard] == [
        (1, True),
        (1, True),
        (2, True),
        (2, True),
    ]
    assert [h.finished for h in heard] == [False, True, False, False]


def test_delay_that_was_measured_wrong_cuts_nothing_off() -> None:
    """A start whose sound comes later than that of the first reply did leaves the rest of that one its own."""
    gate = VoiceGate()
    gate.expect(_complete(1, 0.1))
    gate.started(1)
    _hear(gate, VOICE, VOICE)
    gate.expect(_complete(2, 0.1))
    gate.ended(1)
    gate.started(2)
    heard = [h for block in [VOICE] * 4 for h in gate.hear(block, RATE)]
    assert [h.utterance.number for h in heard] == [1, 1, 1, 2]
