"""What to do next: send, wait, or stop. Every rule about retries and lost sessions, without any I/O.

A flow is a generator. It yields steps (`Send`, `Pause`), is sent what became of them, and returns the value of
the call or raises one of our errors. A driver of a few lines carries the steps out, sync or async.

A read may be sent again after any failure that can pass. A create is billed, so it is sent again only if the
service surely did not process it: it was never reached, or it refused. In every other case the session may
exist, and is looked for by the reference that each create carries in `metadata.client_ref`.
"""

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from agenthuman_plugins.client import _calls
from agenthuman_plugins.client._answers import (
    Answer,
    NoAnswer,
    Outcome,
    is_refusal,
    is_unknown_route,
    retry_after,
    understand,
)
from agenthuman_plugins.client._calls import Call
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._owner import CLIENT_OWNER
from agenthuman_plugins.client.errors import (
    AgentHumanError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
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
        call: The create, as it is sent.
        client_ref: Reference in its metadata.
        may_exist: Whether a session may have been opened that nobody has cleaned up behind yet.
        session: The session, once it is known.
    """

    call: Call[Session]
    client_ref: str
    may_exist: bool = False
    session: Session | None = field(default=None, repr=False)

    @classmethod
    def of(cls, call: Call[Session], settings: Settings) -> "Creation":
        """Give a create its reference, and its owner if wanted: the caller's own ones, or ours."""
        metadata = _metadata_of(call)
        marks = {CLIENT_REF: metadata.get(CLIENT_REF) or settings.clock.new_ref()}
        if settings.track_owner and (owner := settings.clock.owner()) is not None:
            marks[CLIENT_OWNER] = metadata.get(CLIENT_OWNER, owner)
        return cls(_calls.with_metadata(call, {**metadata, **marks}), marks[CLIENT_REF])

    @property
    def is_tracked(self) -> bool:
        """Whether the session can be told from others: the service took our reference, as far as we know."""
        return CLIENT_REF in _metadata_of(self.call)


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

    def call(self, call: Call[_T], limit_s: float | None = None) -> Steps[_T]:
        """Any call but a create, within `limit_s` seconds (`None`: the client's limit)."""
        return self._attempts(call, self._deadline(limit_s))

    def create(self, creation: Creation, limit_s: float | None) -> Steps[Session]:
        """A billed create, sent within `limit_s` seconds (`None`: the client's limit)."""
        deadline = self._deadline(limit_s)
        attempt = 0
        while True:
            call = creation.call
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
            if _is_about_metadata(error) and creation.is_tracked:
                # Better a session that cannot be found again than none; locked by
                # test_create_goes_without_reference_when_metadata_is_refused.
                creation.call = _calls.with_metadata(call, _without_marks(call))
                continue
            delay = self._delay(outcome, error, attempt, deadline)
            if delay is None:
                raise error
            yield from self._pause(delay, error)
            attempt += 1

        found = yield from self.look_for(creation)
        if found is None:
            raise _lost_create(creation, error)
        _log.warning(
            "The answer to a create was lost; session %s was found by its reference. "
            "Tokens are only in a create's own answer, so it has none.",
            found.session_id,
        )
        return found

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
        else:
            yield from self._end_if_there(session, self._deadline(_LOOK_LIMIT_S))
            _log.info("Session %s was ended: its create was given up.", session.session_id)
        creation.may_exist = False

    def look_for(self, creation: Creation) -> Steps[Session | None]:
        """Find the session of a create by its reference, with some patience."""
        if not creation.is_tracked:
            return None
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

    def find(self, client_ref: str) -> Steps[Session | None]:
        """A session by its reference, running or ended; a running one first."""
        if not client_ref:
            raise ConfigurationError("client_ref must be the reference of a create, not an empty text.")
        deadline = self._deadline(None)
        listed = yield from self._attempts(_calls.list_sessions("all"), deadline)
        listed.sort(key=_newest_running_first)
        for session in listed:
            if session.client_ref == client_ref:
                return session
        # A list that leaves metadata out does so for all of them; sessions of others have none either.
        if not any(session.metadata for session in listed):
            for session in listed[:_LOOK_MAX_GETS]:
                whole = yield from self._get_if_there(session, deadline)
                if whole.client_ref == client_ref:
                    return whole
        return None

    def running(self) -> Steps[list[Session]]:
        """Every running session, with its metadata."""
        deadline = self._deadline(None)
        found = yield from self._attempts(_calls.list_sessions("started"), deadline)
        # The list may leave metadata out; no page says that it carries it.
        for place, session in enumerate(found):
            if not session.metadata:
                found[place] = yield from self._get_if_there(session, deadline)
        return [session for session in found if not session.has_ended]

    def end_each(self, sessions: Iterable[Session]) -> Steps[None]:
        """End these sessions; one that cannot be ended does not keep the others from it."""
        failure: AgentHumanError | None = None
        for session in sessions:
            try:
                yield from self._end_if_there(session, self._deadline(None))
            except AgentHumanError as error:
                _log.error("Session %s could not be ended: %s", session.session_id, error)
                failure = failure or error
        if failure is not None:
            raise failure

    def _find(self, client_ref: str, deadline: float) -> Steps[Session | None]:
        running = yield from self._attempts(_calls.list_sessions("started"), deadline)
        running = [session for session in running if not session.has_ended]
        for session in running:
            if session.client_ref == client_ref:
                return session
        for session in [item for item in running if not item.metadata][:_LOOK_MAX_GETS]:
            whole = yield from self._get_if_there(session, deadline)
            if whole.client_ref == client_ref and not whole.has_ended:
                return whole
        return None

    def _get_if_there(self, session: Session, deadline: float) -> Steps[Session]:
        try:
            return (yield from self._attempts(_calls.get_session(session.session_id), deadline))
        except NotFoundError:
            return session  # gone since it was listed: nothing more is to be learnt

    def _end_if_there(self, session: Session, deadline: float) -> Steps[None]:
        with suppress(NotFoundError):  # then nothing is left to end
            yield from self._attempts(_calls.end_session(session.session_id), deadline)

    def _attempts(self, call: Call[_T], deadline: float) -> Steps[_T]:
        attempt = 0
        while True:
            outcome = yield Send(call, attempt, self._left(deadline))
            assert outcome is not None  # noqa: S101 - the driver's contract: a Send is answered
            try:
                return understand(outcome, call.parse, self._secrets(call))
            except AgentHumanError as caught:
                error = caught
            if not (call.repeatable or _was_not_processed(outcome, error)):
                if call.billed:
                    raise _lost_start(error) from error
                raise error
            if call.older is not None and is_unknown_route(error):
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
    """Say that the clean-up after an interrupted create failed; nobody can do more about it."""
    creation.may_exist = False
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


def _lost_create(creation: Creation, error: AgentHumanError) -> SessionOutcomeUnknownError:
    looked = (
        f"no session with metadata.client_ref {creation.client_ref!r} was found"
        if creation.is_tracked
        else "the service refuses the metadata by which its session could be found"
    )
    lost = SessionOutcomeUnknownError(
        f"The answer to a create was lost, and {looked}. It may still appear, and would be billed: look for it with "
        f"sessions.list() before creating again. What happened: {error}",
        client_ref=creation.client_ref,
    )
    lost.__cause__ = error
    return lost


def _lost_start(error: AgentHumanError) -> SessionOutcomeUnknownError:
    return SessionOutcomeUnknownError(
        "The answer to the start of a session was lost. The session may be running, and would be billed: look for "
        f"it with sessions.list() before starting another. What happened: {error}",
        client_ref=None,
    )


def _is_about_metadata(error: AgentHumanError) -> bool:
    # Anywhere in the answer, since its form is not documented. A wrong guess costs a second refusal, nothing more.
    if not isinstance(error, BadRequestError):
        return False
    said = str(error.body)
    return any(word in said for word in ("metadata", "Metadata", CLIENT_REF, CLIENT_OWNER))


def _newest_running_first(session: Session) -> tuple[bool, float]:
    begin = session.started_at or session.created_at
    return session.has_ended, -begin.timestamp() if begin else 0.0


def _metadata_of(call: Call[Session]) -> Mapping[str, Any]:
    return (call.json or {}).get("metadata") or {}


def _without_marks(call: Call[Session]) -> dict[str, Any]:
    return {key: value for key, value in _metadata_of(call).items() if key not in {CLIENT_REF, CLIENT_OWNER}}
