"""The account that commands ask."""

import os
from typing import TYPE_CHECKING

from agenthuman_plugins.cli._errors import CommandError

if TYPE_CHECKING:
    from agenthuman_plugins.client import AgentHuman

_KEY = "AGENTHUMAN_API_KEY"


def missing_key() -> str | None:
    """What is wrong if the environment has no key."""
    if os.environ.get(_KEY, "").strip():
        return None
    return f"No API key: {_KEY} is set but empty." if _KEY in os.environ else f"No API key: set {_KEY}."


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
