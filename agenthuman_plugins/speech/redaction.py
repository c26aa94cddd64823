"""Keeps access tokens out of logs and error texts.

A LiveKit server may repeat a refused token in its answer, and older signalling carries it in the query of its
URLs. LiveKit's client puts both into its errors and logs them, as warnings and errors too.
"""

import logging
import re
from collections import deque

_JWT = re.compile(r"\beyJ[\w-]*\.[\w-]+\.[\w-]*")
_QUERY = re.compile(r"\?\S+")
_REDACTED = "[redacted]"

# Most tokens are told by their form; the latest ones are also known by heart, for those that are not.
_tokens: deque[str] = deque(maxlen=64)


def redact(text: str) -> str:
    """Return the text without tokens and without queries of URLs."""
    for token in _tokens:
        text = text.replace(token, _REDACTED)
    return _QUERY.sub(f"?{_REDACTED}", _JWT.sub(_REDACTED, text))


def keep_out_of_logs(token: str) -> None:
    """Redact a token, from now on, in everything that LiveKit's client logs.

    For good, because its log records come in batches, even after the connection is closed.
    """
    if token and token not in _tokens:
        _tokens.append(token)
    logging.getLogger("livekit").addFilter(_filter)


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, None
        return True


_filter = _Redacting()
