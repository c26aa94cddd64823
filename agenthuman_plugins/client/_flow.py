"""What to do next: send, wait, or stop. Every rule about retries and lost sessions, without any I/O.

A flow is a generator. It yields steps (`Send`, `Pause`), is sent what became of them, and returns the value of
the call or raises one of our errors. A driver of a few lines carries the steps out, sync or async.

A read may be sent again after any failure that can pass. A create is billed, so it is sent again only if the
service surely did not process it: it was never reached, or it refused. In every other case the session may
exist, and is looked for by the reference that each create carries in `metadata.client_ref`.
"""

import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar

from agenthuman_plugins.client import _calls
from agenthuman_plugins.client._answers import Answer, NoAnswer, Outcome, is_refusal, retry_after, understand
from agenthuman_plugins.client._calls import Call
from agenthuman_plugins.client._clock import Clock
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client.errors import (
    AgentHumanError,
    APIStatusError,
    BadRequestError,
    SessionOutcomeUnknownError,
)
from agenthuman_plugins.client.models import CLIENT_REF, Session

_T = TypeVar("_T")

_log = logging.getLogger("agenthuman_plugins.client")

_BACKOFF_S = 0.5  # the first wait; doubled each time
_BACKOFF_MAX_S = 8.0
_JITTER = 0.25  # a wait is shortened by up to this part, so that clients do not come back all at once
_ASKED_MAX_S = 60.0  # the service may ask for longer waits; then failing at once is kinder

# A session whose create is still being processed appears late, so we look more than once.
_LOOK_AFTER_S = (0.0, 0.5, 1.5)
_LOOK_LIMIT_S = 10.0  # beyond the call's own limit: knowing what is billed is worth the wait
_LOOK_MAX_GETS = 20  # the largest documented number of concurrent sessions


@dataclass(frozen=True, slots=True)
class Send:
    """Step: send this call once.

    Attributes:
        call: What to send.
        attempt: How often this call was sent before.
        limit_s: Time left for it, in seconds.
    """

    call: Call[Any]
    attempt: int
    limit_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Step: wait so many seconds."""

    seconds: float


Steps = Generator[Send | Pause, Outcome | None, _T]


@dataclass(slots=True)
class Creation:
    """A create under way, as far as somebody must know who has to clean up behind it.

    Attributes:
        call: The create.
        client_ref: Reference in its metadata.
        may_exist: Whether a session may have been opened.
        session: The session, once it is known.
    """

    call: Call[Session]
    client_ref: str
    may_exist: bool = False
    session: Session | None = field(default=None, repr=False)

    @classmethod
    def of(cls, call: Call[Session], clock: Clock) -> "Creation":
        """Give a create its reference: the caller's own `metadata.client_ref`, or a new one."""
        metadata: Mapping[str, Any] = (call.json or {}).get("metadata") or {}
        ref = metadata.get(CLIENT_REF) or clock.new_ref()
        return cls(_calls.with_metadata(call, {**metadata, CLIENT_REF: ref}), ref)


def retry_delay(asked: float | None, attempt: int, jitter: float) -> float | None:
    """Seconds to wait before the next attempt; `None` if the service asks for more than we wait.

    Args:
        asked: Seconds that the service asked for, if it did.
        attempt: Attempts before the one that failed.
        jitter: A number in [0, 1).
    """
    backoff: float = min(_BACKOFF_MAX_S, _BACKOFF_S * 2.0**attempt) * (1 - _JITTER * jitter)
    if asked is None:
        return backoff
    # Never less than the back-off: a reset "now" by a clock that runs ahead is no invitation to hurry.
    return None if asked > _ASKED_MAX_S else max(asked, backoff)


