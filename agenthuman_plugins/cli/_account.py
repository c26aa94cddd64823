"""The account that commands ask."""

import os
from typing import TYPE_CHECKING

from agenthuman_plugins.cli._errors import CommandError
from agenthuman_plugins.client.errors import AgentHumanError

if TYPE_CHECKING:
    from agenthuman_plugins.client import AgentHuman

_KEY = "AGENTHUMAN_API_KEY"
# What the client advises to programs, and the same for a command line.
_ADVICE = {
    "the api_key argument, else ": "",
    "the base_url argument, else ": "",
    "usage.get()": "`agenthuman usage`",
}


def missing_key() -> str | None:
    """What is wrong if the environment has no key."""
    if os.environ.get(_KEY, "").strip():
        return None
    return f"No API key: {_KEY} is set but empty." if _KEY in os.environ else f"No API key: set {_KEY}."


def explained(error: AgentHumanError) -> str:
    """What an error says, with advice that fits the command line."""
    text = str(error)
    for for_programs, here in _ADVICE.items():
        text = text.replace(for_programs, here)
    return text


def connect() -> "AgentHuman":
    """Make a client.

    Raises:
        CommandError: There is no key. The client's own advice is for programs.
    """
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    if missing := missing_key():
        raise CommandError(
            f"{missing} Without an account, `agenthuman emulator` runs a service on this machine."
        )
    return AgentHuman()
