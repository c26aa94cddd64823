"""What the model reads: short texts that say what happened and what to do next, never a secret."""

from typing import Any

from langchain_core.tools import ToolException

from agenthuman_plugins.client import (
    AgentHumanError,
    APIResponseError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    Session,
    SessionOutcomeUnknownError,
    UsageLimitError,
)
from agenthuman_plugins.client.adapters import what_happened

CREATE = "agent_human_create_session"
GET = "agent_human_get_session"
LIST = "agent_human_list_sessions"
END = "agent_human_end_session"
SAY = "agent_human_say"

SHOWN_SESSIONS = 10  # of a list
_SHOWN_IDS = 5  # enough to correct a mistyped one
_ERROR_LIMIT = 800  # characters

IN_PROGRESS = "This very call is already opening its session. Do not retry; wait for it."
RUN_IS_OVER = "The run is over, so no session was opened. Do not retry."


def opened(session: Session) -> str:
    """A session was opened."""
    lines = [
        f"Opened session {session.session_id}; the avatar is joining the room.",
        f"It is billed until it ends: call {END} with this id when it is no longer needed.",
    ]
    if session.expiration is not None:
        lines.append(f"It ends by itself at {session.expiration.isoformat(timespec='seconds')}.")
    return "\n".join(lines)


def opened_before(session: Session) -> str:
    """The call is a repetition, and its session has been opened already."""
    if session.has_ended:
        return f"Session {session.session_id} was opened by this call before and has ended. No new one was opened."
    return f"Session {session.session_id} was opened by this call before and is still running."


def opened_too_late(session: Session) -> str:
    """The block was over before the session was there."""
    return f"The run was over before session {session.session_id} had opened, so it was ended at once. Do not retry."


def ended(session: Session) -> str:
    """A session was ended."""
    return f"Session {session.session_id} has ended and is no longer billed."


def still_running(session: Session) -> str:
    """The service took the end of a session, and did not end it."""
    return (
        f"Session {session.session_id} is still running and billed, though its end was asked for. Try again."
    )


def state(session: Session) -> str:
    """A session as it is now."""
    if not session.has_ended:
        until = (
            f"It ends by itself at {session.expiration.isoformat(timespec='seconds')}."
            if session.expiration is not None
            else f"It is billed until it ends: {END} ends it."
        )
        return f"Session {_line(session)}.\n{until}"
    minutes = session.billing.minutes_billed if session.billing is not None else None
    return f"Session {_line(session)}." + ("" if minutes is None else f"\nBilled: {minutes:g} min.")


def listed(sessions: list[Session], status: str) -> str:
    """The newest sessions, and how many more there are."""
    kind = "" if status == "all" else f"{'running' if status == 'started' else 'ended'} "
    if not sessions:
        return f"There are no {kind}sessions."
    shown = "; ".join(map(_line, sessions[:SHOWN_SESSIONS]))
    left_out = len(sessions) - SHOWN_SESSIONS
    more = f"\n{left_out} older ones are left out." if left_out > 0 else ""
    return f"{len(sessions)} {kind}session{'s' if len(sessions) > 1 else ''}, newest first: {shown}.{more}"


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


def not_opened_here(session_id: str, running: list[str]) -> str:
    """An id that this conversation does not know."""
    if not running:
        return f"Session {session_id} was not opened in this conversation, and none is running. Nothing was done."
    more = f" and {len(running) - _SHOWN_IDS} more" if len(running) > _SHOWN_IDS else ""
    return (
        f"Session {session_id} was not opened in this conversation. Nothing was done. "
        f"Running: {', '.join(running[:_SHOWN_IDS])}{more}."
    )


def failure(error: AgentHumanError) -> str:
    """What failed, whether to try again, and what to change."""
    said, request = _short(error), error.request_id
    named = f"\nRequest id: {request}" if request and request not in said else ""
    return f"{said}\n{_advice(error)}{named}"


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


def _advice(error: AgentHumanError) -> str:
    match error:
        case UsageLimitError():
            return (
                f"Do not retry. Minutes or concurrent sessions are used up: end a running session with {END}."
            )
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
        case APIResponseError():
            return "It may have been done all the same: look at the session before you try again."
        case _ if error.retryable:
            return "It was tried several times. Trying again later may help."
        case _:
            return "Do not retry."


def on_tool_error(error: ToolException) -> str:
    """Handler of the tools' own errors: without one, an agent crashes on the first."""
    return str(error)
