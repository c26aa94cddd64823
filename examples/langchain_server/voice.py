"""The avatar's voice."""

import os
from collections.abc import AsyncIterator

import httpx


class OpenAIVoice:
    """Speech from `POST /audio/speech`, passed on while it arrives."""

    sample_rate = 24_000  # Hz: what `pcm` means there, in 16-bit mono samples

    async def __call__(self, text: str) -> AsyncIterator[bytes]:
        """Speak a text, piece by piece."""
        url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
        order = {"model": "gpt-4o-mini-tts", "voice": "alloy", "response_format": "pcm", "input": text}
        headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
        async with (
            httpx.AsyncClient(timeout=20, headers=headers) as http,
            http.stream("POST", f"{url}/audio/speech", json=order) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                yield piece