class Flows:
    """The flows of one client."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._clock: Final = settings.clock
        self._metadata_is_kept = True

    def call(self, call: Call[_T]) -> Steps[_T]:
        """Any call that may be repeated without harm."""
        return self._repeatable(call, self._deadline(None))

    def create(self, creation: Creation, limit_s: float | None) -> Steps[Session]:
        """A billed create, sent within `limit_s` seconds (`None`: the client's limit)."""
        deadline = self._deadline(limit_s)
        call, attempt = creation.call, 0
        while True:
            creation.may_exist = True  # until the answer rules it out
            outcome = yield Send(call, attempt, self._left(deadline))
            assert outcome is not None  # noqa: S101 - the driver's contract: a Send is answered
            try:
                session = understand(outcome, call.parse, self._secrets(call))
            except AgentHumanError as caught:
                error = caught
            else:
                creation.session = session
                self._note_metadata(session, call)
                return session
            if not _was_not_processed(outcome, error):
                break
            creation.may_exist = False
            if _is_about_metadata(error) and CLIENT_REF in _metadata_of(call):
                # Better a session that cannot be found again than none; locked by
                # test_create_goes_without_reference_when_metadata_is_refused.
                call = _calls.with_metadata(call, _without_ref(call))
                continue
            delay = self._delay(outcome, error, attempt, deadline)
            if delay is None:
                raise error
            yield from self._pause(delay, error)
            attempt += 1

        if CLIENT_REF in _metadata_of(call):
            found = yield from self.look_for(creation)
            if found is not None:
                _log.warning(
                    "The answer to a create was lost; session %s was found by its reference. "
                    "Tokens are only in a create's own answer, so it has none.",
                    found.session_id,
                )
                return found
        raise SessionOutcomeUnknownError(
            f"The answer to a create was lost, and no session with metadata.client_ref {creation.client_ref!r} was "
            f"found. It may still appear, and would be billed: look for it with sessions.list() before creating "
            f"again. What happened: {error}",
            client_ref=creation.client_ref,
        ) from error

    def abandon(self, creation: Creation) -> Steps[None]:
        """End what a create may have opened, because nobody waits for it any more."""
        session = creation.session
        if session is None:
            session = yield from self.look_for(creation)
        if session is None:
            _log.warning(
                "A create was given up on its way and no session with metadata.client_ref %r was found; "
                "should one appear, it runs until the service ends it.",
                creation.client_ref,
            )
            return
        yield from self._repeatable(_calls.end_session(session.session_id), self._deadline(_LOOK_LIMIT_S))
        creation.may_exist = False
        _log.info("Session %s was ended: its create was given up.", session.session_id)

    def look_for(self, creation: Creation) -> Steps[Session | None]:
        """Find the session of a create by its reference, with some patience."""
        deadline = self._deadline(_LOOK_LIMIT_S)
        for wait_s in _LOOK_AFTER_S:
            if wait_s:
                yield Pause(wait_s)
            try:
                found = yield from self._find(creation.client_ref, deadline)
            except AgentHumanError as error:
                _log.debug("Sessions could not be looked up: %s", error)
                continue
            if found is not None:
                creation.session = found
                return found
        return None

    def _find(self, client_ref: str, deadline: float) -> Steps[Session | None]:
        running = yield from self._repeatable(_calls.list_sessions("started"), deadline)
        running = [session for session in running if not session.has_ended]
        for session in running:
            if session.client_ref == client_ref:
                return session
        # The list may leave metadata out; no page says that it carries it.
        for session in [item for item in running if not item.metadata][:_LOOK_MAX_GETS]:
            whole = yield from self._repeatable(_calls.get_session(session.session_id), deadline)
            if whole.client_ref == client_ref and not whole.has_ended:
                return whole
        return None

    def _repeatable(self, call: Call[_T], deadline: float) -> Steps[_T]:
        attempt = 0
        while True:
            outcome = yield Send(call, attempt, self._left(deadline))
            assert outcome is not None  # noqa: S101 - the driver's contract: a Send is answered
            try:
                return understand(outcome, call.parse, self._secrets(call))
            except AgentHumanError as caught:
                error = caught
            if call.older is not None and _is_unknown_route(error):
                call = call.older
                continue
            delay = self._delay(outcome, error, attempt, deadline)
            if delay is None:
                raise error
            yield from self._pause(delay, error)
            attempt += 1

    def _delay(self, outcome: Outcome, error: AgentHumanError, attempt: int, deadline: float) -> float | None:
        if not error.retryable or attempt >= self._settings.max_retries:
            return None
        delay = retry_delay(retry_after(outcome, self._clock.wall()), attempt, self._clock.random())
        return None if delay is None or delay >= self._left(deadline) else delay

    def _pause(self, seconds: float, error: AgentHumanError) -> Steps[None]:
        _log.info("Trying again in %.1f s: %s", seconds, error)
        yield Pause(seconds)

    def _deadline(self, limit_s: float | None) -> float:
        return self._clock.monotonic() + (self._settings.timeout_s if limit_s is None else limit_s)

    def _left(self, deadline: float) -> float:
        return max(
            0.001, deadline - self._clock.monotonic()
        )  # a limit of 0 would mean none to some libraries

    def _secrets(self, call: Call[Any]) -> tuple[str, ...]:
        return (self._settings.api_key, *call.secrets)

    def _note_metadata(self, session: Session, call: Call[Session]) -> None:
        sent = _metadata_of(call).get(CLIENT_REF)
        if self._metadata_is_kept and (sent is None or session.client_ref != sent):
            self._metadata_is_kept = False
            _log.warning(
                "The service does not keep a session's metadata: should the answer to a create get lost, "
                "its session cannot be found again."
            )


def log_abandoned(creation: Creation, error: Exception) -> None:
    """Say that the clean-up after an interrupted create failed."""
    _log.error(
        "A create was interrupted and its session, if any, could not be ended; it carries metadata.client_ref %r. %s: %s",
        creation.client_ref,
        type(error).__name__,
        error,
    )


def _was_not_processed(outcome: Outcome, error: AgentHumanError) -> bool:
    match outcome:
        case NoAnswer():
            return not outcome.may_have_arrived
        case Answer():
            return is_refusal(error)


def _is_unknown_route(error: AgentHumanError) -> bool:
    """Whether a router refused, not the API: 404 or 405 without an error object of the API."""
    return (
        isinstance(error, APIStatusError)
        and error.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
        and not (isinstance(error.body, dict) and "error" in error.body)
    )


def _is_about_metadata(error: AgentHumanError) -> bool:
    return isinstance(error, BadRequestError) and "metadata" in str(error).lower()


def _metadata_of(call: Call[Session]) -> Mapping[str, Any]:
    return (call.json or {}).get("metadata") or {}


def _without_ref(call: Call[Session]) -> dict[str, Any]:
    return {key: value for key, value in _metadata_of(call).items() if key != CLIENT_REF}
