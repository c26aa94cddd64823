"""An agent that may open one session in a run, of ten minutes at most, whatever its model wants.

python examples/langchain_limits.py
"""

from _offline import ScriptedModel, run, service, show, tell_room, wish
from langchain.agents import create_agent
from langchain.agents.middleware import ToolCallLimitMiddleware
from langchain_core.messages import HumanMessage

from agenthuman_plugins.langchain import AgentHumanToolkit

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        wish("agent_human_create_session"),
    ]
)


async def main() -> None:
    async with (
        service(media=False, plan="explorer") as where,
        AgentHumanToolkit(
            max_session_secs=600,  # ten minutes in all
            max_idle_secs=120,  # two minutes in which the agent does nothing with it
            on_session=tell_room,
            **where,
        ) as toolkit,
    ):
        one_session = ToolCallLimitMiddleware(
            tool_name="agent_human_create_session",
            run_limit=1,
        )
        agent = create_agent(MODEL, toolkit.get_tools(), middleware=[one_session])
        state = await agent.ainvoke({"messages": [HumanMessage("Show yourself twice.")]})
    show(state["messages"])


if __name__ == "__main__":
    run(main())
