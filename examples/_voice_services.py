"""What the voice agent's example stands on: a model, a voice, ears and rooms, each with and without a key."""

import asyncio
import io
import os
import re
import uuid
import wave
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from _offline import service
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from agenthuman_plugins import LiveKitRoom
from agenthuman_plugins.client import ConfigurationError
from agenthuman_plugins.client.rooms import AVATAR_IDENTITY

EARS_RATE = 16_000  # Hz, of the microphone
_WORD_PAUSE_S = 0.08  # a model that writes about four times as fast as it is spoken
_LOUD = 600  # of 32,768: a voice near the microphone is louder, a quiet room is not
_BEGIN_S, _PAUSE_S = 0.2, 0.7  # of voice that begins a turn, of silence that ends it
_LIMIT_S = 30.0


def _openai() -> tuple[str, str] | None:
    """Address and key of the OpenAI-compatible server, if there is a key."""
    key = os.environ.get("OPENAI_API_KEY")
    address = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    return (address.rstrip("/"), key) if key else None


# --- the model


class Script(BaseChatModel):
    """A model that knows a few answers, and its own last words."""

    @property
    def _llm_type(self) -> str:
        return "script"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        answer = AIMessage(content=reply_to(messages))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in re.findall(r"\S+\s*", reply_to(messages)):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
            await asyncio.sleep(_WORD_PAUSE_S)


def reply_to(messages: list[BaseMessage]) -> str:
    """The script's answer to a conversation."""
    user = next((m.text for m in reversed(messages) if isinstance(m, HumanMessage)), "").lower()
    if "did you" in user and "say" in user:
        said = next((m.text for m in reversed(messages) if isinstance(m, AIMessage)), "nothing yet")
        return f"The last thing that you heard from me was: {said}"
    if "story" in user:
        return (
            "Once upon a time there was a fox who lived at the edge of a very quiet forest. Every morning she walked"
            " down to the river, and every morning a sleepy dog lay across the path. She could have walked around"
            " him. Instead she jumped, each day a little higher, until one day the dog opened his eyes and asked her"
            " to teach him. They have been jumping together ever since."
        )
    if "bye" in user:
        return "Goodbye! It was nice to talk to you."
    return "I have only a short script. Ask me for a story, interrupt it, and then ask what you heard me say."


def make_model() -> BaseChatModel:
    """The model of `OPENAI_MODEL` if there is a key for it, else the script."""
    if _openai() is None:
        return Script()
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - only with a key

    return init_chat_model(os.environ.get("OPENAI_MODEL") or "gpt-4o-mini", model_provider="openai")


# --- the voice


class Voice(Protocol):
    """Makes speech of a text: 16-bit mono PCM at its rate, in pieces."""

    sample_rate: int

    def __call__(self, text: str, /) -> AsyncIterator[bytes]:
        """Speak a text."""
        ...


class OfflineVoice:
    """The emulator's voice."""

    sample_rate = 16_000

    def __init__(self) -> None:
        from agenthuman_plugins.emulator.voice import Voice as Synthesizer  # noqa: PLC0415 - only without a key

        self._synthesizer = Synthesizer()

    def __call__(self, text: str, /) -> AsyncIterator[bytes]:
        """Speak a text."""
        return self._synthesizer.stream(text)


