"""Opening a billed session, and what becomes of it when nobody waits any more. The rules, without any I/O.

A billed request leaves only while somebody waits for it. It is sent again only if the service surely did not process
it: it was never reached, or it refused. In every other case the session may exist:

- the answer is lost: the session is looked for by the reference that a create carries in `metadata.client_ref`;
- the caller's time is up, or the caller gave up: the request goes on by itself, and what it opens is ended.

A start by a link has no reference. It is sent again under the same rule, but a lost answer cannot be looked up.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from agenthuman_plugins.client._answers import Outcome
from agenthuman_plugins.client._calls import Call
from agenthuman_plugins.client._calls.sessions import with_metadata
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Flows, Listen, Pause, Send, Steps, was_not_processed
from agenthuman_plugins.client._owner import CLIENT_OWNER
from agenthuman_plugins.client.errors import (
    AgentHumanError,
    APIResponseError,
    APIStatusError,
    BadRequestError,
    SessionOutcomeUnknownError,
)
from agenthuman_plugins.client.models import CLIENT_REF, LinkSession, Session

OpenedT = TypeVar("OpenedT", bound=Session | LinkSession)

_log = logging.getLogger("agenthuman_plugins.client")

# However short the caller's limit is: a service that allocates a GPU server may take so long to answer.
TRANSFER_S = 60.0
# A session whose create is still being processed appears late, so we look more than once.
_LOOK_AFTER_S = (0.0, 0.5, 1.5)
_LOOK_LIMIT_S = 10.0  # beyond the call's own limit: knowing what is billed is worth the wait
_GRACE_S = 2.0  # beyond it, too: a create that is answered a little late is worth more than an error
_LOOK_LATE_S = (1.0, 16.0)  # between two looks when nobody waits: the first and the longest pause
_END_LIMIT_S = 60.0

_ABOUT_METADATA = re.compile(rf"\b(?:metadata|{CLIENT_REF}|{CLIENT_OWNER})\b", re.IGNORECASE)
_ABOUT_AVATAR_ID = re.compile(r"\bavatar_id\b")


@dataclass(slots=True, eq=False)
class Opening(Generic[OpenedT]):
    """A billed call under way, as far as somebody must know who has to clean up behind it.

    Attributes:
        call: The call, as it is sent.
        client_ref: Reference in a create's metadata; `None` for a start by a link.
        may_exist: Whether a session may have been opened that nobody has cleaned up behind yet.
        sent_at: When it was last sent, on the client's clock.
        answer: What became of its last request, once that is known.
        opened: The session, once it is known.
        wire: The request that is on its way; the driver's.
    """

    call: Call[OpenedT]
    client_ref: str | None = None
    may_exist: bool = False
    sent_at: float = 0.0
    answer: Outcome | None = field(default=None, repr=False)
    opened: OpenedT | None = field(default=None, repr=False)
    wire: Any = field(default=None, repr=False)

    @property
    def is_tracked(self) -> bool:
        """Whether the session can be told from others: the service took our reference, as far as we know."""
        return CLIENT_REF in _metadata_of(self.call)

    @property
    def name(self) -> str:
        """What it is, for texts."""
        return "start by a link" if self.client_ref is None else "create"


def creation(call: Call[Session], settings: Settings) -> Opening[Session]:
    """Give a create its reference, and its owner if wanted: the caller's own ones, or ours."""
    metadata = _metadata_of(call)
    marks = {CLIENT_REF: metadata.get(CLIENT_REF) or settings.clock.new_ref()}
    if settings.track_owner and (owner := settings.clock.owner()) is not None:
        marks[CLIENT_OWNER] = metadata.get(CLIENT_OWNER, owner)
    return Opening(with_metadata(call, {**metadata, **marks}), marks[CLIENT_REF])


