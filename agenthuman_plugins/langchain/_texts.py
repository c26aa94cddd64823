"""What the model reads: short texts that say what happened and what to do next, never a secret."""

from typing import Any

from langchain_core.tools import ToolException
from pydantic import ValidationError

from agenthuman_plugins.client import (
    AgentHumanError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    Session,
    SessionOutcomeUnknownError,
    UsageLimitError,
)

CREATE = "agent_human_create_session"
END = "agent_human_end_session"

_SHOWN_IDS = 5  # enough to correct a mistyped one


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


def ended(session: Session) -> str:
    """A session was ended."""
    return f"Session {session.session_id} has ended and is no longer billed."


def artifact(session: Session) -> dict[str, Any]:
    """The session for programs: plain JSON, for traces and checkpoints keep it in clear."""
    fields = {"session_id", "status", "aspect_ratio", "started_at", "ended_at", "expiration", "duration"}
    return session.model_dump(mode="json", include=fields, exclude_none=True)


def not_opened_here(session_id: str, running: list[str]) -> str:
    """An id that this conversation does not know."""
    shown = session_id if len(session_id) <= 60 and session_id.isprintable() else "with this id"  # noqa: PLR2004
    if not running:
        return f"Session {shown} was not opened in this conversation, and none is running. Nothing was ended."
    more = f" and {len(running) - _SHOWN_IDS} more" if len(running) > _SHOWN_IDS else ""
    return (
        f"Session {shown} was not opened in this conversation. Nothing was ended. "
        f"Running: {', '.join(running[:_SHOWN_IDS])}{more}."
    )


def failure(error: AgentHumanError) -> str:
    """What failed, whether to try again, and what to change."""
    return f"{error}\n{_advice(error)}"


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
        case BadRequestError() | ConfigurationError():
            return "Do not retry with the same arguments; change what is named above."
        case NotFoundError():
            return "Do not retry with the same arguments: what they name does not exist."
        case SessionOutcomeUnknownError():
            return "Do not retry: a session may be running and billed. Tell the user."
        case _ if error.retryable:
            return "It was tried several times. Trying again later may help."
        case _:
            return "Do not retry."


def on_tool_error(error: ToolException) -> str:
    """Handler of the tools' own errors: without one, an agent crashes on the first."""
    return str(error)


def on_invalid_arguments(error: ValidationError | Any) -> str:
    """Handler of arguments that do not fit the schema; the values stay out, since one may be a megabyte."""
    if not isinstance(error, ValidationError):
        return "The arguments do not fit the tool's schema. Change them and try again."
    wrong = {
        ".".join(map(str, item["loc"])) or "arguments": item["msg"]
        for item in error.errors(include_url=False)
    }
    listed = "; ".join(f"{name[:60]}: {message[:120]}" for name, message in list(wrong.items())[:_SHOWN_IDS])
    return f"The arguments do not fit the tool's schema ({listed}). Change them and try again."
