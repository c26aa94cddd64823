"""Playback that is computed from confirmations, on a clock that the tests move."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agenthuman_plugins.speech._own_clock import CONFIRM_TIMEOUT_S, RENDER_DELAY_S, OwnClock
from agenthuman_plugins.speech._utterances import CLEAR_TIMEOUT_S
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE, PlaybackFinished, PlaybackStarted


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time():
    return Clock()


@pytest.fixture
def clock(time):
    return OwnClock(time)


def send(clock: OwnClock, seconds: float) -> int:
    """Put one piece on its way."""
    number = clock.open()
    samples = round(seconds * SPEECH_SAMPLE_RATE)
    clock.push(samples)
    clock.sent(number, samples)
    return number


def say(clock: OwnClock, seconds: float) -> int:
    """Send a whole utterance in one piece that is confirmed at once."""
    number = send(clock, seconds)
    clock.confirmed()
    clock.end()
    return number


def finished(number: int, position_s: float, *, interrupted: bool = False) -> PlaybackFinished:
    return PlaybackFinished(number, pytest.approx(position_s, abs=1e-4), interrupted, estimated=True)


def until_deadline(clock: OwnClock, time: Clock):
    """Move the time to the deadline and take what happens there."""
    time.now = clock.deadline
    return clock.expire()


def test_utterance_is_heard_after_its_confirmation(clock, time):
    """It starts one delay after the first confirmation, and is over when all of it has had time to play."""
    say(clock, 2)
    assert clock.expire() == []
    assert until_deadline(clock, time) == [PlaybackStarted(1)]
    assert time.now == pytest.approx(1000 + RENDER_DELAY_S)
    assert until_deadline(clock, time) == [finished(1, 2)]
    assert time.now == pytest.approx(1000 + RENDER_DELAY_S + 2)
    assert (clock.in_flight, clock.deadline) == (False, None)


def test_utterances_are_played_one_after_the_other(clock, time):
    """What is confirmed at once is not played at once: the second starts when the first is over."""
    say(clock, 2)
    say(clock, 3)
    time.now = 1000 + RENDER_DELAY_S + 2.5
    assert clock.expire() == [PlaybackStarted(1), finished(1, 2), PlaybackStarted(2)]
    assert until_deadline(clock, time) == [finished(2, 3)]
    assert time.now == pytest.approx(1000 + RENDER_DELAY_S + 5)


def test_open_utterance_does_not_finish(clock, time):
    """A pause of the TTS is no end: the utterance goes on, and the pause is not counted as played."""
    send(clock, 1)
    clock.confirmed()
    time.now += 10
    assert clock.expire() == [PlaybackStarted(1)]
    assert clock.deadline is None
    send(clock, 1)
    clock.confirmed()
    clock.end()
    assert until_deadline(clock, time) == [finished(1, 2)]
    assert time.now == pytest.approx(1010 + RENDER_DELAY_S + 1)


def test_pieces_without_a_gap_are_one(clock, time):
    """Speech that is confirmed faster than it is played is played without a pause."""
    for _ in range(10):
        send(clock, 0.2)
        clock.confirmed()
        time.now += 0.01
    clock.end()
    clock.expire()
    time.now = 1000 + RENDER_DELAY_S + 1
    clock.expire()
    clock.cut()
    clock.interrupt_sent()
    clock.interrupt_confirmed()
    assert clock.expire() == [finished(1, 1, interrupted=True)]


def test_confirmation_says_how_much(clock, time):
    """What the gateway did not queue was not played; more than was sent is not believed."""
    for number, samples, position_s in ((1, 8_000, 0.5), (2, 99_999, 1), (3, -1, 0), (4, None, 1)):
        send(clock, 1)
        clock.confirmed(samples)
        clock.end()
        time.now += 5
        assert clock.expire()[-1] == finished(number, position_s)


def test_unsent_and_unconfirmed_speech_holds_the_end(clock, time):
    """An utterance whose end waits to be sent or confirmed is not over."""
    send(clock, 1)
    clock.push(16_000)
    clock.end()
    clock.confirmed()
    time.now += 4
    assert clock.expire() == [PlaybackStarted(1)]
    assert clock.deadline is None
    clock.sent(1, 16_000)
    assert clock.unconfirmed_s == 1
    clock.confirmed()
    assert until_deadline(clock, time) == [finished(1, 2)]


def test_missing_confirmation_counts_as_not_played(clock, time, caplog):
    """Without a confirmation the utterance is over after the time-out, at zero, and a warning says why."""
    send(clock, 3)
    clock.end()
    assert until_deadline(clock, time) == [finished(1, 0)]
    assert time.now == pytest.approx(1000 + CONFIRM_TIMEOUT_S)
    assert "did not confirm 3.0 s of speech" in caplog.text
    clock.confirmed()  # too late for it
    say(clock, 1)
    time.now += 10
    assert clock.expire() == [PlaybackStarted(2), finished(2, 1)]


def test_slow_confirmations_are_waited_for(clock, time):
    """While confirmations come, the ones behind them are not given up."""
    for _ in range(5):
        send(clock, 1)
    clock.end()
    for _ in range(5):
        time.now += CONFIRM_TIMEOUT_S - 0.1
        clock.expire()
        clock.confirmed()
    time.now += 2
    assert clock.expire() == [finished(1, 5)]


def test_interruption_is_over_with_its_confirmation(clock, time):
    """The position is what was heard when it was cut, however long the confirmation takes."""
    say(clock, 10)
    time.now = 1000 + RENDER_DELAY_S + 3
    clock.expire()
    assert clock.cut()
    clock.interrupt_sent()
    assert (clock.expire(), clock.clearing) == ([], True)
    time.now += 1
    clock.interrupt_confirmed()
    assert clock.expire() == [finished(1, 3, interrupted=True)]


def test_interruption_without_a_confirmation(clock, time):
    """It is over by itself after two seconds."""
    say(clock, 10)
    time.now += 2
    clock.expire()
    clock.cut()
    clock.interrupt_sent()
    assert until_deadline(clock, time) == [finished(1, 2 - RENDER_DELAY_S, interrupted=True)]
    assert time.now == pytest.approx(1002 + CLEAR_TIMEOUT_S)


def test_one_interruption_cuts_all_and_only_once(clock):
    """Each utterance in flight ends once and in order; a second cut is no news."""
    say(clock, 1)
    say(clock, 1)
    send(clock, 1)
    assert clock.cut()
    assert not clock.cut()
    clock.interrupt_sent()
    clock.interrupt_confirmed()
    assert clock.expire() == [finished(n, 0, interrupted=True) for n in (1, 2, 3)]
    assert clock.unconfirmed_s == 0


def test_next_utterance_does_not_wait_for_what_was_cut(clock, time):
    """After an interruption the avatar is free."""
    say(clock, 60)
    time.now += 1
    clock.expire()
    clock.cut()
    clock.interrupt_sent()
    clock.interrupt_confirmed()
    clock.expire()
    say(clock, 1)
    time.now += RENDER_DELAY_S
    assert clock.expire() == [PlaybackStarted(2)]


def test_confirmation_of_what_was_cut_plays_nothing(clock, time):
    """Speech whose confirmation comes after the cut is not played, so the next utterance does not wait for it."""
    send(clock, 60)
    clock.cut()
    clock.interrupt_sent()
    clock.confirmed()
    clock.interrupt_confirmed()
    assert clock.expire() == [finished(1, 0, interrupted=True)]
    say(clock, 1)
    time.now += RENDER_DELAY_S
    assert clock.expire() == [PlaybackStarted(2)]


def test_confirmation_of_later_speech_confirms_the_interruption(clock):
    """Confirmations come in order, so one of the next utterance tells that the interruption was heard."""
    send(clock, 1)
    clock.confirmed()
    clock.cut()
    clock.interrupt_sent()
    send(clock, 1)
    clock.confirmed()
    assert clock.expire() == [finished(1, 0, interrupted=True)]
    assert clock.unconfirmed_s == 0


def test_late_confirmation_does_not_confirm_the_interruption(clock):
    """With nothing behind the interruption, a confirmation of speech can only be an old one."""
    say(clock, 1)
    clock.cut()
    clock.interrupt_sent()
    clock.confirmed()
    assert (clock.expire(), clock.clearing) == ([], True)


def test_interruption_skips_the_confirmations_of_what_it_cut(clock, time):
    """A gateway that drops speech need not confirm it; the next utterance's confirmations still match."""
    for _ in range(3):
        send(clock, 1)
    clock.cut()
    clock.interrupt_sent()
    clock.interrupt_confirmed()
    clock.expire()
    say(clock, 1)
    time.now += 5
    assert clock.expire() == [PlaybackStarted(2), finished(2, 1)]


