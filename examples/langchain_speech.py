"""The avatar speaks with the voice of OpenAI, or of any server that speaks its protocol.

python examples/langchain_speech.py                     a local server stands in; needs no key
OPENAI_API_KEY=... python examples/langchain_speech.py  OPENAI_BASE_URL names another server
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx
from _offline import SESSION, ScriptedModel, run, service, show, tell_room, wish
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage

from agenthuman_plugins.langchain import AgentHumanToolkit

MODEL = ScriptedModel(
    script=[
        wish("agent_human_create_session"),
        wish("agent_human_say", session_id=SESSION, text="Hello! How do I sound?"),
        wish("agent_human_end_session", session_id=SESSION),
        AIMessage("That was my new voice."),
    ]
)


# --8<-- [start:adapter]
class OpenAISpeech:
    """Speech from `POST /audio/speech`, passed on while it arrives.

    Args:
        api_key: Key of the server.
        base_url: Its address, with `/v1`.
        model: Model that speaks.
        voice: Name of the voice.
    """

    sample_rate = 24_000  # Hz: what `pcm` means there, in 16-bit mono samples

    def __init__(
        self,
        api_key: str,
        base_url: str = "https://api.openai.com/v1",
        *,
        model: str = "gpt-4o-mini-tts",
        voice: str = "alloy",
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/audio/speech"
        self._local = urlsplit(base_url).hostname in {"127.0.0.1", "localhost"}
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._order = {"model": model, "voice": voice, "response_format": "pcm"}

    async def __call__(self, text: str) -> AsyncIterator[bytes]:
        """Speak a text, piece by piece."""
        async with (
            httpx.AsyncClient(timeout=20, trust_env=not self._local) as http,  # no proxy on this machine
            http.stream(
                "POST", self._url, headers=self._headers, json={**self._order, "input": text}
            ) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                yield piece

    # --8<-- [end:adapter]


@asynccontextmanager
async def stand_in() -> AsyncIterator[str]:
    """Serve the protocol on this machine, with the offline voice."""
    from aiohttp import web  # noqa: PLC0415 - comes with the emulator
    from livekit import rtc  # noqa: PLC0415

    from agenthuman_plugins.emulator.voice import SAMPLE_RATE, Voice  # noqa: PLC0415

    async def speech(request: web.Request) -> web.Response:
        order = await request.json()
        resampler = rtc.AudioResampler(SAMPLE_RATE, OpenAISpeech.sample_rate)
        pcm = bytearray(Voice().synthesize(order["input"]))  # within milliseconds
        frames = [*resampler.push(pcm), *resampler.flush()]
        return web.Response(body=b"".join(frame.data.tobytes() for frame in frames))

    app = web.Application()
    app.router.add_post("/v1/audio/speech", speech)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def main() -> None:
    async with AsyncExitStack() as stack:
        key = os.environ.get("OPENAI_API_KEY")
        if key:
            tts = OpenAISpeech(key, os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1")
        else:
            tts = OpenAISpeech("not-needed", await stack.enter_async_context(stand_in()))
        where = await stack.enter_async_context(service())
        toolkit = await stack.enter_async_context(AgentHumanToolkit(tts=tts, on_session=tell_room, **where))
        agent = create_agent(MODEL, toolkit.get_tools())
        state = await agent.ainvoke({"messages": [HumanMessage("Let me hear you.")]})
    show(state["messages"])


if __name__ == "__main__":
    run(main())
