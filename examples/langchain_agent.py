"""A LangChain agent that opens a talking avatar, speaks through it, and ends it.

python examples/langchain_agent.py                         on a local emulator; needs no key
AGENTHUMAN_API_KEY=... python examples/langchain_agent.py  on the real service, which bills a minute
"""

from _offline import SESSION, ScriptedModel, run, service, show, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage

from agenthuman_plugins.client import Session
from agenthuman_plugins.emulator.voice import SAMPLE_RATE, Voice
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        wish("agent_human_say", session_id=SESSION, text="Hello, Ada! Good to see you."),
        wish("agent_human_end_session", session_id=SESSION),
        AIMessage("There I was. Goodbye!"),
    ]
)


# --8<-- [start:voice]
def voice(text: str) -> tuple[bytes, int]:
    """Make speech: 16-bit mono samples, and their rate in Hz. This voice needs no network."""
    return Voice().synthesize(text), SAMPLE_RATE
    # --8<-- [end:voice]


def invite(session: Session, request: SessionRequest) -> None:
    """Get each session before the model learns of it; the model never gets the room."""
    if session.room is not None:
        print(f"[application] The avatar of {request.tool_call_id} is in the room at {session.room.url}.")


async def main() -> None:
    async with (
        service() as where,  # an emulator, unless there is a key
        AgentHumanToolkit(tts=voice, on_session=invite, **where) as toolkit,
    ):
        agent = create_agent(MODEL, toolkit.get_tools())
        ask = HumanMessage("Show yourself and greet Ada.")
        state = await agent.ainvoke({"messages": [ask]})
    show(state["messages"])


if __name__ == "__main__":
    run(main())