def test_speech_that_was_cut_makes_nobody_wait(clock, caplog, time):
    """What an interruption dropped neither fills the window of the next utterance nor is warned about."""
    send(clock, 9)
    clock.cut()
    clock.interrupt_sent()
    assert clock.unconfirmed_s == 0
    time.now += 2 * CONFIRM_TIMEOUT_S
    clock.expire()
    assert caplog.text == ""


def test_utterance_without_a_sample(clock):
    """It is over at its end, and never starts."""
    clock.open()
    clock.end()
    assert clock.expire() == [finished(1, 0)]


def test_abandoned(clock, time):
    """When the connection goes, everything ends with what was heard of it."""
    say(clock, 2)
    send(clock, 5)
    time.now += RENDER_DELAY_S + 1
    assert clock.abandon() == [PlaybackStarted(1), finished(1, 1), finished(2, 0)]
    assert clock.deadline is None


def test_words_of_the_gateway_without_a_question(clock):
    """Confirmations of nothing change nothing."""
    clock.confirmed(5)
    clock.interrupt_confirmed()
    assert (clock.expire(), clock.deadline, clock.cut()) == ([], None, False)


def test_recalled_piece_waits_to_be_sent_again(clock, time):
    """It is no longer due, and the utterance is not over before it has been played."""
    number = send(clock, 1)
    clock.end()
    assert clock.recall() == number
    time.now += 60
    assert clock.expire() == []
    assert clock.unconfirmed_s == 1
    clock.sent(number, SPEECH_SAMPLE_RATE)
    clock.confirmed()
    time.now += RENDER_DELAY_S + 1
    assert clock.expire() == [PlaybackStarted(1), finished(1, 1)]


