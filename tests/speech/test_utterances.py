import math
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agenthuman_plugins.speech._utterances import BYTES_PER_SECOND, CLEAR_TIMEOUT_S, Utterances
from agenthuman_plugins.speech.link import PlaybackFinished, PlaybackStarted


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def utterances(clock):
    return Utterances(clock)


def say(utterances: Utterances, seconds: float, *, end: bool = True) -> int:
    number = utterances.open()
    utterances.push(number, round(seconds * BYTES_PER_SECOND))
    if end:
        utterances.end()
    return number


def test_utterances_are_numbered_from_one(utterances):
    """Speech belongs to the open utterance; after its end a new number is used."""
    assert [say(utterances, 1, end=False), say(utterances, 1), say(utterances, 1)] == [1, 1, 2]


def test_reports_are_matched_in_order(utterances, clock):
    """The first report is the first utterance's: reports carry no number."""
    say(utterances, 1)
    say(utterances, 2)
    assert utterances.started() == [PlaybackStarted(1)]
    clock.now += 1
    assert utterances.finished(1.0, interrupted=False) == [PlaybackFinished(1, 1.0, interrupted=False)]
    assert utterances.started() == [PlaybackStarted(2)]
    clock.now += 2
    assert utterances.finished(2.0, interrupted=False) == [PlaybackFinished(2, 2.0, interrupted=False)]
    assert not utterances.in_flight


def test_gap_in_the_speech_makes_its_end_later(utterances, clock):
    """An avatar that waited for the rest is not taken to have played it the moment it came."""
    say(utterances, 1, end=False)
    utterances.started()
    clock.now += 5
    say(utterances, 1)
    assert utterances.expire() == []
    assert utterances.finished(None, interrupted=False) == []  # nobody plays a second in no time
    assert utterances.deadline == pytest.approx(clock.now + 3)  # the speech, and what a report may be late


def test_second_start_report_is_ignored(utterances):
    """An utterance starts once."""
    say(utterances, 1)
    utterances.started()
    assert utterances.started() == []


def test_second_start_report_ends_nothing(utterances, clock):
    """Only what is behind an utterance can begin in its place, even if that may be over by now."""
    say(utterances, 1)
    utterances.started()
    clock.now += 1
    assert utterances.started() == []
    assert utterances.in_flight


def test_surplus_report_is_ignored(utterances):
    """A report with nothing in flight says nothing."""
    assert utterances.finished(1.0, interrupted=False) == []
    assert utterances.started() == []


@pytest.mark.parametrize("interrupted", [False, True])
def test_doubled_report_does_not_end_the_next_utterance(utterances, clock, interrupted):
    """A second report of the first utterance cannot be the second's, which has just begun."""
    say(utterances, 2)
    clock.now += 1
    say(utterances, 2)
    clock.now += 1
    utterances.finished(2.0, interrupted=False)
    clock.now += 0.1
    assert utterances.finished(2.0, interrupted=interrupted) == []
    assert utterances.in_flight


def test_report_before_the_end_was_sent_is_ignored(utterances, clock):
    """An avatar cannot have finished an utterance whose end it has not been told."""
    say(utterances, 1, end=False)
    clock.now += 5
    assert utterances.finished(1.0, interrupted=False) == []


def test_early_report_is_ignored_and_the_clock_decides(utterances, clock):
    """Some avatars report the end when they have received everything; speech takes as long as it takes."""
    say(utterances, 5)
    clock.now += 0.5
    assert utterances.finished(5.0, interrupted=False) == []
    clock.now = utterances.deadline
    assert utterances.expire() == [PlaybackFinished(1, 5.0, interrupted=False, estimated=True)]


@pytest.mark.parametrize("reported", [None, math.nan, -1.0, 99.0])
def test_position_stays_within_what_was_sent(utterances, clock, reported):
    """A position is never negative, not a number, or beyond the speech that was sent."""
    say(utterances, 1)
    clock.now += 1.5
    (event,) = utterances.finished(reported, interrupted=False)
    assert 0.0 <= event.position_s <= 1.0


