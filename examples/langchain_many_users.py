"""One agent for many users, whose sessions last for as long as each conversation does.

python examples/langchain_many_users.py
"""

import asyncio
from typing import Any

from _offline import SESSION, ScriptedModel, run, service, show, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.client import Session
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        AIMessage("Can you see me?"),
        wish("agent_human_get_session", session_id=SESSION),
        AIMessage("I am still here."),
    ]
)


# --8<-- [start:route]
pages: dict[str | None, asyncio.Queue[Session]] = {"ada": asyncio.Queue(), "bob": asyncio.Queue()}


async def invite(session: Session, request: SessionRequest) -> None:
    """Send the session, with its room, to the page of the user whose conversation it is."""
    await pages[request.thread_id].put(session)


def describe(request: SessionRequest) -> dict[str, str]:
    """Say at the service whose session it is."""
    return {"app": "support-bot", "user": str(request.thread_id)}
    # --8<-- [end:route]


# --8<-- [start:conversation]
async def converse(agent: Any, toolkit: AgentHumanToolkit, user: str) -> list[BaseMessage]:
    """Answer two messages of a user. The session stays open between them."""
    state: dict[str, Any] = {}
    thread: RunnableConfig = {"configurable": {"thread_id": user}}
    try:
        for text in ("Show yourself, please.", "I cannot see you."):
            state = await agent.ainvoke({"messages": [HumanMessage(text)]}, thread)
    finally:
        await toolkit.aend_sessions(user)  # the sessions of this thread, and of no other
    return list(state["messages"])
    # --8<-- [end:conversation]


async def main() -> None:
    async with (
        service(media=False, plan="explorer") as where,
        # One toolkit for as long as the process serves; leaving the block ends what is left.
        AgentHumanToolkit(on_session=invite, metadata=describe, **where) as toolkit,
    ):
        agent = create_agent(MODEL, toolkit.get_tools(), checkpointer=InMemorySaver())
        users = ("ada", "bob")
        conversations = await asyncio.gather(*[converse(agent, toolkit, user) for user in users])
    for user, messages in zip(users, conversations, strict=True):
        print(f"[{user}] The page got {pages[user].qsize()} session.")
        show(messages)


if __name__ == "__main__":
    run(main())
