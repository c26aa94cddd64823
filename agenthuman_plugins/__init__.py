"""Agent Human talking-head avatars for LangChain agents and Pipecat voice bots.

Names are loaded at their first use: `import agenthuman_plugins` alone loads neither httpx nor pydantic.
"""

from agenthuman_plugins._version import __version__

# Type checkers know it by its name; loading `typing` would take longer than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agenthuman_plugins.client import AgentHuman, AgentHumanError, AsyncAgentHuman, DailyRoom, LiveKitRoom

__all__ = [
    "AgentHuman",
    "AgentHumanError",
    "AsyncAgentHuman",
    "DailyRoom",
    "LiveKitRoom",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    # An explicit list, so that a misspelt name does not pay for the import before it fails.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agenthuman_plugins import client  # noqa: PLC0415 - loading late is the point

    return getattr(client, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
