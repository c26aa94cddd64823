"""What to do next: send, wait, or stop. The rules about retries, without any I/O.

A flow is a generator. It yields steps, is sent what became of them, and returns the value of the call or raises one
of our errors. A driver carries the steps out, sync or async. The calls that open a billed session have flows of their
own, in `_opening`.
"""

import logging
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

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
from agenthuman_plugins.client._calls.sessions import (
    SessionStart,
    end_session,
    get_session,
    list_sessions,
    start_session,
)
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client.errors import (
    AgentHumanError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    printable,
)
from agenthuman_plugins.client.models import LinkSession, Session
from agenthuman_plugins.client.redaction import Secrets, redact

_T = TypeVar("_T")

_log = logging.getLogger("agenthuman_plugins.client")

_BACKOFF_S = 0.5  # the first wait; doubled each time
_BACKOFF_MAX_S = 8.0
_JITTER = 0.25  # a wait is shortened by up to this part, so that clients do not come back all at once
_ASKED_MAX_S = 60.0  # the service may ask for longer waits; then failing at once is kinder

LOOK_MAX_GETS = 20  # the largest documented number of concurrent sessions

_BOOTING = "try_again"  # instead of an address, while the server of a managed session boots
_POLL_S = 2.0  # a server takes some seconds; more often would only eat into the rate limit


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


@dataclass(frozen=True, slots=True)
class Listen:
    """Step: wait so many seconds, or until the request is answered that was sent before and is still on its way.

    What became of it is sent back; `None` if that is not known yet, or if nothing is on its way.
    """

    seconds: float


Steps = Generator[Send | Pause | Listen, Outcome | None, _T]


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


def was_not_processed(outcome: Outcome, error: AgentHumanError) -> bool:
    """Whether the service surely did nothing: it was never reached, or it refused."""
    match outcome:
        case NoAnswer():
            return not outcome.may_have_arrived
        case Answer():
            return is_refusal(error)