@pytest.mark.parametrize("due", ["nothing", "an interruption", "what was cut"])
def test_nothing_to_recall(clock, due):
    """Only speech that is wanted is sent again."""
    if due != "nothing":
        send(clock, 1)
        if due == "an interruption":
            clock.confirmed()
        clock.cut()
        clock.interrupt_sent()
    assert clock.recall() is None


def test_confirmation_that_is_overdue(clock, time):
    """After the time-out it will not come any more."""
    send(clock, 1)
    time.now += CONFIRM_TIMEOUT_S - 0.1
    assert not clock.overdue
    time.now += 0.1
    assert clock.overdue


def test_confirmed_interruption_is_no_speech(clock):
    """What the avatar takes is known by speech alone."""
    send(clock, 1)
    clock.cut()
    clock.interrupt_sent()
    clock.interrupt_confirmed()
    assert not clock.any_confirmed
    say(clock, 1)
    assert clock.any_confirmed


class Gateway(RuleBasedStateMachine):
    """A gateway that confirms in time, late or never, and a caller that interrupts at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Clock()
        self.clock = OwnClock(self.time)
        self.opened = 0
        self.sent_s: dict[int, float] = {}
        self.finished: list[PlaybackFinished] = []
        self.started: list[int] = []

    def take(self) -> None:
        for event in self.clock.expire():
            if isinstance(event, PlaybackStarted):
                assert event.utterance == len(self.finished) + 1
                self.started.append(event.utterance)
            else:
                self.finished.append(event)

    @rule(seconds=st.floats(0, 3))
    def send(self, seconds: float) -> None:
        number = send(self.clock, seconds)
        self.sent_s[number] = self.sent_s.get(number, 0) + seconds
        self.opened = max(self.opened, number)

    @rule()
    def end(self) -> None:
        self.clock.end()
        self.take()

    @rule(samples=st.none() | st.integers(-1, 100_000))
    def confirm(self, samples: int | None) -> None:
        self.clock.confirmed(samples)
        self.take()

    @precondition(lambda self: self.clock._due)
    @rule()
    def refuse(self) -> None:
        samples = getattr(self.clock._due[0], "samples", 0)
        if (number := self.clock.recall()) is not None:
            self.clock.sent(number, samples)  # again
        self.take()

    @rule()
    def interrupt(self) -> None:
        if self.clock.cut():
            self.clock.interrupt_sent()
        self.take()

    @rule()
    def confirm_interrupt(self) -> None:
        self.clock.interrupt_confirmed()
        self.take()

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.time.now += seconds
        self.take()

    @precondition(lambda self: self.clock.deadline is not None)
    @rule()
    def wait_for_the_deadline(self) -> None:
        self.time.now = max(self.time.now, self.clock.deadline)
        before = (len(self.finished), len(self.started), self.clock.deadline)
        self.take()
        assert (len(self.finished), len(self.started), self.clock.deadline) != before

    @invariant()
    def each_ends_once_and_in_order(self) -> None:
        assert [event.utterance for event in self.finished] == list(range(1, len(self.finished) + 1))
        assert len(self.finished) <= self.opened
        assert len(set(self.started)) == len(self.started)

    @invariant()
    def nothing_is_played_that_was_not_sent(self) -> None:
        for event in self.finished:
            assert -1e-6 <= event.position_s <= self.sent_s[event.utterance] + 1e-3

    def teardown(self) -> None:
        """Every utterance that was sent has ended when nothing is left to wait for."""
        self.clock.end()
        self.take()
        while (deadline := self.clock.deadline) is not None:
            self.time.now = max(math.nextafter(self.time.now, math.inf), deadline)
            self.take()
        assert len(self.finished) == self.opened


TestGateway = Gateway.TestCase
TestGateway.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
