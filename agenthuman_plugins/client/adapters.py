"""What adapters of frameworks need of the client beside its public names. Not for applications."""

from typing import TYPE_CHECKING, Any

from agenthuman_plugins.client._answers import HINTS
from agenthuman_plugins.client._background import CLOSE_S, to_the_end
from agenthuman_plugins.client._calls.checks import json_object
from agenthuman_plugins.client._config import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_S, resolve
from agenthuman_plugins.client._owner import CLIENT_OWNER
from agenthuman_plugins.client.errors import AgentHumanError, SessionOutcomeUnknownError
from agenthuman_plugins.client.models import CLIENT_REF
from agenthuman_plugins.client.redaction import redact

if TYPE_CHECKING:
    from agenthuman_plugins.client._async.client import AsyncAgentHuman
    from agenthuman_plugins.client._sync.client import AgentHuman

__all__ = [
    "CLIENT_OWNER",
    "MARKS",
    "asettle",
    "credentials",
    "holds_secret",
    "json_object",
    "settle",
    "to_the_end",
    "what_happened",
]

MARKS = frozenset({CLIENT_REF, CLIENT_OWNER})  # keys of the metadata that are the client's own


def credentials(api_key: str | None, base_url: str | None) -> tuple[str, str]:
    """Key and address as a client would take them, without making one.

    Raises:
        ConfigurationError: The key is missing, or a value makes no sense.
    """
    settings = resolve(
        api_key=api_key,
        base_url=base_url,
        timeout=DEFAULT_TIMEOUT_S,
        max_retries=DEFAULT_MAX_RETRIES,
        clock=None,
    )
    return settings.api_key.get(), settings.base_url


def settle(client: "AgentHuman") -> None:
    """Wait, for a while, until what calls opened that were given up has ended."""
    client._driver.settle(CLOSE_S)  # noqa: SLF001 - of this package


async def asettle(client: "AsyncAgentHuman") -> None:
    """Wait, for a while, until what calls opened that were given up on this loop has ended."""
    await client._driver.settle(CLOSE_S)  # noqa: SLF001 - of this package


def what_happened(error: AgentHumanError) -> str:
    """The text of an error without advice that only a programmer can follow, for a reader who cannot."""
    if isinstance(error, SessionOutcomeUnknownError):
        cause = error.__cause__
        because = f" What happened: {what_happened(cause)}" if isinstance(cause, AgentHumanError) else ""
        return (
            "The answer to a create was lost, and no session of it was found. It may still appear, and would be "
            f"billed (reference {error.client_ref}).{because}"
        )
    said = str(error)
    for hint in HINTS.values():
        said = said.replace(f" {hint}", "")
    return said


def holds_secret(value: Any) -> bool:
    """Whether JSON-like `value` holds what looks like a key or a token. The query of a URL alone is none."""
    plain = _without_queries(value)
    return bool(redact(plain) != plain)


def _without_queries(value: Any) -> Any:
    match value:
        case str():
            return value.replace("?", " ").replace("&", " ")
        case dict():
            return {key: _without_queries(item) for key, item in value.items()}
        case _:
            return value
