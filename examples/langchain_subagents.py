"""Several agents and one avatar: a subagent opens it, and agents hand it over to one another.

python examples/langchain_subagents.py
"""

from typing import Any

from _offline import SESSION, ScriptedModel, run, service, show, tell_room, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import MessagesState, StateGraph

from agenthuman_plugins.langchain import AgentHumanToolkit

OPEN, END = "agent_human_create_session", "agent_human_end_session"
PRESENTER = ScriptedModel(script=[wish(OPEN), AIMessage("The avatar is there.")])
HOST = ScriptedModel(
    script=[
        wish("present", topic="our new shoes"),
        wish("agent_human_list_sessions"),
        wish(END, session_id=SESSION),
        AIMessage("That was the presentation."),
    ]
)
RECEPTION = ScriptedModel(script=[wish(OPEN), AIMessage("I put you through to an expert.")])
# The first two messages of their conversation are the reception's.
EXPERT = ScriptedModel(script=[*RECEPTION.script, wish(END, session_id=SESSION), AIMessage("Goodbye!")])
THREAD: RunnableConfig = {"configurable": {"thread_id": "ada"}}


async def subagent(where: dict[str, Any]) -> None:
    async with AgentHumanToolkit(on_session=tell_room, **where) as toolkit:
        presenter = create_agent(PRESENTER, toolkit.get_tools(), name="presenter")

        @tool
        async def present(topic: str) -> str:
            """Present something to the user by video."""
            state = await presenter.ainvoke({"messages": [HumanMessage(topic)]})
            return str(state["messages"][-1].text)

        host = create_agent(HOST, [present, *toolkit.get_tools()], name="host")
        state = await host.ainvoke({"messages": [HumanMessage("What is new?")]}, THREAD)
    show(state["messages"])


async def hand_off(where: dict[str, Any]) -> None:
    async with AgentHumanToolkit(scope="thread", on_session=tell_room, **where) as toolkit:
        graph = StateGraph(MessagesState)
        graph.add_node("reception", create_agent(RECEPTION, toolkit.get_tools()))
        graph.add_node("expert", create_agent(EXPERT, toolkit.get_tools()))
        graph.add_edge("__start__", "reception")
        graph.add_edge("reception", "expert")
        state = await graph.compile().ainvoke({"messages": [HumanMessage("I have a question.")]}, THREAD)
    show(state["messages"])


async def main() -> None:
    async with service(media=False, plan="explorer") as where:
        print("[a subagent opens the session, its caller ends it]")
        await subagent(where)
        print("[one agent hands the conversation over to another]")
        await hand_off(where)


if __name__ == "__main__":
    run(main())
