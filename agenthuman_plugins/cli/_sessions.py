"""`agenthuman sessions`: see what runs and what it costs, and end it."""

import argparse

from agenthuman_plugins.cli import _ending
from agenthuman_plugins.cli._arguments import Commands, add_json
from agenthuman_plugins.cli._output import print_facts, print_json, say
from agenthuman_plugins.cli._session_output import as_json, facts_of, print_sessions


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

    _ending.add(actions)

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

    for action in (listing, getting, reaping):
        add_json(action)
        action.set_defaults(extra="cli")


def _list(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
        sessions = client.sessions.list(args.status)
    if args.json:
        print_json([as_json(session) for session in sessions])
    elif sessions:
        print_sessions(sessions)
    else:
        say("No sessions." if args.status == "all" else f"No sessions with status {args.status!r}.")


def _get(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
        session = client.sessions.get(args.session_id)
    if args.json:
        print_json(as_json(session))
    else:
        print_facts(facts_of(session))


def _reap(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
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
