"""One agent for many users, whose sessions last for as long as each conversation does.

python examples/langchain_many_users.py
"""

import asyncio
from typing import Any

from _offline import SESSION, ScriptedModel, run, service, show, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.langchain import AgentHumanToolkit

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        AIMessage("Can you see me?"),
        wish("agent_human_get_session", session_id=SESSION),
        AIMessage("I am still here."),
    ]
)


# --8<-- [start:conversation]
async def converse(agent: Any, toolkit: AgentHumanToolkit, user: str) -> None:
    """Answer two messages of a user. The session stays open between them."""
    thread: RunnableConfig = {"configurable": {"thread_id": user}}
    try:
        for text in ("Show yourself, please.", "I cannot see you."):
            state = await agent.ainvoke({"messages": [HumanMessage(text)]}, thread)
    finally:
        await toolkit.aend_sessions(user)  # the sessions of this thread, and of no other
    print(f"[{user}]")
    show(state["messages"])
    # --8<-- [end:conversation]


async def main() -> None:
    # --8<-- [start:process]
    async with (
        service(media=False, plan="explorer") as where,
        # One toolkit for as long as the process serves; leaving the block ends what is left.
        AgentHumanToolkit(**where) as toolkit,
    ):
        agent = create_agent(MODEL, toolkit.get_tools(), checkpointer=InMemorySaver())
        await asyncio.gather(
            converse(agent, toolkit, "ada"),
            converse(agent, toolkit, "bob"),
        )
    # --8<-- [end:process]


if __name__ == "__main__":
    run(main())