class Flows:
    """The flows of one client.

    A read may be sent again after any failure that can pass; a call that changes something only if the service surely
    did not process it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings: Final = settings
        self._clock: Final = settings.clock

    def call(self, call: Call[_T]) -> Steps[_T]:
        """Any call that opens no billed session."""
        return self.attempts(call, self.deadline(call.timeout_s))

    def find(self, client_ref: object, timeout_s: float | None) -> Steps[Session | None]:
        """A session by its reference, running or ended; a running one first."""
        if not isinstance(client_ref, str) or not client_ref:
            raise ConfigurationError("client_ref must be the reference of a create, not an empty text.")
        deadline = self.deadline(timeout_s)
        listed = yield from self.attempts(list_sessions("all"), deadline)
        listed.sort(key=_newest_running_first)
        for session in listed:
            if session.client_ref == client_ref:
                return session
        # A list that leaves metadata out does so for all of them; sessions of others have none either.
        if not any(session.metadata for session in listed):
            for session in listed[:LOOK_MAX_GETS]:
                whole = yield from self._get_if_there(session, deadline)
                if whole.client_ref == client_ref:
                    return whole
        return None

    def find_running(self, client_ref: str, deadline: float) -> Steps[Session | None]:
        """A running session by its reference."""
        running = yield from self.attempts(list_sessions("started"), deadline)
        running = [session for session in running if not session.has_ended]
        for session in running:
            if session.client_ref == client_ref:
                return session
        for session in [item for item in running if not item.metadata][:LOOK_MAX_GETS]:
            whole = yield from self._get_if_there(session, deadline)
            if whole.client_ref == client_ref and not whole.has_ended:
                return whole
        return None

    def running(self) -> Steps[list[Session]]:
        """Every running session, with its metadata."""
        deadline = self.deadline(None)
        found = yield from self.attempts(list_sessions("started"), deadline)
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
                yield from self.end_if_there(session, self.deadline(None))
            except AgentHumanError as error:
                _log.error("Session %s could not be ended: %s", printable(session.session_id), error)
                failure = failure or error
        if failure is not None:
            raise failure

    def end_if_there(self, session: Session | LinkSession, deadline: float) -> Steps[None]:
        """End a session, unless nothing is left to end: it is gone, or was never started (older generation)."""
        try:
            yield from self.attempts(end_session(session.session_id), deadline)
        except NotFoundError:
            return
        except (BadRequestError, ConflictError):
            # Only a started session can be ended; one that is merely created costs nothing.
            if not (isinstance(session, Session) and session.status == "created"):
                raise

    def start(self, session: Session | str, timeout_s: float | None) -> Steps[Session]:
        """Start a session of the older, Daily-managed generation, and wait until its server has booted.

        Where the service does not know the call, or not for this session, one that runs is returned as it is.

        Raises:
            APITimeoutError: It does not run within `timeout_s` seconds (`None`: the client's limit).
        """
        session_id = session if isinstance(session, str) else session.session_id
        limit_s = self.settings.timeout_s if timeout_s is None else timeout_s
        deadline = self.deadline(limit_s)
        while True:
            start = yield from self._start_if_known(session_id, deadline)
            if start is None or start.ws_uri != _BOOTING:
                found = yield from self.attempts(get_session(session_id), deadline)
                if start is not None:
                    found = found.model_copy(update={"ws_uri": start.ws_uri})
                if start is not None or found.status != "created":
                    return found if isinstance(session, str) else _with_what_only_create_told(session, found)
            if self.now() + _POLL_S >= deadline:
                raise APITimeoutError(
                    f"Session {session_id} was started, but its server is not ready after {limit_s:g} s. "
                    "It may be billed from here on: call start again, which goes on waiting, or end it.",
                    retryable=True,
                )
            yield Pause(_POLL_S)

    def _start_if_known(self, session_id: str, deadline: float) -> Steps[SessionStart | None]:
        """Start a session; `None` where the service does not know the call, or if the session runs anyway."""
        try:
            return (yield from self.attempts(start_session(session_id), deadline))
        except APIStatusError as error:
            if is_unknown_route(error):
                return None
            refusal = error
        if isinstance(refusal, NotFoundError | BadRequestError | ConflictError):
            with suppress(AgentHumanError):
                found = yield from self.attempts(get_session(session_id), deadline)
                if found.status == "started":
                    return None
        raise refusal

    # --- what the flows of billed calls need, too

    def attempts(self, call: Call[_T], deadline: float) -> Steps[_T]:
        """Send a call until it is answered, refused, or not worth another attempt."""
        attempt = 0
        while True:
            outcome = yield Send(call, attempt, self.left(deadline))
            assert outcome is not None  # noqa: S101 - the driver's contract: a Send is answered
            try:
                return self.read(outcome, call)
            except AgentHumanError as caught:
                error = caught
            if call.sent_once or not (call.repeatable or was_not_processed(outcome, error)):
                raise error
            if call.older is not None and is_unknown_route(error):
                call = call.older
                continue
            yield from self.pause_or_raise(outcome, error, attempt, deadline)
            attempt += 1

    def read(self, outcome: Outcome, call: Call[_T]) -> _T:
        """Read the value out of an answer, and note in the log what came."""
        secrets = Secrets((*self.settings.secrets, *call.secrets))
        if _log.isEnabledFor(logging.DEBUG):
            came: object = "no answer"
            if isinstance(outcome, Answer):
                came = outcome.status
            elif not outcome.may_have_arrived:
                came = "not sent"
            path = redact(call.path, secrets)
            _log.debug("%s %s: %s [%s]", call.method, path, came, outcome.request_id or "-")
        return understand(outcome, call.parse, secrets)

    def pause_or_raise(
        self, outcome: Outcome, error: AgentHumanError, attempt: int, deadline: float
    ) -> Steps[None]:
        """Wait before the next attempt; raise the error if there should be none."""
        if not error.retryable or attempt >= self.settings.max_retries:
            raise error
        asked = retry_after(outcome, self._clock.wall())
        delay = retry_delay(asked, attempt, self._clock.random())
        if delay is None or delay >= self.left(deadline):
            raise error
        _log.info("Trying again in %.1f s: %s", delay, error)
        yield Pause(delay)

    def now(self) -> float:
        """Seconds from an arbitrary start."""
        return self._clock.monotonic()

    def deadline(self, limit_s: float | None) -> float:
        """When a call that begins now is given up (`None`: by the client's limit)."""
        return self.now() + (self.settings.timeout_s if limit_s is None else limit_s)

    def left(self, deadline: float) -> float:
        """Seconds until then; never 0, which would mean no limit to some libraries."""
        return max(0.001, deadline - self.now())

    def _get_if_there(self, session: Session, deadline: float) -> Steps[Session]:
        try:
            return (yield from self.attempts(get_session(session.session_id), deadline))
        except (NotFoundError, ConfigurationError, APIResponseError):
            # It is gone since it was listed, or what the list says of it is odd: it must not hide the others.
            return session


def _with_what_only_create_told(created: Session, found: Session) -> Session:
    """The session as it was found, with its token, room and usage, which no later answer tells."""
    told = {name: getattr(created, name) for name in created.model_fields_set}
    return found.model_copy(
        update={name: value for name, value in told.items() if getattr(found, name) is None}
    )


def _newest_running_first(session: Session) -> tuple[bool, float]:
    begin = session.started_at or session.created_at
    return session.has_ended, -begin.timestamp() if begin else 0.0