class Openings:
    """The flows of the billed calls of one client."""

    def __init__(self, flows: Flows) -> None:
        self._flows = flows
        self._metadata_is_kept = True

    def open(self, opening: Opening[OpenedT]) -> Steps[OpenedT]:
        """Open a session within the call's limit, and return it."""
        flows = self._flows
        deadline = flows.deadline(opening.call.timeout_s)
        attempt = 0
        while True:
            # Until the answer rules it out.
            opening.may_exist, opening.sent_at, opening.answer = True, flows.now(), None
            outcome = yield Send(opening.call, attempt, flows.left(deadline))
            assert outcome is not None  # noqa: S101 - the driver's contract: a Send is answered
            try:
                return self._take(opening, outcome)
            except AgentHumanError as caught:
                error = caught
            if not was_not_processed(outcome, error):
                outcome, error = yield from self._lost(opening, outcome, error)
                if opening.opened is not None:
                    return opening.opened
            opening.may_exist = False
            if not _other_form(opening, error):
                yield from flows.pause_or_raise(outcome, error, attempt, deadline)
                attempt += 1

    def abandon(self, opening: Opening[OpenedT]) -> Steps[None]:
        """End what a call that nobody waits for may have opened; nothing is sent that could open another one.

        Returns when that is settled, or when nothing more is to be hoped for, and says so in the log.
        """
        flows = self._flows
        until = opening.sent_at + max(TRANSFER_S, opening.call.timeout_s or flows.settings.timeout_s)
        first_s, longest_s = _LOOK_LATE_S
        wait_s = first_s if opening.wire else 0.0
        if opening.opened is None and opening.answer is not None:  # it came when the caller was leaving
            self._take_late(opening, opening.answer)
        while opening.may_exist and opening.opened is None:
            # A session may be listed before its create is answered, and the program may end before that.
            outcome = yield Listen(
                min(wait_s, flows.left(until)) if opening.is_tracked else flows.left(until)
            )
            if outcome is not None:
                self._take_late(opening, outcome)
            elif flows.now() > until or not (opening.is_tracked or opening.wire):
                break
            else:
                opening.opened = yield from self._look(opening, flows.deadline(_LOOK_LIMIT_S))
                wait_s = min(max(2 * wait_s, first_s), longest_s)
        if not opening.may_exist:
            return
        if opening.opened is None:
            log_left(opening)
        else:
            yield from self._end(opening.opened)
            _log.info("Session %s was ended in the background.", opening.opened.session_id)
        opening.may_exist = False

    def _end(self, opened: OpenedT) -> Steps[None]:
        """End a session, whatever number of retries the caller wanted: nobody else will, and repeating is harmless."""
        flows = self._flows
        deadline = flows.deadline(_END_LIMIT_S)
        pause_s = 0.5
        while True:
            try:
                yield from flows.end_if_there(opened, deadline)
            except AgentHumanError as error:
                if not error.retryable or pause_s >= flows.left(deadline):
                    raise
            else:
                return
            yield Pause(pause_s)
            pause_s = min(2 * pause_s, 8.0)

    def _lost(
        self, opening: Opening[OpenedT], outcome: Outcome, error: AgentHumanError
    ) -> Steps[tuple[Outcome, AgentHumanError]]:
        """Learn what a lost call opened: by its answer, while that may still come, or by its reference.

        Returns:
            The call's outcome: with `opening.opened` if there is a session, else one that was surely not processed.

        Raises:
            SessionOutcomeUnknownError: It cannot be learned.
        """
        deadline = self._flows.deadline(_LOOK_LIMIT_S)
        if opening.wire:
            late = yield Listen(_GRACE_S)
            if late is None:
                raise _unknown(opening, error)
            outcome = late
            try:
                self._take(opening, late)
            except AgentHumanError as caught:
                error = caught
            if opening.opened is not None or was_not_processed(late, error):
                return outcome, error
        for wait_s in _LOOK_AFTER_S:
            if wait_s:
                yield Pause(wait_s)
            opening.opened = yield from self._look(opening, deadline)
            if opening.opened is not None:
                _log.warning(
                    "The answer to a create was lost; session %s was found by its reference. "
                    "Tokens are only in a create's own answer, so it has none.",
                    opening.opened.session_id,
                )
                return outcome, error
        raise _unknown(opening, error)

    def _take_late(self, opening: Opening[OpenedT], outcome: Outcome) -> None:
        try:
            self._take(opening, outcome)
        except AgentHumanError as error:
            if was_not_processed(outcome, error):
                opening.may_exist = False

    def _look(self, opening: Opening[OpenedT], deadline: float) -> Steps[OpenedT | None]:
        if not opening.is_tracked or opening.client_ref is None or self._flows.now() >= deadline:
            return None
        try:
            found = yield from self._flows.find_running(opening.client_ref, deadline)
        except AgentHumanError as error:
            _log.debug("Sessions could not be looked up: %s", error)
            return None
        return cast("OpenedT | None", found)  # only a create is tracked, and opens a Session

    def _take(self, opening: Opening[OpenedT], outcome: Outcome) -> OpenedT:
        opened = self._flows.read(outcome, opening.call)
        if isinstance(opened, Session):
            sent = _metadata_of(opening.call).get(CLIENT_REF)
            if opened.client_ref is not None and sent is not None and opened.client_ref != sent:
                raise APIResponseError(
                    "The service answered a create with the session of another one.",
                    request_id=outcome.request_id,
                )
            self._note_metadata(opened, sent)
        opening.opened = opened
        return opened

    def _note_metadata(self, session: Session, sent: str | None) -> None:
        if self._metadata_is_kept and (sent is None or session.client_ref != sent):
            self._metadata_is_kept = False
            _log.warning(
                "The service does not keep a session's metadata: should the answer to a create get lost, "
                "its session cannot be found again."
            )


