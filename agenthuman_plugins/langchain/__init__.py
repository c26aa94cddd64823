"""Agent Human sessions as LangChain tools. Needs `langchain-core` alone."""

from agenthuman_plugins.langchain._toolkit import AgentHumanToolkit

__all__ = ["AgentHumanToolkit"]
