"""What a failure means for the next session, by a clock that stands still until a test moves it."""

from typing import Any

import pytest

from agenthuman_plugins.client import (
    APIConnectionError,
    AuthenticationError,
    SessionOutcomeUnknownError,
    SpeechLinkError,
    UsageLimitError,
)
from agenthuman_plugins.pipecat import AgentHumanVideoSettings, _retries
from agenthuman_plugins.pipecat._life import Change
from agenthuman_plugins.pipecat._retries import MAX_USELESS_SESSIONS, Retries

LOST = SpeechLinkError("the avatar left")
AWAY = APIConnectionError("nobody answers", retryable=True)


def full() -> UsageLimitError:
    error = UsageLimitError("no slot", status_code=429)
    error.limit = "concurrency"
    return error


class Bot:
    """Retries and the time that they see."""

    def __init__(self, **settings: object) -> None:
        self.now = 100.0
        given: dict[str, Any] = {"on_failure": "fall_back", "slot_wait_s": None, **settings}
        self.retries = Retries(AgentHumanVideoSettings(**given), lambda: self.now)

    def fails(self, reason: Exception, connected_s: float = 0.0) -> Change:
        """Ask for a session that fails."""
        self.retries.asked()
        return self.retries.judge(reason, connected_s=connected_s)[0]


@pytest.fixture(autouse=True)
def longest_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause is shortened by chance."""
    monkeypatch.setattr(_retries.random, "uniform", lambda _, longest: longest)


def test_pauses_grow_to_a_limit() -> None:
    """Each failure in a row doubles the pause, from one second to half a minute."""
    bot, pauses = Bot(), []
    for _ in range(7):
        assert bot.fails(AWAY) is Change.LOSE
        pauses.append(bot.retries.wait_s)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_pause_passes() -> None:
    """The pause is over when its time is, never less than nothing."""
    bot = Bot()
    assert bot.retries.wait_s == 0
    bot.fails(AWAY)
    bot.now += 0.75
    assert bot.retries.wait_s == 0.25
    bot.now += 1
    assert bot.retries.wait_s == 0


def test_avatar_that_worked_for_a_while_begins_anew() -> None:
    """What fails after half a minute is a new trouble; what fails earlier is still the old one."""
    bot = Bot()
    for _ in range(3):
        bot.fails(AWAY)
    bot.fails(AWAY, connected_s=30.0)
    assert bot.retries.wait_s == 8
    bot.fails(AWAY, connected_s=30.1)
    assert bot.retries.wait_s == 1


def test_sessions_of_no_use_have_an_end() -> None:
    """After five avatars in a row that left at once there is no sixth; one that stayed is no such avatar."""
    bot = Bot()
    for _ in range(MAX_USELESS_SESSIONS - 1):
        assert bot.fails(LOST) is Change.LOSE
    assert bot.fails(LOST, connected_s=5.1) is Change.LOSE
    for _ in range(MAX_USELESS_SESSIONS - 2):
        assert bot.fails(LOST, connected_s=5.0) is Change.LOSE
    assert not bot.retries.exhausted
    change, reason = bot.retries.judge(LOST, connected_s=0.0)
    assert change is Change.REFUSE
    assert str(reason) == "no avatar stayed in 5 sessions; the last reason: the avatar left"
    assert bot.retries.exhausted


def test_only_sessions_count_as_useless() -> None:
    """A service that does not answer costs nothing, and is asked for ever."""
    bot = Bot()
    assert {bot.fails(AWAY) for _ in range(20)} == {Change.LOSE}
    assert not bot.retries.exhausted


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        (LOST, Change.LOSE),
        (AWAY, Change.LOSE),
        (SessionOutcomeUnknownError("lost", client_ref="r"), Change.LOSE),
        (AuthenticationError("no", status_code=401), Change.REFUSE),
        (ValueError("odd"), Change.REFUSE),
        (UsageLimitError("no minutes", status_code=429), Change.REFUSE),
        (full(), Change.FULL),
    ],
)
def test_what_a_failure_means(reason: Exception, change: Change) -> None:
    """What may pass is tried again, a full account is waited for, everything else is final."""
    assert Bot().fails(reason) is change
    assert Bot(on_failure="fail").fails(reason) is Change.REFUSE


def test_full_account_is_asked_now_and_then() -> None:
    """While all slots are taken, pauses grow from two seconds, and start anew after another kind of failure."""
    bot, pauses = Bot(), []
    bot.fails(AWAY)
    for _ in range(6):
        assert bot.fails(full()) is Change.FULL
        pauses.append(bot.retries.wait_s)
    assert pauses == [2, 4, 8, 16, 30, 30]


def test_reply_asks_a_full_account_at_once() -> None:
    """A reply that begins need not wait out the pause, but two seconds lie between two requests."""
    bot = Bot()
    for _ in range(4):
        bot.fails(full())
    bot.now += 0.5
    assert bot.retries.wait_s == 15.5
    bot.retries.bot_speaks(begins=True)
    assert bot.retries.wait_s == 1.5


def test_speech_after_a_gap_begins_a_reply() -> None:
    """Speech that goes on is the same reply; after a second of silence it is another one."""
    bot = Bot()
    bot.retries.bot_speaks(begins=True)
    for _ in range(4):
        bot.fails(full())
    bot.now += 1.0
    bot.retries.bot_speaks(begins=False)
    assert bot.retries.wait_s == 15
    bot.now += 1.1
    bot.retries.bot_speaks(begins=False)
    assert bot.retries.wait_s == 0


def test_reply_does_not_shorten_other_pauses() -> None:
    """Only a full account may have room again when the bot speaks."""
    bot = Bot()
    for _ in range(4):
        bot.fails(AWAY)
    bot.retries.bot_speaks(begins=True)
    assert bot.retries.wait_s == 8


def test_wait_for_a_slot_has_an_end() -> None:
    """The account is asked for the last time when `slot_wait_s` are over; then the avatar is given up."""
    bot = Bot(slot_wait_s=10)
    for _ in range(3):
        assert bot.fails(full()) is Change.FULL
    assert bot.retries.wait_s == 8
    bot.now += 7
    assert bot.fails(full()) is Change.FULL
    assert bot.retries.wait_s == 3
    bot.now += 2.5
    assert bot.fails(full()) is Change.FULL
    assert bot.retries.wait_s == 2  # of two requests
    bot.now += 0.5
    assert bot.fails(full()) is Change.REFUSE


def test_time_without_a_slot_is_known() -> None:
    """It counts from the first request that found the account full, to the avatar's arrival."""
    bot = Bot()
    assert bot.retries.asked() == 0
    bot.fails(full())
    bot.now += 5
    assert bot.retries.asked() == 5
    bot.retries.connected()
    assert bot.retries.asked() == 0


def test_who_speaks_after_a_silence_waits_for_nothing() -> None:
    """The pause, its length and the full account are forgotten."""
    bot = Bot(slot_wait_s=10)
    for _ in range(4):
        bot.fails(full())
    bot.retries.forget_pause()
    assert bot.retries.wait_s == 0
    assert bot.retries.asked() == 0
    assert bot.fails(AWAY) is Change.LOSE
    assert bot.retries.wait_s == 1


def test_last_question_is_for_a_full_account_only() -> None:
    """The end of the wait for a slot shortens no pause after another failure."""
    bot = Bot(slot_wait_s=3)
    bot.fails(full())
    for _ in range(3):
        bot.fails(AWAY)
    assert bot.retries.wait_s == 16
