"""How sessions are shown: as a table, as facts, as JSON."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agenthuman_plugins.cli._output import NOTHING, copyable, count, distance, moment, print_table, span
from agenthuman_plugins.client.redaction import redact

if TYPE_CHECKING:
    from agenthuman_plugins.client import Session


def print_sessions(sessions: "Sequence[Session]") -> None:
    """Print a table of sessions."""
    print_table(
        ("SESSION", "STATUS", "STARTED", "DURATION", "MINUTES"),
        [
            (
                copyable(session.session_id),
                session.status or NOTHING,
                distance(session.started_at),
                span(session.duration),
                NOTHING if session.billing is None else count(session.billing.minutes_consumed),
            )
            for session in sessions
        ],
    )


def facts_of(session: "Session") -> dict[str, str]:
    """All that there is to tell about a session, but no secret."""
    facts = {
        "session": copyable(session.session_id),
        "status": session.status or NOTHING,
        "started": moment(session.started_at),
        "ended": moment(session.ended_at),
        "duration": span(session.duration),
        "ends by itself": NOTHING if session.has_ended else moment(session.expiration),
        "aspect ratio": session.aspect_ratio or NOTHING,
        "avatar": (session.avatar and session.avatar.avatar_id) or NOTHING,
        "metadata": json.dumps(redact(session.metadata)),
    }
    if session.billing is not None:
        facts["minutes used"] = count(session.billing.minutes_consumed)
        facts["minutes billed"] = count(session.billing.minutes_billed)
        facts["billing"] = session.billing.billing_status or NOTHING
    return facts


def as_json(session: "Session") -> Any:
    """A session for a program, tokens masked."""
    # Pydantic cannot write all JSON: it may be too deep, or hold lone surrogates.
    as_it_came = {"metadata": session.metadata, **(session.model_extra or {})}
    return redact({**session.model_dump(mode="json", exclude=set(as_it_came)), **as_it_came})
