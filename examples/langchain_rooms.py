"""Each customer sees the avatar in a room of their own, on your own LiveKit server.

    python examples/langchain_rooms.py

Without LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET nobody joins the rooms: only the sessions are opened.
"""

import asyncio
import os
from functools import partial

from _offline import SESSION, ScriptedModel, run, service, show, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage

from agenthuman_plugins import AsyncAgentHuman, LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        wish("agent_human_end_session", session_id=SESSION),
        AIMessage("Goodbye!"),
    ]
)


# --8<-- [start:room]
def room_of(customer: str) -> LiveKitRoom:
    """Make the avatar's and the agent's tokens for the room where the customer waits."""
    room = LiveKitRoom.mint(
        os.environ.get("LIVEKIT_URL", "ws://127.0.0.1:7880"),
        os.environ.get("LIVEKIT_API_KEY", "devkey"),
        os.environ.get("LIVEKIT_API_SECRET", "secret"),
        f"support-{customer}",
    )
    print(f"[application] The avatar is sent to support-{customer} at {room.url}.")
    return room
    # --8<-- [end:room]


# --8<-- [start:serve]
async def serve(customer: str, client: AsyncAgentHuman) -> None:
    """Answer one customer; when this is over, so is every session that was opened for them."""
    async with AgentHumanToolkit(async_client=client, room=partial(room_of, customer)) as toolkit:
        agent = create_agent(MODEL, toolkit.get_tools())
        state = await agent.ainvoke({"messages": [HumanMessage("I would like to see you.")]})
    print(f"[{customer}]")
    show(state["messages"])
    # --8<-- [end:serve]


async def main() -> None:
    # --8<-- [start:client]
    async with (
        service(media="LIVEKIT_URL" in os.environ, plan="explorer") as where,
        # One client for all customers: they share its connections.
        AsyncAgentHuman(
            api_key=where.get("api_key"),
            base_url=where.get("base_url"),
        ) as client,
    ):
        await asyncio.gather(serve("ada", client), serve("bob", client))
    # --8<-- [end:client]


if __name__ == "__main__":
    run(main())
