"""An agent whose avatar stays from one message to the next, on whatever worker that is answered."""

import os

from avatar import toolkit
from langchain.agents import create_agent

agent = create_agent(
    os.environ.get("MODEL", "openai:gpt-5-mini"),
    toolkit.get_tools(),
    system_prompt="You have a face: open it when you are asked for it, and speak through it.",
)
