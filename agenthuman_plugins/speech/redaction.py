"""Keeps access tokens out of what LiveKit's client says.

A LiveKit server may repeat a refused token in its answer, and older signalling carries it in the query of its
URLs. LiveKit's client puts both into its errors and logs them, as warnings and errors too.
"""

import logging
from collections import deque

from agenthuman_plugins.client import redaction

# Most tokens are told by their form; the latest ones are also known by heart, for those that are not.
_tokens: deque[str] = deque(maxlen=64)


def redact(text: str) -> str:
    """Return the text without tokens and without what the queries of its URLs say."""
    return str(redaction.redact(text, _tokens))


def keep_out_of_logs(token: str) -> None:
    """Redact a token, from now on, in everything that LiveKit's client logs.

    For good, because its log records come in batches, even after the connection is closed.
    """
    if token and token not in _tokens:
        _tokens.append(token)
    log = logging.getLogger("livekit")
    log.addFilter(_filter)
    # Its warnings are the program's to show: one that has set up no logging does not get them on its terminal.
    log.addHandler(_nowhere)


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, None
        return True


_filter = _Redacting()
_nowhere = logging.NullHandler()
