"""The order of what the bot says."""

from collections.abc import Iterator

from agenthuman_plugins.speech.progress import END_S, Timeline, Utterance, Waiting


def _frames(due: Iterator[Waiting[str]]) -> list[str]:
    return [waiting.frame for waiting in due]


def test_frame_without_speech_before_it_passes() -> None:
    """Nothing waits for speech that does not exist."""
    assert not Timeline[str]().add("text")


def test_frames_leave_when_the_speech_before_them_was_played() -> None:
    """A frame is due at the position of the speech that precedes it."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    timeline.add_speech("a1", reply, 1.0)
    assert timeline.add("after one second")
    timeline.add_speech("a2", reply, 1.0)
    assert _frames(timeline.advance(reply, 0.99)) == []
    assert _frames(timeline.advance(reply, 1.0)) == ["after one second"]


def test_what_follows_the_last_speech_waits_for_the_end() -> None:
    """More speech may follow, so a frame at the end so far leaves only when the utterance is finished."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    timeline.add_speech("a", reply, 1.0)
    timeline.add("stop")
    assert _frames(timeline.advance(reply, 1.0)) == []
    assert not timeline.empty
    assert _frames(timeline.finish(reply)) == ["stop"]
    assert timeline.empty


def test_next_reply_waits_behind_the_one_that_plays() -> None:
    """Two replies in flight leave one after the other, each with its own frames."""
    timeline: Timeline[str] = Timeline()
    first, second = Utterance(), Utterance()
    timeline.add_speech("a", first, 1.0)
    timeline.add("stop 1")
    timeline.add("start 2")
    timeline.add_speech("b", second, 1.0)
    timeline.add("stop 2")
    assert _frames(timeline.advance(second, 1.0)) == []
    assert _frames(timeline.finish(first)) == ["stop 1", "start 2"]
    assert not timeline.empty
    assert _frames(timeline.finish(second)) == ["stop 2"]


def test_drain_gives_back_what_was_not_played() -> None:
    """After a failure the unplayed speech and its frames come back in order, the played ones do not."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    for number in range(4):
        timeline.add_speech(f"a{number}", reply, 0.5)
        timeline.add(f"t{number}")
    assert _frames(timeline.advance(reply, 1.0)) == ["t0", "t1"]
    assert _frames(timeline.drain()) == ["a2", "t2", "a3", "t3"]
    assert timeline.empty


def test_frames_that_were_not_taken_stay() -> None:
    """Whoever is cancelled while handing on what is due leaves the rest to be drained."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    timeline.add_speech("a", reply, 1.0)
    timeline.add("text")
    timeline.add("stop")
    assert next(timeline.finish(reply)).frame == "text"
    assert not timeline.empty
    assert _frames(timeline.drain()) == ["stop"]


def test_rewind_gives_back_what_was_not_played_after_all() -> None:
    """Speech that only seemed to be played comes back, to its middle; texts that have left do not."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    for number in range(4):
        timeline.add_speech(f"a{number}", reply, 0.5)
        timeline.add(f"t{number}")
    assert _frames(timeline.advance(reply, 1.2)) == ["t0", "t1"]
    timeline.rewind(reply, 0.7)
    left = list(timeline.drain())
    assert [waiting.frame for waiting in left] == ["a1", "a2", "t2", "a3", "t3"]
    assert round(left[0].played_s, 6) == 0.2


def test_unplayed_speech_is_counted() -> None:
    """What is still to be played, of the piece that plays its rest."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    for number in range(3):
        timeline.add_speech(f"a{number}", reply, 1.0)
    assert timeline.unplayed_s == 3.0
    assert _frames(timeline.advance(reply, 1.25)) == []
    assert timeline.unplayed_s == 1.75


def test_only_the_last_second_is_kept_for_a_rewind() -> None:
    """An utterance may be long; what was played more than a second ago is let go."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    for number in range(40):
        timeline.add_speech(f"a{number}", reply, 0.25)
    assert _frames(timeline.advance(reply, 9.0)) == []
    assert [waiting.frame for waiting in timeline._played] == ["a32", "a33", "a34", "a35"]
    timeline.rewind(reply, 0.0)
    assert reply.position_s == 8.0
    assert list(timeline.unplayed_speech()) == [f"a{number}" for number in range(32, 40)]


def test_rewind_stays_within_the_utterance() -> None:
    """What was not played cannot be of the reply before."""
    timeline: Timeline[str] = Timeline()
    first, second = Utterance(), Utterance()
    timeline.add_speech("a", first, 0.5)
    assert _frames(timeline.advance(first, 0.5)) == []
    assert _frames(timeline.finish(first)) == []
    timeline.add_speech("b", second, 0.5)
    assert _frames(timeline.advance(second, 0.1)) == []
    timeline.rewind(second, 0.0)
    assert _frames(timeline.drain()) == ["b"]


def test_texts_ahead_of_their_speech_share_it_by_their_length() -> None:
    """Texts that came before the same speech are due one after the other; later speech does not move them."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    for text in ("ab", "cdefgh"):
        timeline.add_at(text, reply, END_S)
    timeline.settle(reply, len)  # no speech yet: nothing is known
    timeline.add_speech("a", reply, 0.8)
    timeline.settle(reply, len)
    timeline.add_at("ij", reply, END_S)
    timeline.add_speech("b", reply, 0.2)
    timeline.settle(reply, len)
    assert _frames(timeline.advance(reply, 0.19)) == []
    assert _frames(timeline.advance(reply, 0.21)) == ["ab"]
    assert _frames(timeline.advance(reply, 0.79)) == []
    assert _frames(timeline.advance(reply, 0.81)) == ["cdefgh"]
    assert _frames(timeline.finish(reply)) == ["ij"]


def test_starved_speaker_has_said_what_it_has() -> None:
    """What follows the speech so far need not wait for more; text that is ahead of its speech still does."""
    timeline: Timeline[str] = Timeline()
    reply = Utterance()
    timeline.add_speech("a", reply, 1.0)
    timeline.add("said")
    timeline.add_at("to come", reply, END_S)
    assert _frames(timeline.advance(reply, 1.0)) == []
    assert _frames(timeline.advance(reply, 1.0, starved=True)) == ["said"]
    assert _frames(timeline.finish(reply)) == ["to come"]
