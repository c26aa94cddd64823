"""`agenthuman doctor`: what keeps this machine from talking to an avatar, and what to do about it.

It is for broken installations, so it needs no extra.
"""

import argparse
import os
import platform
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from agenthuman_plugins._version import __version__
from agenthuman_plugins.cli import _installed
from agenthuman_plugins.cli._account import explained, missing_key
from agenthuman_plugins.cli._arguments import add_json
from agenthuman_plugins.cli._output import copyable, count, print_json, readable, say, wrapped
from agenthuman_plugins.cli._parser import ACCOUNT, Commands
from agenthuman_plugins.client.addresses import is_this_machine
from agenthuman_plugins.client.errors import (
    AgentHumanError,
    APIConnectionError,
    AuthenticationError,
    ConfigurationError,
)

if TYPE_CHECKING:
    from agenthuman_plugins.client import AgentHuman, Usage
    from agenthuman_plugins.client._config import Settings

_INDENT = 22  # of what was found
_LIMIT_S = 15.0  # for each call; who asks a doctor does not want to wait through retries


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        check: What was looked at.
        state: `note` is something that is not needed by everybody.
        found: What is there.
        fix: What to do about it; `None` if nothing is to be done.
    """

    check: str
    state: Literal["ok", "note", "problem"]
    found: str
    fix: str | None = None


def add(commands: Commands) -> None:
    """Add the command."""
    doctor = commands.add_parser(
        "doctor",
        help="check key, connection, plan and installation",
        description=(
            "Check the installation, the key, the connection, the plan and its free sessions, and tell how to fix"
            " what is wrong. Exit code 1 if there is a problem."
        ),
        environment=ACCOUNT,
        examples=("agenthuman doctor", "agenthuman doctor --quiet && python bot.py"),
    )
    doctor.add_argument("--quiet", action="store_true", help="show problems alone; silent if there is none")
    add_json(doctor)
    doctor.set_defaults(run=_run, extra="cli")


def _run(args: argparse.Namespace) -> int:
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not args.json and (finding.state == "problem" or not args.quiet):
            _print(finding)  # at once: the next check may take its time
    problems = sum(finding.state == "problem" for finding in findings)
    if args.json:
        print_json([asdict(finding) for finding in findings])
    elif not args.quiet:
        many = "1 problem" if problems == 1 else f"{problems} problems"
        say(f"\n{many} found." if problems else "\nNo problem found.")
    return 1 if problems else 0


def _print(finding: Finding) -> None:
    say(wrapped(f"{finding.state:<7}   {finding.check:<9}   {readable(finding.found)}", _INDENT))
    if finding.fix is not None:
        say(wrapped(f"{'':<{_INDENT}}-> {finding.fix}", _INDENT + 3))


def _examine() -> Iterator[Finding]:
    yield Finding("version", "ok", f"agenthuman-plugins {__version__}, Python {platform.python_version()}")
    for extra in _installed.extras():
        yield _extra(extra)
    yield from _service()


def _extra(extra: _installed.Extra) -> Finding:
    if extra.missing:
        found = "not installed" if not extra.versions else f"missing: {', '.join(extra.missing)}"
        return Finding(
            extra.name, "note", found, f"if wanted: pip install 'agenthuman-plugins[{extra.name}]'"
        )
    return Finding(
        extra.name, "ok", ", ".join(f"{name} {version}" for name, version in extra.versions.items())
    )


def _service() -> Iterator[Finding]:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    if missing := missing_key():
        fix = "set it; for a service without an account, run `agenthuman emulator` and export what it prints"
        yield Finding("settings", "problem", missing, fix)
        return
    try:
        client = AgentHuman(timeout=_LIMIT_S, max_retries=0)
    except ConfigurationError as error:
        yield Finding("settings", "problem", str(error), "correct the variable that is named, or unset it")
        return
    yield from _gateway()
    with client:
        yield from _account(client)


def _gateway() -> Iterator[Finding]:
    try:
        from agenthuman_plugins.speech._gateway_wire import checked_url  # noqa: PLC0415 - an extra
    except ImportError:
        return  # without the extra nobody reads the variable
    try:
        checked_url(None)
    except ConfigurationError as error:
        yield Finding(
            "gateway",
            "problem",
            str(error),
            "correct AGENTHUMAN_GATEWAY_URL, or unset it for the public gateway",
        )


def _account(client: "AgentHuman") -> Iterator[Finding]:
    settings = client._settings  # noqa: SLF001 - of this package
    try:
        usage = client.usage.get()
    except AuthenticationError as error:
        yield Finding("service", "ok", f"{settings.base_url} answers")
        yield Finding(
            "key",
            "problem",
            explained(error),
            "copy the key anew into AGENTHUMAN_API_KEY; it must be of the service at this address",
        )
        return
    except APIConnectionError as error:
        yield _not_reached(settings, error)
        return
    except AgentHumanError as error:
        fix = (
            "try again later"
            if error.retryable
            else "check that AGENTHUMAN_BASE_URL is the service's address"
        )
        yield Finding("service", "problem", f"{settings.base_url}: {explained(error)}", fix)
        return
    yield Finding("service", "ok", f"{settings.base_url} answers")
    yield Finding("key", "ok", "accepted")
    yield from _plan(usage)
    yield from _left_open(client)


def _not_reached(settings: "Settings", error: APIConnectionError) -> Finding:
    if proxy := _proxy_variable(settings):
        found = f"{settings.base_url}, through the proxy in {proxy}: {error}"
        return Finding("service", "problem", found, f"check that the proxy in {proxy} runs, or unset {proxy}")
    if is_this_machine(settings.host):
        fix = "start the emulator, or unset AGENTHUMAN_BASE_URL: `agenthuman emulator`"
    elif urlsplit(settings.base_url).scheme == "http":  # the public service is reached by https alone
        fix = "check that an emulator runs at this address and listens to others (`--host`), or unset AGENTHUMAN_BASE_URL"
    else:
        fix = "check the network and AGENTHUMAN_BASE_URL"
    return Finding("service", "problem", f"{settings.base_url}: {explained(error)}", fix)


def _proxy_variable(settings: "Settings") -> str | None:
    """The variable that names the proxy on the way to the service, if one is used."""
    if is_this_machine(settings.host) or urllib.request.proxy_bypass(settings.host):
        return None
    names = (f"{urlsplit(settings.base_url).scheme}_proxy", "all_proxy")
    spelled = [spelling for name in names for spelling in (name, name.upper())]
    return next((name for name in spelled if os.environ.get(name)), None)


def _plan(usage: "Usage") -> Iterator[Finding]:
    plan = (usage.plan and (usage.plan.name or usage.plan.key)) or "not told"
    left = usage.total_remaining
    if left is not None and left <= 0:
        yield Finding(
            "plan", "problem", f"{plan}, no minutes left", "buy minutes, or wait for the next period"
        )
    else:
        yield Finding("plan", "ok", f"{plan}, {count(left)} minutes left")

    slots = usage.concurrency
    if slots is None:
        return
    found = f"{count(slots.available)} of {count(slots.max)} free"
    if slots.available is not None and slots.available <= 0:
        fix = "see which run: `agenthuman sessions list --status started`, then `agenthuman sessions end SESSION_ID`"
        yield Finding("sessions", "problem", found, fix)
    else:
        yield Finding("sessions", "ok", found)


def _left_open(client: "AgentHuman") -> Iterator[Finding]:
    try:
        sessions = client.sessions.reap(dry_run=True)
    except AgentHumanError as error:
        yield Finding("left open", "problem", explained(error), "try again later")
        return
    if sessions:
        names = ", ".join(copyable(session.session_id) for session in sessions)
        yield Finding(
            "left open",
            "problem",
            f"billed, and their processes are dead: {names}",
            "`agenthuman sessions reap --yes`",
        )
    else:
        yield Finding("left open", "ok", "no session of a dead process of this machine")
