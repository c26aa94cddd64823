"""What a failure means for the next session, and when that may be asked for. Pure but for the clock."""

import math
import random
from collections.abc import Callable

from agenthuman_plugins.client import (
    AgentHumanError,
    SessionOutcomeUnknownError,
    SpeechLinkError,
    UsageLimitError,
)
from agenthuman_plugins.pipecat._life import Change
from agenthuman_plugins.pipecat.settings import AgentHumanVideoSettings

BACKOFF_S = (1.0, 30.0)  # first and longest pause before a new session
# Sessions in a row whose avatar never came or left at once. Each is billed, so there must be an end.
MAX_USELESS_SESSIONS = 5
_SLOT_BACKOFF_S = (2.0, 30.0)  # while the account is full: others may end a session at any time
_SLOT_GAP_S = 2.0  # however fast the replies come: a minute allows 60 requests of all kinds
_REPLY_GAP_S = 1.0  # without speech, after which it is another reply
_STAYED_S = 5.0  # of an avatar that did not leave at once


class Retries:
    """Remembers the failures in a row.

    Args:
        settings: As they are at each moment.
        clock: Seconds from an arbitrary start.
    """

    def __init__(self, settings: AgentHumanVideoSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._asked_at = -math.inf
        self._try_at = -math.inf  # no session is asked for before
        self._pause_s = 0.0
        self._full_since: float | None = None
        self._is_full = False  # as the last answer said
        self._useless = 0
        self._spoke_at = -math.inf
        self._reply_at = -math.inf  # the bot began to speak

    @property
    def exhausted(self) -> bool:
        """Whether so many sessions in a row were of no use that no other one is opened."""
        return self._useless >= MAX_USELESS_SESSIONS

    @property
    def wait_s(self) -> float:
        """Seconds until a session may be asked for.

        A full account is asked at once when a reply begins, and for the last time when `slot_wait_s` are over.
        """
        try_at, limit_s = self._try_at, self._settings.slot_wait_s
        if self._is_full and self._full_since is not None and limit_s is not None:
            try_at = min(try_at, max(self._full_since + limit_s, self._asked_at + _SLOT_GAP_S))
        if self._full_since is not None and self._reply_at > self._asked_at:
            try_at = min(try_at, self._asked_at + _SLOT_GAP_S)
        return max(try_at - self._clock(), 0.0)

    def bot_speaks(self, *, begins: bool) -> None:
        """Note speech; what comes after a gap begins a reply, too."""
        now = self._clock()
        if begins or now - self._spoke_at > _REPLY_GAP_S:
            self._reply_at = now
        self._spoke_at = now

    def asked(self) -> float:
        """Note that a session is asked for; return for how many seconds the account has been full before."""
        self._asked_at = self._clock()
        return 0.0 if self._full_since is None else self._asked_at - self._full_since

    def connected(self) -> None:
        """Note that an avatar is connected."""
        self._full_since = None

    def forget_pause(self) -> None:
        """Forget the pause: who speaks after a silence does not wait out one from before it."""
        self._try_at, self._pause_s, self._full_since = -math.inf, 0.0, None

    def judge(self, reason: Exception, *, connected_s: float) -> tuple[Change, Exception]:
        """What a failure means: ask again later, wait for a slot, or give up.

        Args:
            reason: Of the failure.
            connected_s: For how long the avatar was connected; 0 if it never was.

        Returns:
            The change, and its reason for people.
        """
        if connected_s > BACKOFF_S[1]:
            self._pause_s = 0.0  # it worked for a while: a new trouble, not the same one
        if connected_s > _STAYED_S:
            self._useless = 0
        self._useless += isinstance(reason, SpeechLinkError)
        backoff_s, change = BACKOFF_S, Change.LOSE
        self._is_full = is_full(reason)
        if self._is_full:
            backoff_s, change = _SLOT_BACKOFF_S, self._judge_full()
        elif not can_pass(reason):
            change = Change.REFUSE
        elif self.exhausted:
            change = Change.REFUSE
            reason = SpeechLinkError(
                f"no avatar stayed in {self._useless} sessions; the last reason: {reason}"
            )
        if self._settings.on_failure == "fail":
            change = Change.REFUSE
        self._pause_s = min(max(2 * self._pause_s, backoff_s[0]), backoff_s[1])
        self._try_at = self._clock() + self._pause_s * random.uniform(0.75, 1.0)  # noqa: S311 - jitter, not cryptography
        return change, reason

    def _judge_full(self) -> Change:
        if self._full_since is None:
            self._full_since, self._pause_s = self._asked_at, 0.0
        limit_s = self._settings.slot_wait_s
        return Change.FULL if limit_s is None or self._clock() - self._full_since < limit_s else Change.REFUSE


def is_full(reason: Exception | None) -> bool:
    """Whether all slots of the account are taken, which passes when a session ends."""
    return isinstance(reason, UsageLimitError) and reason.limit == "concurrency"


def can_pass(reason: Exception) -> bool:
    """Whether another session may have more luck."""
    # A session whose create was not answered is noted, and ended when it shows: another one may be opened.
    if isinstance(reason, SpeechLinkError | SessionOutcomeUnknownError):
        return True
    return isinstance(reason, AgentHumanError) and reason.retryable
