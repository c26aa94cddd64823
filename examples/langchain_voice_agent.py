"""A LangChain voice agent with a face: speak or type in a page, and interrupt it while it speaks.

python examples/langchain_voice_agent.py [--port 8030]

Without a key a script answers, in an offline voice, through the emulator's avatar: pip install
'agenthuman-plugins[langchain,demo]' langchain. With OPENAI_API_KEY (OPENAI_BASE_URL and OPENAI_MODEL are
respected) a model answers, and the microphone is understood: pip install langchain-openai. With AGENTHUMAN_API_KEY the
avatar is the real one, in a room of your LiveKit server: LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET.
"""

import argparse
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

from _offline import run
from _voice_page import Guest, serve_page
from _voice_services import Voice, make_model, make_voice, rooms
from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from agenthuman_plugins.langchain import AgentHumanToolkit, AvatarStage, heard_only

INSTRUCTION = (
    "You are heard, not read: answer in a few short sentences of plain text, without markup or emoji."
)
GREETING = "Hello! Ask me for a story, and interrupt me while I tell it."
SENTENCE = re.compile(r"\s*\S.*?[.!?…]+(?=\s)", re.DOTALL)

Events = AsyncIterator[dict[str, Any]]


class VoiceAgent:
    """The stages of one conversation, and the pipeline that they make.

    Args:
        stage: The last stage, the avatar's.
        voice: Makes speech of text.
        agent: Answers.
        config: Names the conversation.
    """

    def __init__(self, stage: AvatarStage, voice: Voice, agent: Any, config: RunnableConfig) -> None:
        self._stage = stage
        self._voice = voice
        self._agent = agent
        self._config = config

    # --8<-- [start:pipeline]
    def run(self, user: Events) -> Events:
        """What happens in the conversation, from the events of speech-to-text on."""
        heard = self._stage.listen(user)  # hears the user while the agent is busy
        return self._stage(self.speak(self.answer(heard)))

    # --8<-- [end:pipeline]

    # --8<-- [start:agent]
    async def answer(self, events: Events) -> Events:
        """The agent: answers each turn of the user with its text, as it comes."""
        async for event in events:
            yield event
            if event["type"] != "stt_output":
                continue
            await self.keep_what_was_heard()
            question = {"messages": [HumanMessage(event["transcript"])]}
            async for part, _ in self._agent.astream(question, self._config, stream_mode="messages"):
                if isinstance(part, AIMessageChunk) and part.text:
                    yield {"type": "agent_chunk", "text": part.text}
            yield {"type": "agent_end"}

    # --8<-- [end:agent]

    # --8<-- [start:history]
    async def keep_what_was_heard(self) -> None:
        """Cut the last answer to the words that the user heard, if it was interrupted."""
        heard = await self._stage.heard()
        if heard is not None:
            state = await self._agent.aget_state(self._config)
            changes = heard_only(state.values.get("messages", []), heard)
            await self._agent.aupdate_state(self._config, {"messages": changes})

    # --8<-- [end:history]

    # --8<-- [start:voice]
    async def speak(self, events: Events) -> Events:
        """The voice: speaks sentence by sentence."""
        text = ""
        async for event in events:
            if event["type"] != "agent_end":
                yield event
            if event["type"] == "agent_chunk":
                text += event["text"]
                while sentence := SENTENCE.match(text):
                    text = text[sentence.end() :]
                    async for pcm in self._voice(sentence[0]):
                        yield {"type": "tts_chunk", "audio": pcm}
            elif event["type"] == "agent_end":
                if text.strip():
                    async for pcm in self._voice(text):
                        yield {"type": "tts_chunk", "audio": pcm}
                text = ""
                yield event

    # --8<-- [end:voice]


async def user_events(guest: Guest) -> Events:
    """A greeting, then what the user says, until they leave."""
    yield {"type": "agent_chunk", "text": GREETING}
    yield {"type": "agent_end"}
    async for event in guest.said():
        yield event


async def main(port: int) -> None:
    voice = make_voice()
    agent = create_agent(make_model(), system_prompt=INSTRUCTION, checkpointer=InMemorySaver())
    async with rooms() as (where, make_room):
        # --8<-- [start:converse]
        async def converse(guest: Guest) -> None:
            """Talk with one guest; when this is over, the session is."""
            thread = str(uuid.uuid4())
            config: RunnableConfig = {"configurable": {"thread_id": thread}}
            async with AgentHumanToolkit(room=guest.room, **where) as toolkit:
                stage = AvatarStage(toolkit, sample_rate=voice.sample_rate, thread_id=thread)
                guest.on_interrupt = stage.interrupt
                events = VoiceAgent(stage, voice, agent, config).run(user_events(guest))
                async with contextlib.aclosing(stage):
                    async for event in events:
                        guest.tell(event)

        # --8<-- [end:converse]

        await serve_page(converse, make_room, port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Talk to a LangChain agent with a face.")
    parser.add_argument("--port", type=int, default=8030, help="of the page (0: one that is free)")
    with contextlib.suppress(KeyboardInterrupt):
        run(main(parser.parse_args().port))