def log_left(opening: Opening[Any], error: BaseException | None = None) -> None:
    """Name what may still run, once, because nobody can do more about it here."""
    if not opening.may_exist:
        return
    opening.may_exist = False
    if opening.opened is not None:
        what = f"Session {opening.opened.session_id} could not be ended"
    elif opening.client_ref is not None:
        what = (
            "A create was given up, and its session, if any, could not be ended; it carries metadata.client_ref "
            f"{opening.client_ref!r}, by which sessions.find finds it"
        )
    else:
        what = (
            "A start by a link was given up; its session, if any, could not be ended and carries no reference"
        )
    because = "" if error is None else f" ({type(error).__name__}: {error})"
    _log.error("%s. What runs is billed until it is ended.%s", what, because)


def _other_form(opening: Opening[OpenedT], error: AgentHumanError) -> bool:
    """Whether the refusal asks for another form of the call, which is then the next one to send."""
    if not isinstance(error, BadRequestError):
        return False
    call = opening.call
    # A statement with our reference in it quotes the request: it speaks of metadata without being about it.
    said = " ".join(each for each in _statements(error) if str(opening.client_ref) not in each)
    if call.older is not None and _ABOUT_AVATAR_ID.search(said):
        opening.call = call.older  # the documented refusal of the older, Daily-managed generation
        return True
    if opening.is_tracked and _ABOUT_METADATA.search(said):
        # Better a session that cannot be found again than none; locked by
        # test_create_goes_without_reference_when_metadata_is_refused.
        opening.call = cast("Call[OpenedT]", with_metadata(cast("Call[Session]", call), _without_marks(call)))
        return True
    return False


def _statements(error: APIStatusError) -> list[str]:
    """What a refusal says, each in full: the error's own text may be cut."""
    described = error.body.get("error") if isinstance(error.body, dict) else None
    if not isinstance(described, dict):
        return [str(described)]
    return [str(described.get(name)) for name in ("message", "code", "suggestion", "details")]


def _unknown(opening: Opening[OpenedT], error: AgentHumanError) -> SessionOutcomeUnknownError:
    name, ref = opening.name, opening.client_ref
    if opening.wire:
        said = (
            f"A {name} was not answered in time. Its request is still on its way, and what it opens is ended while "
            "this program runs."
        )
    elif ref is None:
        said = (
            f"The answer to a {name} was lost, and nothing in a list tells its session from others. It may be running, "
            "and would be billed: look for it with sessions.list() before you open another."
        )
    elif opening.is_tracked:
        said = (
            f"The answer to a {name} was lost, and no session with metadata.client_ref {ref!r} was found. It may be "
            f"running, and would be billed: look for it with sessions.find({ref!r}) before you open another."
        )
    else:
        said = (
            f"The answer to a {name} was lost, and the service refuses the metadata by which its session could be "
            "found. It may be running, and would be billed: look for it with sessions.list() before you open another."
        )
    lost = SessionOutcomeUnknownError(f"{said} What happened: {error}", client_ref=ref)
    lost.__cause__ = error
    return lost


def _metadata_of(call: Call[Any]) -> Mapping[str, Any]:
    return (call.json or {}).get("metadata") or {}


def _without_marks(call: Call[Any]) -> dict[str, Any]:
    return {key: value for key, value in _metadata_of(call).items() if key not in {CLIENT_REF, CLIENT_OWNER}}
