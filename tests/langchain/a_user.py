"""A process with a toolkit: `python -m tests.langchain.a_user`.

The first line of its input is JSON: the toolkit's settings. Each further one is a call of a tool: its `name`, its
`arguments`, and the `thread` and `call_id` that an agent would run it in. It answers each with a line of JSON.
The end of its input is the end of its block.
"""

import json
import sys

from agenthuman_plugins.client import LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.langchain.conftest import runtime

ROOM = LiveKitRoom("wss://rooms.example.com", "seeded-room-token")


def main() -> None:
    lines = iter(sys.stdin.readline, "")
    with AgentHumanToolkit(room=ROOM, **json.loads(next(lines))) as toolkit:
        tools = {tool.name: tool for tool in toolkit.get_tools()}
        for line in lines:
            call = json.loads(line)
            context = runtime(call["thread"], call["call_id"], checkpointer=object())
            wish = {"name": call["name"], "id": call["call_id"], "type": "tool_call"}
            message = tools[call["name"]].invoke({**wish, "args": {**call["arguments"], "runtime": context}})
            told = {"status": message.status, "content": message.content, "artifact": message.artifact}
            sys.stdout.write(f"{json.dumps(told)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
