"""`agenthuman sessions`: see what runs and what it costs, and end it."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from agenthuman_plugins.cli._arguments import Commands, add_json
from agenthuman_plugins.cli._output import (
    NOTHING,
    count,
    moment,
    print_facts,
    print_json,
    print_table,
    say,
    span,
)
from agenthuman_plugins.client.redaction import redact

if TYPE_CHECKING:
    from agenthuman_plugins.client import Session


def add(commands: Commands) -> None:
    """Add the command."""
    sessions = commands.add_parser(
        "sessions", help="see and end the sessions of the account", description="See and end sessions."
    )
    actions = sessions.add_subparsers(title="actions", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="list sessions", description="List sessions.")
    listing.add_argument(
        "--status",
        choices=("all", "started", "ended"),
        default="all",
        help="which ones (default: %(default)s)",
    )
    listing.set_defaults(run=_list)

    getting = actions.add_parser("get", help="show a session", description="Show a session.")
    getting.add_argument("session_id", metavar="SESSION_ID")
    getting.set_defaults(run=_get)

    ending = actions.add_parser(
        "end",
        help="end a session, and with it its billing",
        description="End a session, and with it its billing. Harmless when repeated.",
    )
    ending.add_argument("session_id", metavar="SESSION_ID")
    ending.set_defaults(run=_end)

    reaping = actions.add_parser(
        "reap",
        help="end what crashed processes left open",
        description=(
            "List the sessions whose process ran on this machine and is dead; with --yes, end them. A session"
            " without a mark of its process, or with one from another machine, is never among them."
        ),
    )
    reaping.add_argument("--yes", action="store_true", help="end them; without, they are only listed")
    reaping.add_argument(
        "--owner",
        metavar="MARK",
        help="instead, those of this owner, running or not: the whole client_owner in their metadata",
    )
    reaping.set_defaults(run=_reap)

    for action in (listing, getting, ending, reaping):
        add_json(action)
        action.set_defaults(extra="cli")


def _list(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
        sessions = client.sessions.list(args.status)
    if args.json:
        print_json([_as_json(session) for session in sessions])
    elif sessions:
        _print_sessions(sessions)
    else:
        say("No sessions." if args.status == "all" else f"No sessions with status {args.status!r}.")


def _get(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
        session = client.sessions.get(args.session_id)
    if args.json:
        print_json(_as_json(session))
    else:
        print_facts(_facts(session))


def _end(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
        session = client.sessions.end(args.session_id)
    if args.json:
        print_json(_as_json(session))
    else:
        say(f"Ended {session.session_id}.")


def _reap(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
        found = client.sessions.reap(owner=args.owner, dry_run=True)
        if found and not args.json:
            _print_sessions(found)
        if found and args.yes:
            found = client.sessions.reap(owner=args.owner)
    if args.json:
        print_json({"ended": args.yes, "sessions": [_as_json(session) for session in found]})
    elif not found:
        say("No session is left open.")
    else:
        many = "1 session" if len(found) == 1 else f"{len(found)} sessions"
        say(f"\nEnded {many}." if args.yes else f"\nTo end {many}, add --yes.")


def _print_sessions(sessions: "list[Session]") -> None:
    print_table(
        ("SESSION", "STATUS", "STARTED", "DURATION", "ENDS BY ITSELF", "MINUTES BILLED"),
        [
            (
                session.session_id,
                session.status or NOTHING,
                moment(session.started_at),
                span(session.duration),
                NOTHING if session.has_ended else moment(session.expiration),
                NOTHING if session.billing is None else count(session.billing.minutes_billed),
            )
            for session in sessions
        ],
    )


def _facts(session: "Session") -> dict[str, str]:
    facts = {
        "session": session.session_id,
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


def _as_json(session: "Session") -> Any:
    return redact(session.model_dump(mode="json"))