def test_position_stays_within_the_time_that_has_passed(utterances, clock):
    """Avatars count what they queue; more than the time since the first sample was not heard."""
    say(utterances, 5)
    clock.now += 0.5
    utterances.cut()
    assert utterances.finished(3.0, interrupted=True) == [PlaybackFinished(1, 0.5, interrupted=True)]


def test_silent_avatar_is_over_after_speech_and_margin(utterances, clock):
    """Without any report an utterance ends by our own clock, and says that it is an estimate."""
    say(utterances, 3)
    assert utterances.deadline == clock.now + 3 + 2
    clock.now += 4.9
    assert utterances.expire() == []
    clock.now += 0.1
    assert utterances.expire() == [PlaybackFinished(1, 3.0, interrupted=False, estimated=True)]


def test_margin_counts_from_the_reported_start(utterances, clock):
    """An avatar that needs long to render has its whole speech time from the start that it reports."""
    say(utterances, 3)
    clock.now += 1.5
    utterances.started()
    assert utterances.deadline == clock.now + 3 + 2


def test_open_utterance_has_no_deadline(utterances):
    """While speech is still being made nothing can be over."""
    say(utterances, 1, end=False)
    assert utterances.deadline is None


def test_utterance_without_a_sample_is_over_at_its_end(utterances, clock):
    """Nobody reports what cannot be heard."""
    say(utterances, 0)
    assert utterances.deadline == clock.now
    assert utterances.expire() == [PlaybackFinished(1, 0.0, interrupted=False, estimated=True)]


def test_interruption_is_reported_by_the_avatar(utterances, clock):
    """The avatar's own position counts."""
    say(utterances, 5)
    utterances.started()
    clock.now += 1
    assert utterances.cut()
    assert utterances.clearing
    clock.now += 0.04
    assert utterances.finished(0.96, interrupted=True) == [PlaybackFinished(1, 0.96, interrupted=True)]


def test_interruption_without_report_ends_by_the_clock(utterances, clock):
    """Two seconds after a clear that nobody reports, the position is what can have been heard until the clear."""
    say(utterances, 5)
    utterances.started()
    clock.now += 1
    utterances.cut()
    assert utterances.deadline == clock.now + CLEAR_TIMEOUT_S
    clock.now = utterances.deadline
    assert utterances.expire() == [PlaybackFinished(1, 1.0, interrupted=True, estimated=True)]


def test_interruption_ends_everything_in_line(utterances, clock):
    """Only the utterance that played is reported; what waited behind it was not heard."""
    say(utterances, 5)
    say(utterances, 5)
    say(utterances, 5, end=False)
    clock.now += 1
    utterances.cut()
    assert utterances.finished(1.0, interrupted=True) == [
        PlaybackFinished(1, 1.0, interrupted=True),
        PlaybackFinished(2, 0.0, interrupted=True),
        PlaybackFinished(3, 0.0, interrupted=True),
    ]


def test_clear_may_be_answered_as_not_interrupted(utterances, clock):
    """Stock workers sometimes say so in a race; the clear has ended the utterance all the same."""
    say(utterances, 2)
    clock.now += 0.05
    utterances.cut()
    assert utterances.finished(0.04, interrupted=False) == [PlaybackFinished(1, 0.04, interrupted=True)]


def test_end_that_crosses_the_clear_counts_as_an_end(utterances, clock):
    """An utterance that was played whole was not interrupted, and the next one is still to be reported."""
    say(utterances, 1)
    say(utterances, 1)
    clock.now += 1
    utterances.cut()
    assert utterances.finished(1.0, interrupted=False) == [PlaybackFinished(1, 1.0, interrupted=False)]
    assert utterances.clearing


def test_end_that_crosses_the_clear_is_of_the_first(utterances, clock):
    """The position of a report is that of the utterance which plays, however much speech waits behind it."""
    say(utterances, 1)
    say(utterances, 3)
    utterances.started()
    clock.now += 1
    utterances.cut()
    assert utterances.finished(1.0, interrupted=False) == [PlaybackFinished(1, 1.0, interrupted=False)]
    assert utterances.clearing


