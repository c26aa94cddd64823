"""What the model reads: short texts that say what happened and what to do next, never a secret."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from langchain_core.tools import ToolException

from agenthuman_plugins.client import (
    AgentHumanError,
    APIResponseError,
    AuthenticationError,
    Avatar,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    Session,
    SessionOutcomeUnknownError,
    Usage,
    UsageLimitError,
)
from agenthuman_plugins.client.adapters import what_happened
from agenthuman_plugins.langchain._ledger import Entry

if TYPE_CHECKING:  # it loads the speech links
    from agenthuman_plugins.langchain._speech import Spoken

CREATE = "agent_human_create_session"
GET = "agent_human_get_session"
LIST = "agent_human_list_sessions"
END = "agent_human_end_session"
SAY = "agent_human_say"
AVATARS = "agent_human_list_avatars"
USAGE = "agent_human_get_usage"

SHOWN_SESSIONS = 10  # of a list
SHOWN_AVATARS = 30
_SHOWN_IDS = 5  # enough to correct a mistyped one
_ERROR_LIMIT = 800  # characters

IN_PROGRESS = "The same call is still being carried out. Do not retry."
RUN_IS_OVER = "The run is over, so no session was opened. Do not retry."
NOT_SPOKEN = "The run is over; this was not spoken, or not to its end. Do not retry."

_DESCRIPTIONS = {
    CREATE: "Open a live video session with a talking avatar. It is billed by the minute until it ends, so open one only "
    "when it is needed.",
    GET: "Get the state of a video session: whether it is running, for how long, and when it ends by itself.",
    LIST: "List video sessions, the newest first.",
    END: "End a video session, and with it its billing. Harmless when repeated.",
    SAY: "Speak a text through the avatar of a session. Returns once it has been played, and reports how much was heard.",
    AVATARS: "List the avatars that a video session can show.",
    USAGE: "Get the minutes that are left, and how many more video sessions can run at the same time.",
}


def description(name: str, offered: Collection[str]) -> str:
    """What a tool does, and the others of those offered that it goes with."""
    said = _DESCRIPTIONS[name]
    if name == CREATE and END in offered:
        said += f" {END} ends it."
    if name == END and SAY in offered:
        said += f" Texts of earlier {SAY} calls, in the same message too, are spoken to the end first."
    if name == SAY and END in offered:
        said += f" To say goodbye, call this before {END}, never after it."
    return said


def opened(session: Session, offered: Collection[str]) -> str:
    """A session was opened."""
    how = f": call {END} with this id when it is no longer needed" if END in offered else ""
    lines = [
        f"Opened session {session.session_id}; the avatar is joining the room.",
        f"It is billed until it ends{how}.",
    ]
    if session.expiration is not None:
        lines.append(f"It ends by itself at {session.expiration.isoformat(timespec='seconds')}.")
    return "\n".join(lines)


def opened_before(session: Session) -> str:
    """The call is a repetition, and its session is running."""
    return f"Session {session.session_id} was opened by this call before and is still running."


def opened_too_late(session: Session) -> str:
    """The block was over before the session was there."""
    return f"The run was over before session {session.session_id} had opened, so it was ended at once. Do not retry."


def ended(session: Session) -> str:
    """A session was ended."""
    return f"Session {session.session_id} has ended and is no longer billed."


def still_running(session: Session) -> str:
    """The service took the end of a session, and did not end it."""
    return f"Session {session.session_id} is still running and billed, though its end was asked for."


def state(session: Session, offered: Collection[str]) -> str:
    """A session as it is now."""
    if not session.has_ended:
        until = (
            f"It ends by itself at {session.expiration.isoformat(timespec='seconds')}."
            if session.expiration is not None
            else f"It is billed until it ends{f': {END} ends it' if END in offered else ''}."
        )
        return f"Session {_line(session)}.\n{until}"
    return f"Session {_line(session)}.{_billed(session)}"


def has_ended(session_id: str, offered: Collection[str]) -> str:
    """Nothing can be spoken any more."""
    more = " Open a new one if it is still needed." if CREATE in offered else ""
    return f"Session {session_id} has ended, so nothing was spoken.{more}"


def ended_again(session_id: str) -> str:
    """The application did not want the session that was opened for it."""
    return f"Session {session_id} was opened, and the application ended it at once: no avatar is running."


def ended_by_this_message(session_id: str) -> str:
    """The same message ends the session first."""
    return (
        f"Nothing was spoken, because the same message ends session {session_id} first. To say goodbye, call {SAY} "
        f"before {END}."
    )


def only_where_it_was_opened(session_id: str, offered: Collection[str]) -> str:
    """What speaking needs is not known to this process."""
    more = ": end it, and open a new one if speech is needed" if {CREATE, END} <= set(offered) else ""
    return (
        f"Session {session_id} is running, but only the process that opened it can speak through it. Do not "
        f"retry{more}."
    )


def after_a_loss(offered: Collection[str], *, one_link: bool) -> str:
    """What to do when a session lost its connection."""
    if one_link:
        more = " Open a new one if the avatar is still needed." if CREATE in offered else ""
        return f"The session ended with its connection.{more}"
    more = f" If it fails again, call {END}." if END in offered else ""
    return f"Trying again once may help.{more}"


def reached_its_limit(limit_s: float) -> str:
    """Why the toolkit ended a session."""
    return f"a session may last at most {limit_s:g} s"


def was_idle(limit_s: float) -> str:
    """Why the toolkit ended a session."""
    return f"it was not used for {limit_s:g} s"


def with_news(said: str, ended_by_us: list[Entry]) -> str:
    """A result, and which sessions the toolkit has ended by itself."""
    notes = [
        f"Note: session {entry.session_id} was ended automatically: {entry.because}." for entry in ended_by_us
    ]
    return "\n".join([said, *notes])


def listed(sessions: list[Session], status: str, whose: str, unread: int) -> str:
    """The newest sessions, how many more there are, and how many nobody could look at."""
    kind = "" if status == "all" else f"{'running' if status == 'started' else 'ended'} "
    hidden = f"\n{unread} more sessions of the account could not be checked." if unread else ""
    if not sessions:
        return f"There are no {kind}sessions{whose}.{hidden}"
    shown = "; ".join(map(_line, sessions[:SHOWN_SESSIONS]))
    left_out = len(sessions) - SHOWN_SESSIONS
    more = f"\n{left_out} older ones are left out." if left_out > 0 else ""
    return f"{len(sessions)} {kind}session{'s' if len(sessions) > 1 else ''}, newest first: {shown}.{more}{hidden}"


def spoken(session_id: str, spoken: "Spoken") -> tuple[str, dict[str, Any]]:
    """How a text was spoken, for the model and for programs."""
    content = (
        f"Spoken: {spoken.seconds:.1f} s."
        if spoken.complete
        else f"Interrupted after {spoken.seconds_played:.1f} of {spoken.seconds:.1f} s."
    )
    return content, {
        "session_id": session_id,
        "seconds": round(spoken.seconds, 3),
        "seconds_played": round(spoken.seconds_played, 3),
        "complete": spoken.complete,
    }


def avatars(avatars: list[Avatar]) -> str:
    """Avatars that a session can show."""
    if not avatars:
        return "There are no avatars."
    shown = "; ".join(
        f"{avatar.avatar_id} ({', '.join(avatar.tags)})" if avatar.tags else avatar.avatar_id
        for avatar in avatars[:SHOWN_AVATARS]
    )
    left_out = len(avatars) - SHOWN_AVATARS
    return f"Avatars: {shown}." + (f"\n{left_out} more are left out." if left_out > 0 else "")


def avatars_artifact(avatars: list[Avatar]) -> dict[str, Any]:
    """The avatars for programs, without their pictures, whose addresses are signed."""
    fields = {"avatar_id", "name", "tags"}
    return {
        "avatars": [avatar.model_dump(mode="json", include=fields, exclude_none=True) for avatar in avatars]
    }


def usage(usage: Usage) -> str:
    """What is left to spend."""
    told: list[str] = []
    if usage.total_remaining is not None:
        told.append(f"{usage.total_remaining:g} minutes are left")
    if usage.concurrency is not None and usage.concurrency.available is not None:
        of = "" if usage.concurrency.max is None else f" of {usage.concurrency.max}"
        told.append(f"{usage.concurrency.available}{of} concurrent sessions are free")
    return f"{'; '.join(told)}." if told else "The service did not say what is left."


def usage_artifact(usage: Usage) -> dict[str, Any]:
    """The account's usage for programs."""
    return usage.model_dump(mode="json", exclude_none=True)


