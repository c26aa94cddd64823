"""What the reader of the page about voice agents has: the stages of LangChain's guide, and a web page."""

from collections.abc import AsyncIterator
from typing import Any

config = {"configurable": {"thread_id": "ada"}}


class WebSocket:
    """A page that reads nothing."""

    async def send_json(self, event: Any) -> None:
        pass


async def _stage(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for event in events:
        yield event


async def _nobody_speaks() -> AsyncIterator[bytes]:
    return
    yield


websocket = WebSocket()
stt_stream = agent_stream = tts_stream = _stage
audio = _nobody_speaks()
