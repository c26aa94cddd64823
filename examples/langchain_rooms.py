"""Each user sees the avatar in a room of their own, on your own LiveKit server.

    python examples/langchain_rooms.py

Without LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET it starts a LiveKit server on this machine.
"""

import asyncio
import os

from _offline import SESSION, ScriptedModel, enter, livekit, run, service, show, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins import LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        AIMessage("Here I am."),
        wish("agent_human_end_session", session_id=SESSION),
        AIMessage("Goodbye!"),
    ]
)


# --8<-- [start:room]
def room_of(request: SessionRequest) -> LiveKitRoom:
    """Make the avatar's and the agent's tokens for the room where the user waits."""
    room = LiveKitRoom.mint(
        os.environ["LIVEKIT_URL"],
        os.environ["LIVEKIT_API_KEY"],
        os.environ["LIVEKIT_API_SECRET"],
        f"support-{request.thread_id}",
    )
    print(f"[application] The avatar is sent to {room.name} at {room.url}.")
    return room
    # --8<-- [end:room]


async def main() -> None:
    async with (
        livekit(),
        service(plan="explorer") as where,
        AgentHumanToolkit(room=room_of, **where) as toolkit,
    ):
        agent = create_agent(MODEL, toolkit.get_tools(), checkpointer=InMemorySaver())

        async def tell(user: str, text: str) -> list[BaseMessage]:
            state = await agent.ainvoke(
                {"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": user}}
            )
            return list(state["messages"])

        users = ("ada", "bob")
        await asyncio.gather(*[tell(user, "I would like to see you.") for user in users])
        await enter("Wait for a face on the page, then press Enter.")
        conversations = await asyncio.gather(*[tell(user, "Thank you. Goodbye!") for user in users])
    for user, messages in zip(users, conversations, strict=True):
        print(f"[{user}]")
        show(messages)


if __name__ == "__main__":
    run(main())
