"""A worker of an application: `python -m tests.langchain.identity.a_worker`.

The first line of its input is JSON, the namespace and scope of its toolkit. Each further one is a call: in which way,
thread and agent, and the wish itself. It answers each with a line of JSON.
"""

import asyncio
import json
import sys

from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.langchain.identity.owners import own_room
from tests.langchain.identity.ways import WAYS, Scene
from tests.langchain.toolbox import silence, speak_in_process


async def main() -> None:
    settings = json.loads(sys.stdin.readline())
    toolkit = speak_in_process(AgentHumanToolkit(room=own_room, tts=silence, **settings))
    saver = InMemorySaver()
    async with toolkit:
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            scene = Scene(toolkit.get_tools(), asked["thread"], asked["agent"], saver)
            (message,) = await WAYS[asked["way"]].carry(scene, [asked["wish"]])
            told = {"status": message.status, "content": message.content, "artifact": message.artifact}
            sys.stdout.write(f"{json.dumps(told)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