def test_late_report_of_an_interruption_does_not_end_the_next_utterance(utterances, clock):
    """After the time-out of a clear its report is of no use any more."""
    say(utterances, 5)
    utterances.cut()
    clock.now += CLEAR_TIMEOUT_S
    utterances.expire()
    say(utterances, 1)
    clock.now += 3
    assert utterances.finished(0.0, interrupted=True) == []


def test_speech_after_a_cut_is_a_new_utterance(utterances, clock):
    """What is sent while a clear is on its way is not touched by it."""
    say(utterances, 1, end=False)
    utterances.cut()
    assert say(utterances, 1) == 2
    clock.now += 0.1
    assert utterances.finished(0.1, interrupted=True) == [PlaybackFinished(1, 0.1, interrupted=True)]
    assert not utterances.clearing
    assert utterances.in_flight


def test_second_cut_cuts_only_what_is_new(utterances, clock):
    """Each clear is answered for what it has cut."""
    say(utterances, 1)
    utterances.cut()
    assert not utterances.cut()
    say(utterances, 1)
    clock.now += 0.1
    assert utterances.cut()
    assert [event.utterance for event in utterances.finished(0.0, interrupted=True)] == [1]
    assert utterances.clearing


def test_nothing_to_cut(utterances):
    """With nothing in flight there is nothing to clear."""
    assert not utterances.cut()


@pytest.mark.parametrize("reports_starts", [True, False])
@pytest.mark.parametrize("heard", [True, False])
def test_cut_utterances_are_over_soon_after_a_confirmed_clear(utterances, clock, reports_starts, heard):
    """An avatar that has answered has stopped: the next reply waits for a report on its way, and no longer."""
    say(utterances, 1)
    if reports_starts:
        utterances.started()
        clock.now += 1
        utterances.finished(1.0, interrupted=False)
    say(utterances, 1)
    if heard and reports_starts:
        utterances.started()
    say(utterances, 1)
    utterances.cut()
    utterances.clear_confirmed()
    assert utterances.deadline <= clock.now + 0.25
    clock.now += 0.25
    assert {event.interrupted for event in utterances.expire()} == {True}
    assert not utterances.in_flight


def test_confirmed_clear_leaves_time_for_its_report(utterances, clock):
    """The avatar's own position counts if it comes with the answer."""
    say(utterances, 5)
    clock.now += 2
    utterances.cut()
    utterances.clear_confirmed()
    clock.now += 0.1
    assert utterances.expire() == []
    assert utterances.finished(1.7, interrupted=True) == [PlaybackFinished(1, 1.7, interrupted=True)]


def test_confirmed_clear_ends_only_what_it_cut(utterances, clock):
    """What was sent while the clear was on its way, and cut by the next one, waits for the next answer."""
    say(utterances, 5)
    utterances.cut()
    clock.now += 0.1
    say(utterances, 5)
    utterances.cut()
    utterances.clear_confirmed()
    clock.now += 0.25
    assert [event.utterance for event in utterances.expire()] == [1]
    assert utterances.deadline == clock.now - 0.25 + CLEAR_TIMEOUT_S


def test_failed_clear_ends_what_was_cut(utterances, clock):
    """Without a clear there is no report to wait for."""
    say(utterances, 5)
    clock.now += 1
    utterances.cut()
    assert utterances.clear_failed() == [PlaybackFinished(1, 1.0, interrupted=True, estimated=True)]


def test_start_of_the_next_utterance_ends_the_one_before(utterances, clock):
    """An avatar plays one utterance at a time: a lost report does not shift all later ones."""
    say(utterances, 1)
    say(utterances, 1)
    utterances.started()
    clock.now += 1.1
    assert utterances.started() == [
        PlaybackFinished(1, 1.0, interrupted=False, estimated=True),
        PlaybackStarted(2),
    ]