def artifact(session: Session) -> dict[str, Any]:
    """The session for programs: plain JSON, for traces and checkpoints keep it in clear."""
    fields = {"session_id", "status", "aspect_ratio", "started_at", "ended_at", "expiration", "duration"}
    return session.model_dump(mode="json", include=fields, exclude_none=True)


def list_artifact(sessions: list[Session]) -> dict[str, Any]:
    """The list for programs."""
    return {
        "sessions": [artifact(session) for session in sessions[:SHOWN_SESSIONS]],
        "left_out": max(0, len(sessions) - SHOWN_SESSIONS),
    }


def not_known(session_id: str, running: list[str], *, others: bool, offered: Collection[str]) -> str:
    """A session that the call may not name; only what is known is said of others."""
    if others:
        return f"Session {session_id} belongs to another agent of this conversation. Nothing was done."
    said = f"Nothing was done: {session_id} is not known here as a session of this conversation."
    if running:
        more = f" and {len(running) - _SHOWN_IDS} more" if len(running) > _SHOWN_IDS else ""
        return f"{said} Running: {', '.join(running[:_SHOWN_IDS])}{more}."
    return f"{said} {LIST} shows those that are." if LIST in offered else said


def failure(error: AgentHumanError, offered: Collection[str], running: list[str]) -> str:
    """What failed, whether to try again, and what to change.

    Args:
        error: What the service said.
        offered: The tools that the model has.
        running: Sessions that are the model's to end.
    """
    said, request = _short(error), error.request_id
    named = f"\nRequest id: {request}" if request and request not in said else ""
    return f"{said}\n{_advice(error, offered, running)}{named}"


