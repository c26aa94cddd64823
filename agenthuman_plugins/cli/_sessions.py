"""`agenthuman sessions`: see what runs and what it costs, and end it."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agenthuman_plugins.cli import _ending
from agenthuman_plugins.cli._account import connect
from agenthuman_plugins.cli._arguments import add_json, positive
from agenthuman_plugins.cli._errors import UsageError
from agenthuman_plugins.cli._output import print_facts, print_json, say
from agenthuman_plugins.cli._parser import ACCOUNT, Commands
from agenthuman_plugins.cli._session_output import as_json, facts_of, print_sessions

if TYPE_CHECKING:
    from agenthuman_plugins.client import Session


def add(commands: Commands) -> None:
    """Add the command."""
    sessions = commands.add_parser(
        "sessions",
        help="see and end the sessions of the account",
        description="See and end sessions.",
        environment=ACCOUNT,
        examples=(
            "agenthuman sessions list --status started",
            "agenthuman sessions end --older-than 2h",
            "agenthuman sessions reap --yes",
        ),
    )
    actions = sessions.add_actions("actions")

    listing = actions.add_parser(
        "list",
        help="list sessions",
        description="List sessions.",
        environment=ACCOUNT,
        examples=(
            "agenthuman sessions list --limit 10",
            "agenthuman sessions list --status started --json | jq -r '.[].session_id'",
        ),
    )
    listing.add_argument(
        "--status",
        choices=("all", "started", "ended"),
        default="all",
        help="which ones (default: %(default)s)",
    )
    listing.add_argument(
        "--limit",
        type=positive(int, "a whole number"),
        metavar="N",
        help="the newest N (default: all, as the service has them)",
    )
    listing.set_defaults(run=_list)

    getting = actions.add_parser(
        "get",
        help="show a session",
        description="Show a session, its bill included.",
        environment=ACCOUNT,
        examples=("agenthuman sessions get sess_01M7ZYR1PK909RFKV41J60KW2E",),
    )
    getting.add_argument("session_id", metavar="SESSION_ID")
    getting.set_defaults(run=_get)

    _ending.add(actions)

    reaping = actions.add_parser(
        "reap",
        help="end what crashed processes left open",
        description=(
            "List the sessions whose process ran on this machine and is dead; with --yes, end them. A session"
            " without a mark of its process, or with one from another machine, is never among them."
        ),
        environment=ACCOUNT,
        examples=(
            "agenthuman sessions reap",
            "agenthuman sessions reap --yes",
            "agenthuman sessions reap --owner HOST:MACHINE:PID:START --yes",
        ),
    )
    reaping.add_argument("--yes", action="store_true", help="end them; without, they are only listed")
    reaping.add_argument(
        "--owner",
        metavar="MARK",
        help="instead, those of this owner, running or not: the whole client_owner in their metadata",
    )
    reaping.set_defaults(run=_reap)

    for action in (listing, getting, reaping):
        add_json(action)
        action.set_defaults(extra="cli")


def _list(args: argparse.Namespace) -> None:
    with connect() as client:
        found = client.sessions.list(args.status)
    sessions = found if args.limit is None else _newest(found)[: args.limit]
    if args.json:
        print_json([as_json(session) for session in sessions])
    elif sessions:
        print_sessions(sessions)
        if len(sessions) < len(found):
            say(f"\n{len(sessions)} of {len(found)} sessions, the newest first.")
    else:
        say("No sessions." if args.status == "all" else f"No sessions with status {args.status!r}.")


def _newest(sessions: "Sequence[Session]") -> "list[Session]":
    """Those that began last come first; the order of the service's answer is not documented."""
    earliest = datetime.min.replace(tzinfo=UTC)
    return sorted(sessions, key=lambda session: session.started_at or earliest, reverse=True)


def _get(args: argparse.Namespace) -> None:
    with connect() as client:
        session = client.sessions.get(args.session_id)
    if args.json:
        print_json(as_json(session))
    else:
        print_facts(facts_of(session))


def _reap(args: argparse.Namespace) -> None:
    if args.owner is not None and not args.owner.strip():
        raise UsageError("--owner needs the whole client_owner that `agenthuman sessions get` shows.")
    with connect() as client:
        found = client.sessions.reap(owner=args.owner, dry_run=True)
        if found and not args.json:
            print_sessions(found)
        if found and args.yes:
            found = client.sessions.reap(owner=args.owner)
    if args.json:
        print_json({"ended": args.yes, "sessions": [as_json(session) for session in found]})
    elif not found:
        say("No session is left open.")
    else:
        many = "1 session" if len(found) == 1 else f"{len(found)} sessions"
        say(f"\nEnded {many}." if args.yes else f"\nTo end {many}, add --yes.")
