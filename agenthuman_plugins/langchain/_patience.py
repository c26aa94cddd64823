"""How long the application's voice is waited for, and what the model is told when it fails."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator

from agenthuman_plugins.client.redaction import MASK, redact
from agenthuman_plugins.langchain._spoken import SayError
from agenthuman_plugins.langchain._tts import VoiceError

_log = logging.getLogger("agenthuman_plugins.langchain")

_PIECE_LIMIT_S = 30.0  # for a voice to make the first, or the next, piece of speech
_FAREWELL_LIMIT_S = 5.0
_REASON_LIMIT = 200  # characters of somebody else's error text
# Any long word with digits in it may be a key of the application's speech provider.
_KEY = re.compile(r"(?=[\w-]*\d)[\w-]{20,}")


async def in_time(speech: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield speech as it is made, and tell what keeps it from being made."""
    while True:
        try:
            async with asyncio.timeout(_PIECE_LIMIT_S) as limit:
                pcm = await anext(speech, None)
        except VoiceError as error:
            _log.error("The tts cannot be used: %s", error)
            raise SayError(
                f"The application's voice is broken: {error} Do not retry; tell the user in writing."
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever the application's voice raises, the model is told
            reason = f"nothing came for {_PIECE_LIMIT_S:g} s" if limit.expired() else _reason(error)
            _log.warning("The voice could not be made: %s", reason)
            raise SayError(
                f"The voice could not be made: {reason}. Trying again once may help; else tell the user in writing."
            ) from None
        if pcm is None:
            return
        yield pcm


def _reason(error: Exception) -> str:
    """The first line of an error without what may be a key: it is of a library that we do not know."""
    text = str(redact(str(error).strip().partition("\n")[0]))
    return _KEY.sub(MASK, text)[:_REASON_LIMIT].rstrip(".") or type(error).__name__


async def give_up(speech: AsyncIterator[bytes]) -> None:
    """End a voice that was given up; what it has to say to that is of no interest any more."""
    if (aclose := getattr(speech, "aclose", None)) is not None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_FAREWELL_LIMIT_S):
                await aclose()
