"""Who answers: a small script, or a language model when there is a key for one."""

import asyncio
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

_WORD_PAUSE_S = 0.02  # fifty words a second, about what a hosted model streams

GREETING = "Hello! I am an avatar on your own machine. Type something, and I will answer."
_INSTRUCTION = (
    "You are a friendly talking avatar in a demo. Everything you write is spoken aloud:"
    " answer in one to three short sentences of plain text, without markup or emoji."
)


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    reply: str


def _rule(pattern: str, reply: str) -> _Rule:
    return _Rule(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), reply)


# The first that fits answers, so the special ones come first.
_RULES = (
    _rule(
        r"what did i (?:say|ask)|my last (?:question|message)",
        "Before that you said: {user_before}",
    ),
    _rule(
        r"what did you (?:just )?say|what have you said|repeat|say (?:it|that) again",
        "The last thing that you heard from me was: {bot_before}",
    ),
    _rule(
        r"count",
        "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. And that was ten.",
    ),
    _rule(
        r"story|tale|long",
        "Once upon a time there was a fox who lived at the edge of a very quiet forest. Every morning she walked"
        " down to the river, and every morning a sleepy dog lay across the path. She could have walked around him."
        " Instead she jumped, each day a little higher, until one day the dog opened his eyes and asked her to"
        " teach him. They have been jumping together ever since.",
    ),
    _rule(
        r"how does (?:it|this|that) work|explain|pipeline",
        "Your text goes into a Pipecat pipeline. My answer is turned into speech, and the speech is streamed to an"
        " avatar in a LiveKit room. The avatar's video and voice come back in step, and are sent to this page.",
    ),
    _rule(
        r"interrupt|stop",
        "Ask me for a story, and press the Interrupt button in the middle of it. Then ask me what I just said:"
        " I remember only the words that you heard.",
    ),
    _rule(
        r"who are you|what are you|your name",
        "I am a drawn face from the local emulator, and my answers come from a short script. With an API key of"
        " Agent Human you would see a real person in my place, and the code would stay the same.",
    ),
    _rule(
        r"mic|microphone|hear me|listen",
        "With the microphone on I stop when you speak. To understand your words I need a key for speech to text.",
    ),
    _rule(r"key|openai|model|llm", "Set OPENAI_API_KEY before you start the demo, and a real model answers."),
    _rule(
        r"thanks|thank you|great|cool|nice|wow",
        "Thank you! You are welcome to look at the code: it is short.",
    ),
    _rule(r"bye|goodbye", "Goodbye! It was nice to talk to you."),
    _rule(
        r"hi|hello|hey|good (?:morning|evening|day)",
        "Hello! Ask me who I am, how this works, or for a story.",
    ),
)
_OTHERWISE = (
    "You said: {user} I have only a short script. Ask me how this works, ask me for a story, or let me count."
)


def reply_to(messages: Iterable[Any]) -> str:
    """Return the script's reply to a conversation in the messages of an `LLMContext`."""
    said: dict[str, list[str]] = {"user": [], "assistant": []}
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            said.get(message["role"], []).append(message["content"].strip())
    user = said["user"][-1] if said["user"] else ""
    reply = next((rule.reply for rule in _RULES if rule.pattern.search(user)), _OTHERWISE)
    return reply.format(
        user=_sentence(user),
        user_before=_sentence(said["user"][-2] if len(said["user"]) > 1 else "nothing yet"),
        bot_before=_sentence(said["assistant"][-1] if said["assistant"] else "nothing yet"),
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


class ScriptedAssistant(FrameProcessor):
    """Stands where the LLM service stands: takes the context and streams a reply, word by word."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context; everything else passes. An interruption cancels the answer."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self._answer(frame.context)
        else:
            await self.push_frame(frame, direction)

    async def _answer(self, context: LLMContext) -> None:
        await self.push_frame(LLMFullResponseStartFrame())
        for word in re.findall(r"\S+\s*", reply_to(context.get_messages())):
            await self.push_frame(LLMTextFrame(word))
            await asyncio.sleep(_WORD_PAUSE_S)
        await self.push_frame(LLMFullResponseEndFrame())


def openai_key() -> str | None:
    """The key for an OpenAI-compatible model and for speech-to-text, if there is one."""
    return os.environ.get("OPENAI_API_KEY") or None


def make_assistant() -> FrameProcessor:
    """Make the language model's service when `OPENAI_API_KEY` is set, else the script.

    `OPENAI_BASE_URL` and `OPENAI_MODEL` are respected.
    """
    key = openai_key()
    if key is None:
        return ScriptedAssistant()
    from pipecat.services.openai.llm import OpenAILLMService  # noqa: PLC0415 - 0.6 s that the script does not need

    settings = OpenAILLMService.Settings(system_instruction=_INSTRUCTION)
    if model := os.environ.get("OPENAI_MODEL"):
        settings.model = model
    return OpenAILLMService(
        api_key=key, base_url=os.environ.get("OPENAI_BASE_URL") or None, settings=settings
    )


def make_ears() -> FrameProcessor | None:
    """Make the speech-to-text service when there is a key for it."""
    key = openai_key()
    if key is None:
        return None
    from pipecat.services.openai.stt import OpenAISTTService  # noqa: PLC0415 - as above

    return OpenAISTTService(api_key=key, base_url=os.environ.get("OPENAI_BASE_URL") or None)
