"""A graph for a LangGraph server: the toolkit's block is around each run.

In langgraph.json: {"dependencies": ["."], "graphs": {"agent": "./langchain_graph.py:make_graph"}}
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langchain.agents import create_agent
from langgraph.graph.state import CompiledStateGraph

from agenthuman_plugins.langchain import AgentHumanToolkit

MODEL = os.environ.get("MODEL", "openai:gpt-5-mini")


@asynccontextmanager
async def make_graph() -> AsyncIterator[CompiledStateGraph[Any, Any, Any, Any]]:
    """Make the graph of one run; what the run leaves open is ended after it."""
    async with AgentHumanToolkit() as toolkit:
        yield create_agent(MODEL, toolkit.get_tools())
