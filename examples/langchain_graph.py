"""A graph for a LangGraph server: the toolkit's block is around each run.

    python examples/langchain_graph.py    one run, as the server would do it, on a local emulator

In langgraph.json: {"dependencies": ["."], "graphs": {"agent": "./langchain_graph.py:make_graph"}}
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from _offline import ScriptedModel, run, service, show, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph.state import CompiledStateGraph

from agenthuman_plugins.langchain import AgentHumanToolkit

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        AIMessage("There I was."),
    ]
)


# --8<-- [start:graph]
@asynccontextmanager
async def make_graph() -> AsyncIterator[CompiledStateGraph[Any, Any, Any, Any]]:
    """Make the graph of one run; what the run leaves open is ended after it."""
    async with AgentHumanToolkit() as toolkit:
        yield create_agent(MODEL, toolkit.get_tools())
    # --8<-- [end:graph]


async def main() -> None:
    async with service(media=False) as where:
        if where:  # as `agenthuman emulator` would have you export them
            os.environ["AGENTHUMAN_API_KEY"] = where["api_key"]
            os.environ["AGENTHUMAN_BASE_URL"] = where["base_url"]
        async with make_graph() as graph:
            state = await graph.ainvoke({"messages": [HumanMessage("Show yourself.")]})
    show(state["messages"])


if __name__ == "__main__":
    run(main())