def _billed(session: Session) -> str:
    """What an ended session cost, and of which minutes; a session of mixed ones is billed for the purchased part."""
    billing = session.billing
    if billing is None or (billing.minutes_consumed is None and billing.minutes_billed is None):
        return ""
    used = billing.minutes_consumed if billing.minutes_consumed is not None else billing.minutes_billed
    if billing.minutes_source == "mixed" and billing.minutes_billed is not None:
        return f"\nUsed: {used:g} min, of which {billing.minutes_billed:g} were purchased minutes."
    source = {"plan": " of the plan", "included": " of the plan", "purchased": " of purchased minutes"}
    return f"\nUsed: {used:g} min{source.get(billing.minutes_source or '', '')}."


def _line(session: Session) -> str:
    lasts = "" if session.duration is None else f" {session.duration:.0f} s"
    said = (
        f"has ended{lasts and f' after{lasts}'}"
        if session.has_ended
        else f"is running{lasts and f' for{lasts}'}"
    )
    return f"{session.session_id} {said}"


def _short(error: AgentHumanError) -> str:
    # A proxy may answer with a whole page.
    said = " ".join(what_happened(error).split())
    return said if len(said) <= _ERROR_LIMIT else f"{said[:_ERROR_LIMIT]}…"


def _advice(error: AgentHumanError, offered: Collection[str], running: list[str]) -> str:
    match error:
        case UsageLimitError():
            return _at_the_limit(error, offered, running)
        case AuthenticationError():
            return "Do not retry. The API key of the application is wrong or inactive; only its operator can fix that."
        case PermissionDeniedError():
            return "Do not retry with the same avatar: the account may not use it."
        case BadRequestError():
            return "Do not retry with the same arguments; change what is named above."
        case NotFoundError():
            return "Do not retry with the same arguments: what they name does not exist."
        case SessionOutcomeUnknownError():
            return "Do not retry: a session may be running and billed. Tell the user."
        case APIResponseError() if LIST in offered:
            return f"It may have been done all the same: look with {LIST} before you try again."
        case APIResponseError():
            return "It may have been done all the same. Do not retry."
        case _ if error.retryable:
            return "It was tried several times. Trying again later may help."
        case _:
            return "Do not retry."


def _at_the_limit(error: UsageLimitError, offered: Collection[str], running: list[str]) -> str:
    if error.limit != "concurrency":
        return "Do not retry: the account has used up what it may use. Only its operator can change that."
    if running and END in offered:
        return f"Do not retry before a session is ended. Yours: {', '.join(running[:_SHOWN_IDS])}."
    return (
        "Do not retry now: the account already runs as many sessions as it may at the same time. Trying again later "
        "may help."
    )


def on_tool_error(error: ToolException) -> str:
    """Handler of the tools' own errors: without one, an agent crashes on the first."""
    return str(error)
