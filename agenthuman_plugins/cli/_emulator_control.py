"""`agenthuman emulator health|clock|reset|export`: talk to an emulator that runs."""

import argparse
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from agenthuman_plugins.cli._arguments import add_json, seconds
from agenthuman_plugins.cli._errors import CommandError, UsageError
from agenthuman_plugins.cli._output import agrees, can_ask, count, print_facts, print_json, say
from agenthuman_plugins.cli._parser import Commands, Parser
from agenthuman_plugins.client.addresses import is_this_machine

_DEFAULT_URL = "http://127.0.0.1:8000"
_RUNNING = {
    "AGENTHUMAN_BASE_URL": f"its address (default: {_DEFAULT_URL})",
    "AGENTHUMAN_API_KEY": "its key, as it was printed at the start",
}
_TIMEOUT_S = 10.0
_REFUSED, _NOT_FOUND = 400, 404


def add(emulator: Parser) -> None:
    """Add the actions to the command that runs an emulator."""
    actions: Commands = emulator.add_subparsers(
        title="actions on an emulator that runs",
        metavar="ACTION",
        prog="agenthuman emulator",
        description=f"They find it by AGENTHUMAN_BASE_URL (default: {_DEFAULT_URL}) and AGENTHUMAN_API_KEY.",
    )
    health = actions.add_parser(
        "health",
        help="whether it is ready",
        description="Show whether it is ready; needs no key.",
        environment=_RUNNING,
        examples=("agenthuman emulator health",),
    )
    add_json(health)
    health.set_defaults(run=_of_the_running(_health))

    clock = actions.add_parser(
        "clock",
        help="show its clock, pause it, or move it forward",
        description="Show the clock, pause it, or move it forward: sessions, links and periods expire by it.",
        environment=_RUNNING,
        examples=(
            "agenthuman emulator clock --pause",
            "agenthuman emulator clock --advance 2h",
            "agenthuman emulator clock --next-expiry",
        ),
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
    clock.set_defaults(run=_of_the_running(_clock))

    reset = actions.add_parser(
        "reset",
        help="forget all sessions, avatars, agents, links and faults",
        description="End all sessions and forget everything, as if it had just been started.",
        environment=_RUNNING,
        examples=("agenthuman emulator reset --yes",),
    )
    reset.add_argument("--yes", action="store_true", help="without a question")
    reset.set_defaults(run=_of_the_running(_reset))

    export = actions.add_parser(
        "export",
        help="print its whole state as JSON",
        description="Print its whole state and each session's timeline as JSON, without secrets.",
        environment=_RUNNING,
        examples=("agenthuman emulator export > state.json",),
    )
    export.set_defaults(run=_of_the_running(_export))


def _of_the_running(
    action: Callable[[argparse.Namespace], int | None],
) -> Callable[[argparse.Namespace], int | None]:
    """Refuse the address that an emulator would be started at: the action would silently go to another one."""

    def run(args: argparse.Namespace) -> int | None:
        if args.host is not None or args.port is not None:
            raise UsageError(
                "--host and --port are for starting an emulator: set AGENTHUMAN_BASE_URL to reach another."
            )
        return action(args)

    return run


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
        if not can_ask():
            raise UsageError("To reset the emulator without a question, add --yes.")
        if not agrees("Reset the emulator? All its sessions end."):
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

    from agenthuman_plugins.client._config import read_base_url  # noqa: PLC0415 - slow to import

    url = read_base_url(default=_DEFAULT_URL)
    key = os.environ.get("AGENTHUMAN_API_KEY", "")
    try:
        answer = httpx.request(
            method,
            f"{url}/emulator/{path}",
            json=body,
            headers={"x-api-key": key} if key else {},
            timeout=_TIMEOUT_S,
            trust_env=not is_this_machine(urlsplit(url).hostname),
        )
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError):
        raise CommandError(f"No emulator answers at {url}: start one with `agenthuman emulator`.") from None
    except ValueError:
        raise CommandError(_no_emulator(url)) from None
    if answer.status_code == _NOT_FOUND:
        raise CommandError(_no_emulator(url))
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
    return _no_emulator(url)


def _no_emulator(url: str) -> str:
    return f"What answers at {url} is no emulator: set AGENTHUMAN_BASE_URL to what `agenthuman emulator` printed."
