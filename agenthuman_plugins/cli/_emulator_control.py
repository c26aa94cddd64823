"""`agenthuman emulator health|clock|reset|export`: talk to an emulator that runs."""

import argparse
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from agenthuman_plugins.cli._arguments import Commands, add_json, seconds
from agenthuman_plugins.cli._errors import CommandError, UsageError
from agenthuman_plugins.cli._output import count, print_facts, print_json, say
from agenthuman_plugins.client.addresses import check_plain, is_this_machine

_DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT_S = 10.0
_REFUSED = 400


def add(emulator: argparse.ArgumentParser) -> None:
    """Add the actions to the command that runs an emulator."""
    actions: Commands = emulator.add_subparsers(
        title="actions on an emulator that runs",
        metavar="ACTION",
        description=f"They find it by AGENTHUMAN_BASE_URL (default: {_DEFAULT_URL}) and AGENTHUMAN_API_KEY.",
    )
    health = actions.add_parser(
        "health", help="whether it is ready", description="Show whether it is ready; needs no key."
    )
    add_json(health)
    health.set_defaults(run=_health)

    clock = actions.add_parser(
        "clock",
        help="show its clock, pause it, or move it forward",
        description="Show the clock, pause it, or move it forward: sessions, links and periods expire by it.",
    )
    moves = clock.add_mutually_exclusive_group()
    moves.add_argument("--pause", dest="move", action="store_const", const={"paused": True}, help="stop it")
    moves.add_argument(
        "--resume", dest="move", action="store_const", const={"paused": False}, help="let it go on"
    )
    moves.add_argument(
        "--advance", type=seconds, metavar="TIME", help="move it forward, by 90s, 30m, 2h or 1d"
    )
    moves.add_argument(
        "--next-expiry",
        dest="move",
        action="store_const",
        const={"advance_to": "next_expiry"},
        help="move it to where the next running session reaches its limit",
    )
    add_json(clock)
    clock.set_defaults(run=_clock)

    reset = actions.add_parser(
        "reset",
        help="forget all sessions, avatars, agents, links and faults",
        description="End all sessions and forget everything, as if it had just been started.",
    )
    reset.add_argument("--yes", action="store_true", help="without a question")
    reset.set_defaults(run=_reset)

    export = actions.add_parser(
        "export",
        help="print its whole state as JSON",
        description="Print its whole state and each session's timeline as JSON, without secrets.",
    )
    export.set_defaults(run=_export)


def _health(args: argparse.Namespace) -> int:
    health = _call("GET", "health")
    del health["success"]
    if args.json:
        print_json(health)
    else:
        sessions = health["sessions"]
        print_facts(
            {
                "status": str(health["status"]),
                "version": str(health["version"]),
                "room server": str(health["room_server"]),
                "sessions": f"{count(sessions['running'])} running, {count(sessions['total'])} in all",
            }
        )
    return 0 if health["status"] == "ok" else 1


def _clock(args: argparse.Namespace) -> None:
    move = args.move if args.advance is None else {"advance_s": args.advance}
    clock = (_call("GET", "clock") if move is None else _call("POST", "clock", move))["clock"]
    if args.json:
        print_json(clock)
    else:
        say(f"{clock['now']}{' (paused)' if clock['paused'] else ''}")


def _reset(args: argparse.Namespace) -> None:
    if not args.yes:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("To reset the emulator without a question, add --yes.")
        if input("Reset the emulator? All its sessions end. [y/N] ").strip().lower() not in {"y", "yes"}:
            raise CommandError("Nothing was reset.")
    _call("POST", "reset")
    say("Reset.")


def _export(_: argparse.Namespace) -> None:
    print_json(_call("GET", "export", field="emulator"))


def _call(
    method: str, path: str, body: dict[str, Any] | None = None, *, field: str = "success"
) -> dict[str, Any]:
    """Ask the emulator.

    Args:
        method: HTTP method.
        path: What is asked, below `/emulator/`.
        body: JSON body.
        field: Field that only an emulator answers with.

    Raises:
        CommandError: It refuses, or there is none.
    """
    import httpx  # noqa: PLC0415 - slow to import

    url = (os.environ.get("AGENTHUMAN_BASE_URL") or _DEFAULT_URL).rstrip("/")
    try:
        host = urlsplit(url).hostname
    except ValueError:
        raise CommandError(f"AGENTHUMAN_BASE_URL is no address: {url}.") from None
    if url.startswith("http://"):
        check_plain(host, name="AGENTHUMAN_BASE_URL", secure="https://…")
    key = os.environ.get("AGENTHUMAN_API_KEY", "")
    try:
        answer = httpx.request(
            method,
            f"{url}/emulator/{path}",
            json=body,
            headers={"x-api-key": key} if key else {},
            timeout=_TIMEOUT_S,
            trust_env=not is_this_machine(host),
        )
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError):
        raise CommandError(f"No emulator answers at {url}: start one with `agenthuman emulator`.") from None
    except ValueError:
        raise CommandError(f"What answers at {url} is no emulator.") from None
    if not isinstance(content, dict) or answer.status_code >= _REFUSED or field not in content:
        raise CommandError(_reason(content, url))
    return content


def _reason(content: Any, url: str) -> str:
    error = content.get("error") if isinstance(content, dict) else None
    match error:
        case {"message": str(message), "suggestion": str(advice)}:
            return f"{message}. {advice}."
        case {"message": str(message)}:
            return f"{message}."
        case str(message):
            return f"{message}: set AGENTHUMAN_API_KEY to what `agenthuman emulator` printed."
    return f"What answers at {url} is no emulator."
