"""The five usual tools, on a service in memory and a speech link in this process."""

from collections.abc import Iterable
from typing import Any

import httpx
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.client.conftest import API_KEY, ROOM, FakeService, Time

CREATE = "agent_human_create_session"
GET = "agent_human_get_session"
LIST = "agent_human_list_sessions"
END = "agent_human_end_session"
SAY = "agent_human_say"
AVATARS = "agent_human_list_avatars"
USAGE = "agent_human_get_usage"
TOOLS = (CREATE, GET, LIST, END, SAY)
OF_ONE_SESSION: dict[str, dict[str, Any]] = {GET: {}, END: {}, SAY: {"text": "Hello."}}
"""Tools that take a session id, with their other arguments."""


def by_name(toolkit: AgentHumanToolkit) -> dict[str, BaseTool]:
    """The tools of a toolkit."""
    return {tool.name: tool for tool in toolkit.get_tools()}


def silence(text: str) -> tuple[bytes, int]:
    """A voice without a synthesiser: 10 ms for each letter."""
    return bytes(320 * len(text)), 16_000


def speak_in_process(toolkit: AgentHumanToolkit) -> AgentHumanToolkit:
    """Let the say tool speak to an avatar in this process instead of in a room."""
    toolkit._made.make_link = lambda *_: InProcessSpeechLink(width=2, height=2, fps=50)
    return toolkit


def all_tools(service: FakeService, **options: Any) -> AgentHumanToolkit:
    """A toolkit with every tool on a service in memory."""
    transport, clock = httpx.MockTransport(service.handle), Time().clock()
    return speak_in_process(
        AgentHumanToolkit(
            client=AgentHuman(api_key=API_KEY, http_client=httpx.Client(transport=transport), _clock=clock),
            async_client=AsyncAgentHuman(
                api_key=API_KEY, http_client=httpx.AsyncClient(transport=transport), _clock=clock
            ),
            **{"room": ROOM, "tts": silence, **options},
        )
    )


def told(messages: Iterable[Any]) -> list[ToolMessage]:
    """What the tools said in a run."""
    return [message for message in messages if isinstance(message, ToolMessage)]
