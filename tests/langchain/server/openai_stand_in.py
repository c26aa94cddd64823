"""What speaks OpenAI's protocol in these tests: a model that does what the user's words say, and a voice that hums."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

SPEECH_S = 0.4
_RATE = 24_000
_SESSION = re.compile(r"sess_\w+")


@asynccontextmanager
async def openai_stand_in() -> AsyncIterator[str]:
    """Serve it on this machine; yields its address."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _complete)
    app.router.add_post("/v1/audio/speech", _speak)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def _speak(_: web.Request) -> web.Response:
    return web.Response(body=b"\x00\x20\x00\xe0" * round(_RATE * SPEECH_S / 2))


async def _complete(request: web.Request) -> web.Response:
    messages = (await request.json())["messages"]
    message: dict[str, Any] = {"role": "assistant", "content": "Done."}
    if messages[-1]["role"] == "user":
        name, arguments = _wish(messages)
        # This model numbers its calls anew in each turn, as some do.
        function = {"name": name, "arguments": json.dumps(arguments)}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "stand-in",
            "choices": [choice],
        }
    )


def _wish(messages: list[dict[str, Any]]) -> tuple[str, dict[str, str]]:
    """The tool that the user's first word means, for the session that was spoken of last."""
    word, _, text = messages[-1]["content"].partition(" ")
    ids = [found for message in messages for found in _SESSION.findall(str(message["content"]))]
    session = {"session_id": ids[-1]} if ids else {}
    return {
        "open": ("agent_human_create_session", {}),
        "list": ("agent_human_list_sessions", {}),
        "say": ("agent_human_say", {**session, "text": text}),
        "end": ("agent_human_end_session", session),
    }[word]