def test_start_after_a_clear_ends_what_was_cut(utterances, clock):
    """Reports travel on their own and may overtake each other."""
    say(utterances, 5)
    utterances.started()
    clock.now += 1
    utterances.cut()
    say(utterances, 1)
    assert utterances.started() == [
        PlaybackFinished(1, 1.0, interrupted=True, estimated=True),
        PlaybackStarted(2),
    ]


def test_silent_avatar_plays_one_after_the_other(utterances, clock):
    """The second utterance begins where the first ended, not where we gave up waiting for the first."""
    say(utterances, 2)
    say(utterances, 3)
    start = clock.now
    clock.now = utterances.deadline
    utterances.expire()
    assert utterances.deadline == start + 2 + 3 + 2


def test_abandoned_utterances_end_with_what_was_heard(utterances, clock):
    """When the avatar is gone, everything is over at once, at the position of our own clock."""
    say(utterances, 1)
    say(utterances, 3)
    say(utterances, 3, end=False)
    clock.now += 1.5
    assert utterances.abandon() == [
        PlaybackFinished(1, 1.0, interrupted=False, estimated=True),
        PlaybackFinished(2, 0.5, interrupted=False, estimated=True),
        PlaybackFinished(3, 0.0, interrupted=False, estimated=True),
    ]


class AnyOrder(RuleBasedStateMachine):
    """Whatever is sent, cut and reported, in whatever order, the books balance."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.utterances = Utterances(self.clock)
        self.pushed: dict[int, float] = {}
        self.finished: list[PlaybackFinished] = []

    def take(self, events) -> None:
        for event in events:
            if isinstance(event, PlaybackFinished):
                self.finished.append(event)
            else:
                assert event.utterance > len(self.finished), "started after its end"

    @rule(seconds=st.floats(0, 3))
    def send(self, seconds: float) -> None:
        number = self.utterances.open()
        self.utterances.push(number, round(seconds * BYTES_PER_SECOND))
        self.pushed[number] = (
            self.pushed.get(number, 0) + round(seconds * BYTES_PER_SECOND) / BYTES_PER_SECOND
        )

    @rule()
    def end(self) -> None:
        self.utterances.end()

    @rule()
    def cut(self) -> None:
        self.utterances.cut()

    @rule()
    def clear_confirmed(self) -> None:
        self.utterances.clear_confirmed()

    @rule()
    def clear_failed(self) -> None:
        self.take(self.utterances.clear_failed())

    @rule(seconds=st.floats(0, 4))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.take(self.utterances.expire())

    @rule()
    def report_start(self) -> None:
        self.take(self.utterances.started())

    @rule(position=st.none() | st.floats(), interrupted=st.booleans())
    def report_end(self, position: float | None, interrupted: bool) -> None:
        before = len(self.finished)
        clearing = self.utterances.clearing
        self.take(self.utterances.finished(position, interrupted=interrupted))
        if not clearing:
            assert len(self.finished) - before <= 1, "one report ended two utterances"

    @precondition(lambda self: self.utterances.in_flight)
    @rule()
    def abandon(self) -> None:
        self.take(self.utterances.abandon())

    @invariant()
    def finished_once_each_and_in_order(self) -> None:
        assert [event.utterance for event in self.finished] == list(range(1, len(self.finished) + 1))

    @invariant()
    def positions_are_possible(self) -> None:
        for event in self.finished:
            assert 0.0 <= event.position_s <= self.pushed[event.utterance] + 1e-6

    def teardown(self) -> None:
        """The clock alone ends whatever is left."""
        self.utterances.cut()
        self.clock.now += CLEAR_TIMEOUT_S
        self.take(self.utterances.expire())
        assert not self.utterances.in_flight
        assert len(self.finished) == len(self.pushed)
        assert all(a.utterance < b.utterance for a, b in pairwise(self.finished))


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.__doc__ = (
    "Any interleaving gives exactly one end per utterance, in order, at a possible position."
)
