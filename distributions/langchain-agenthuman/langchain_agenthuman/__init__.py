"""Agent Human for LangChain: the names of `agenthuman_plugins.langchain` under LangChain's package name."""

from typing import TYPE_CHECKING, Any

from agenthuman_plugins import langchain as _langchain

if TYPE_CHECKING:
    from agenthuman_plugins.langchain import *  # noqa: F403 - the same names for type checkers

__all__ = list(_langchain.__all__)


def __getattr__(name: str) -> Any:
    # Not imported at once: the middleware needs langchain, the toolkit langchain-core alone.
    return getattr(_langchain, name)
