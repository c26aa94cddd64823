"""`agenthuman sessions end`: end sessions by their ids, or those that run and match."""

import argparse
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agenthuman_plugins.cli._account import connect, explained
from agenthuman_plugins.cli._arguments import add_json, seconds
from agenthuman_plugins.cli._errors import CommandError, UsageError
from agenthuman_plugins.cli._output import agrees, can_ask, copyable, print_json, readable, say
from agenthuman_plugins.cli._parser import ACCOUNT, Commands
from agenthuman_plugins.cli._session_output import as_json, print_sessions
from agenthuman_plugins.client.errors import AgentHumanError

if TYPE_CHECKING:
    from agenthuman_plugins.client import AgentHuman, Session


def add(actions: Commands) -> None:
    """Add the action."""
    ending = actions.add_parser(
        "end",
        help="end sessions, and with them their billing",
        description=(
            "End sessions, and with them their billing: those named, or the running ones that match all options, which"
            " are listed first. A session that cannot be ended does not keep the others open."
        ),
        environment=ACCOUNT,
        examples=(
            "agenthuman sessions end sess_01M7ZYR1PK909RFKV41J60KW2E",
            "agenthuman sessions end --metadata customer=42 --older-than 2h",
            "agenthuman sessions end --all --yes",
        ),
    )
    ending.add_argument(
        "session_ids", nargs="*", metavar="SESSION_ID", help="sessions to end; harmless when repeated"
    )
    ending.add_argument("--all", action="store_true", help="all running sessions of the account")
    ending.add_argument(
        "--metadata",
        type=_pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="running sessions with this in their metadata; repeat it, and all must match",
    )
    ending.add_argument(
        "--older-than",
        type=seconds,
        metavar="TIME",
        help="running sessions that began longer ago, such as 90s, 30m, 2h or 1d",
    )
    ending.add_argument("--yes", action="store_true", help="end the matching ones without a question")
    add_json(ending)
    ending.set_defaults(run=_run, extra="cli")


def _run(args: argparse.Namespace) -> None:
    choosing = args.all or args.metadata or args.older_than is not None
    if choosing and args.session_ids:
        raise UsageError("Name the sessions to end, or choose them by options, but not both.")
    if not choosing and not args.session_ids:
        raise UsageError("Which sessions? Name their ids, or use --all, --metadata or --older-than.")

    with connect() as client:
        if choosing:
            _end_matching(client, args)
        elif len(args.session_ids) == 1:
            ended = client.sessions.end(args.session_ids[0])
            _tell_ended(ended, args)
            if args.json:
                print_json(as_json(ended))
        else:
            _end_each(client, args.session_ids, args, _Failures())


class _Failures:
    """What could not be looked at or ended, by session, and why."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}

    def note(self, session_id: str, error: AgentHumanError) -> None:
        self.by_id[session_id] = readable(explained(error))

    def raise_if_any(self) -> None:
        """Raise what ends the command, if anything failed."""
        if self.by_id:
            many = "1 session" if len(self.by_id) == 1 else f"{len(self.by_id)} sessions"
            reasons = "; ".join(f"{session_id}: {reason}" for session_id, reason in self.by_id.items())
            raise CommandError(f"{many} could not be ended. {reasons}")


def _end_matching(client: "AgentHuman", args: argparse.Namespace) -> None:
    failures = _Failures()
    matching = [
        session
        for session in client.sessions.list("started")
        if not session.has_ended
        and _is_older(session, args.older_than)
        and _has(session, args.metadata, client, failures)
    ]
    if matching and not args.json:
        print_sessions(matching)
    if matching and not args.yes:
        _ask(matching, args, failures)
    if not matching and not args.json:
        say("No running session matches.")
    _end_each(client, [session.session_id for session in matching], args, failures)


def _ask(sessions: "list[Session]", args: argparse.Namespace, failures: _Failures) -> None:
    """Go on only if a person says so.

    Raises:
        UsageError: There is no terminal to ask on.
        CommandError: The person does not.
    """
    many = "this session" if len(sessions) == 1 else f"these {len(sessions)} sessions"
    if args.json or not can_ask():
        if args.json:
            _print_outcome(sessions, failures, ended=False)
        raise UsageError(f"To end {many} without a question, add --yes.")
    if not agrees(f"\nEnd {many}?"):
        raise CommandError("Nothing was ended.")


def _end_each(
    client: "AgentHuman", session_ids: Iterable[str], args: argparse.Namespace, failures: _Failures
) -> None:
    """End sessions one after the other; each is told at once.

    Raises:
        CommandError: Some could not be ended.
    """
    ended: list[Session] = []
    for session_id in session_ids:
        try:
            ended.append(client.sessions.end(session_id))
        except AgentHumanError as error:
            failures.note(session_id, error)
        else:
            _tell_ended(ended[-1], args)
    if args.json:
        _print_outcome(ended, failures, ended=True)
    failures.raise_if_any()


def _print_outcome(sessions: "list[Session]", failures: _Failures, *, ended: bool) -> None:
    shown = [as_json(session) for session in sessions]
    print_json({"ended": ended, "sessions": shown, "failed": failures.by_id})


def _tell_ended(session: "Session", args: argparse.Namespace) -> None:
    if not args.json:
        say(f"Ended {copyable(session.session_id)}.")


def _is_older(session: "Session", limit_s: float | None) -> bool:
    """Whether a session began longer ago; not, if the service does not tell its age."""
    if limit_s is None:
        return True
    if session.duration is not None:  # by the clock of the service, which may cut it to whole seconds
        return session.duration >= limit_s
    return (
        session.started_at is not None and (datetime.now(UTC) - session.started_at).total_seconds() >= limit_s
    )


def _has(
    session: "Session", wanted: list[tuple[str, str]], client: "AgentHuman", failures: _Failures
) -> bool:
    """Whether a session has all the metadata; where the list carries none, the session itself is read."""
    if not wanted:
        return True
    metadata = session.metadata
    if not metadata:
        try:
            metadata = client.sessions.get(session.session_id).metadata
        except AgentHumanError as error:
            failures.note(session.session_id, error)
            return False
    return isinstance(metadata, dict) and all(
        key in metadata and _is(metadata[key], value) for key, value in wanted
    )


def _is(value: Any, text: str) -> bool:
    """Whether a value of the metadata is the one that was typed: a text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value == text
    try:
        return json.dumps(value, sort_keys=True) == json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return False


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
