"""`agenthuman usage`: what the account has used, and what is left."""

import argparse
from typing import TYPE_CHECKING

from agenthuman_plugins.cli._account import connect
from agenthuman_plugins.cli._arguments import add_json
from agenthuman_plugins.cli._output import NOTHING, count, day, print_facts, print_json
from agenthuman_plugins.cli._parser import ACCOUNT, Commands
from agenthuman_plugins.client.redaction import redact

if TYPE_CHECKING:
    from agenthuman_plugins.client import Usage
    from agenthuman_plugins.client.models import MinuteAccount


def add(commands: Commands) -> None:
    """Add the command."""
    usage = commands.add_parser(
        "usage",
        help="show minutes, limits and plan",
        description="Show minutes, limits and plan.",
        environment=ACCOUNT,
        examples=("agenthuman usage", "agenthuman usage --json | jq .total_remaining"),
    )
    add_json(usage)
    usage.set_defaults(run=_run, extra="cli")


def _run(args: argparse.Namespace) -> None:
    with connect() as client:
        usage = client.usage.get()
    if args.json:
        print_json(redact(usage.model_dump(mode="json")))
    else:
        print_facts(_facts(usage))


def _facts(usage: "Usage") -> dict[str, str]:
    plan, slots, period = usage.plan, usage.concurrency, usage.period
    return {
        "plan": (plan and (plan.name or plan.key)) or NOTHING,
        "period": NOTHING if period is None else f"{day(period.start)} to {day(period.end)}",
        "minutes left": count(usage.total_remaining),
        "  included": _minutes(usage.included_minutes),
        "  purchased": _minutes(usage.purchased_minutes),
        "sessions running": NOTHING if slots is None else f"{count(slots.current)} of {count(slots.max)}",
        "minutes running": count(usage.active_minutes),
        "avatars per period": _limit(usage),
    }


def _minutes(account: "MinuteAccount | None") -> str:
    return NOTHING if account is None else f"{count(account.remaining)} of {count(account.total)}"


def _limit(usage: "Usage") -> str:
    if usage.avatars is None:
        return NOTHING
    return "without limit" if usage.avatars.limit is None else count(usage.avatars.limit)
