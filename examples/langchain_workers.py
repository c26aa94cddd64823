"""A session outlives the process that opened it: another worker speaks through it, and ends it.

    python examples/langchain_workers.py

Without LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET it starts a LiveKit server on this machine.
"""

import os
from typing import Any

from _offline import SESSION, ScriptedModel, guest, livekit, run, service, show, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins import LiveKitRoom
from agenthuman_plugins.emulator.voice import SAMPLE_RATE, Voice
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        wish("agent_human_say", session_id=SESSION, text="Hello! The first worker speaks."),
        AIMessage("Can you hear me?"),
        wish("agent_human_list_sessions"),
        wish("agent_human_say", session_id=SESSION, text="Now the second worker speaks."),
        wish("agent_human_end_session", session_id=SESSION),
        AIMessage("Goodbye!"),
    ]
)


def voice(text: str) -> tuple[bytes, int]:
    """Make speech with the offline voice."""
    return Voice().synthesize(text), SAMPLE_RATE


# --8<-- [start:room]
def room_of(request: SessionRequest) -> LiveKitRoom:
    """Make a room for a new session; for one of another worker, new tokens for the room that it is in."""
    room = LiveKitRoom.mint(
        os.environ["LIVEKIT_URL"],
        os.environ["LIVEKIT_API_KEY"],
        os.environ["LIVEKIT_API_SECRET"],
        request.room_name or f"support-{request.thread_id}",
        agent_identity=request.agent_identity,  # None for a new session: mint chooses one
    )
    print(
        f"[application] {'New' if request.session is None else 'Known'} session in {room.name} at {room.url}."
    )
    return room
    # --8<-- [end:room]


def new_toolkit(where: dict[str, Any]) -> AgentHumanToolkit:
    """Make the toolkit of a worker; all workers of the application make theirs alike."""
    return AgentHumanToolkit(
        namespace="support-bot",
        room=room_of,
        tts=voice,
        end_on_exit=False,  # a worker that stops leaves the conversations to the others
        max_idle_secs=300,  # but no session is forgotten while one of them runs
        **where,
    )


async def main() -> None:
    checkpointer = InMemorySaver()  # stands for one that all workers share, such as PostgresSaver
    async with livekit(), guest("support-ada"), service() as where:
        for text in ("Show yourself, please.", "Yes. Goodbye!"):
            async with new_toolkit(where) as toolkit:  # a new one knows as little as another process
                agent = create_agent(MODEL, toolkit.get_tools(), checkpointer=checkpointer)
                state = await agent.ainvoke(
                    {"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": "ada"}}
                )
    show(state["messages"])


if __name__ == "__main__":
    run(main())
