"""A person approves each session before it is opened, since it is billed.

python examples/langchain_approval.py
"""

import asyncio
from typing import Any

from _offline import SESSION, ScriptedModel, run, service, show, tell_room, wish
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from agenthuman_plugins.langchain import AgentHumanToolkit

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        wish("agent_human_end_session", session_id=SESSION),
        AIMessage("Done."),
    ]
)


# --8<-- [start:decide]
async def decide(request: dict[str, Any]) -> dict[str, Any]:
    """Ask the person at the terminal about one tool call."""
    question = f"{request['name']} {request['args']}\nOpen it? It is billed by the minute. [y/N] "
    try:
        answer = await asyncio.to_thread(input, question)  # input() alone would block the event loop
    except (EOFError, OSError, RuntimeError):  # no terminal, so nobody approves it
        answer = ""
    if answer.strip().lower() == "y":
        return {"type": "approve"}
    return {"type": "reject", "message": "The user does not want a video session. Do not ask again."}
    # --8<-- [end:decide]


async def main() -> None:
    async with service(media=False) as where, AgentHumanToolkit(on_session=tell_room, **where) as toolkit:
        agent = create_agent(
            MODEL,
            toolkit.get_tools(),
            middleware=[HumanInTheLoopMiddleware({"agent_human_create_session": True})],
            checkpointer=InMemorySaver(),  # keeps the run while it waits
        )
        thread: RunnableConfig = {"configurable": {"thread_id": "ada"}}
        state = await agent.ainvoke({"messages": [HumanMessage("Show yourself.")]}, thread)
        while pauses := state.get("__interrupt__"):
            requests = pauses[0].value["action_requests"]
            decisions = [await decide(request) for request in requests]
            state = await agent.ainvoke(Command(resume={"decisions": decisions}), thread)
    show(state["messages"])


if __name__ == "__main__":
    run(main())