class OpenAIVoice:
    """Speech from `POST /audio/speech`, passed on while it arrives."""

    sample_rate = 24_000

    def __init__(self, address: str, key: str) -> None:
        self._address, self._key = address, key

    async def __call__(self, text: str, /) -> AsyncIterator[bytes]:
        """Speak a text."""
        order = {"model": "gpt-4o-mini-tts", "voice": "alloy", "response_format": "pcm", "input": text}
        headers = {"Authorization": f"Bearer {self._key}"}
        async with (
            httpx.AsyncClient(timeout=_LIMIT_S) as http,
            http.stream("POST", f"{self._address}/audio/speech", headers=headers, json=order) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                yield piece


def make_voice() -> Voice:
    """The voice of the OpenAI-compatible server if there is a key, else the offline one."""
    server = _openai()
    return OfflineVoice() if server is None else OpenAIVoice(*server)


# --- the ears


class Ears:
    """Speech-to-text for a microphone: tells when the user begins to speak, and what they said.

    Its limits: a turn ends with a pause, and loudness alone tells a voice from noise.
    """

    def __init__(self) -> None:
        self._server = _openai()
        self._turn = bytearray()
        self._loud_s = self._quiet_s = 0.0
        self._speaking = False

    @property
    def understand(self) -> bool:
        """Whether words are understood; else they only interrupt."""
        return self._server is not None

    async def hear(self, pcm: bytes) -> dict[str, Any] | None:
        """Take the next piece of sound and return what it means, if anything."""
        seconds = len(pcm) / 2 / EARS_RATE
        loud = max(map(abs, array("h", pcm)), default=0) > _LOUD
        self._loud_s, self._quiet_s = (
            (self._loud_s + seconds, 0.0) if loud else (0.0, self._quiet_s + seconds)
        )
        self._turn += pcm
        if not self._speaking:
            del self._turn[: -2 * EARS_RATE // 2]  # half a second, so that the first word is whole
            if self._loud_s < _BEGIN_S:
                return None
            self._speaking = True
            return {"type": "stt_chunk", "transcript": "…"}
        if self._quiet_s < _PAUSE_S:
            return None
        turn, self._turn, self._speaking = bytes(self._turn), bytearray(), False
        words = await self._transcribe(turn)
        return {"type": "stt_output", "transcript": words} if words else None

    async def _transcribe(self, pcm: bytes) -> str:
        if self._server is None:
            return ""
        sound = io.BytesIO()
        with wave.open(sound, "wb") as file:
            file.setparams((1, 2, EARS_RATE, 0, "NONE", ""))
            file.writeframes(pcm)
        address, key = self._server
        async with httpx.AsyncClient(timeout=_LIMIT_S) as http:
            answer = await http.post(
                f"{address}/audio/transcriptions",
                headers={"Authorization": f"Bearer {key}"},
                data={"model": "whisper-1"},
                files={"file": ("turn.wav", sound.getvalue())},
            )
        answer.raise_for_status()
        return str(answer.json()["text"]).strip()


# --- the rooms


@dataclass(frozen=True, slots=True, repr=False)
class Place:
    """A room for a conversation, and the token with which the page's viewer joins it."""

    room: LiveKitRoom
    viewer_token: str


@asynccontextmanager
async def rooms() -> AsyncIterator[tuple[dict[str, Any], Callable[[], Place]]]:
    """What a toolkit needs to find the service, and a function that makes rooms."""
    async with service() as where:
        if os.environ.get("AGENTHUMAN_API_KEY"):
            yield where, _own_room
            return

        from agenthuman_plugins.emulator.rooms import RoomServer  # noqa: PLC0415 - only without a key

        async with await RoomServer.start() as server:

            def make() -> Place:
                room, agent = f"talk-{uuid.uuid4()}", "agent"
                of_avatar = {"lk.publish_on_behalf": agent}
                avatar = server.mint(room=room, identity=AVATAR_IDENTITY, kind="agent", attributes=of_avatar)
                tokens = {"avatar_token": avatar, "agent_token": server.mint(room=room, identity=agent)}
                return Place(LiveKitRoom(server.url, **tokens), server.mint(room=room, identity="viewer"))

            yield where, make


def _own_room() -> Place:
    """A room on the LiveKit server of the environment."""
    names = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
    url, key, secret = (os.environ.get(name, "") for name in names)
    if not (url and key and secret):
        raise ConfigurationError(f"The avatar needs a room of your LiveKit server: set {', '.join(names)}.")
    room = f"talk-{uuid.uuid4()}"
    viewer = LiveKitRoom.mint(url, key, secret, room, agent_identity="viewer")
    return Place(LiveKitRoom.mint(url, key, secret, room), str(viewer.agent_token))
