"""Keeps access tokens out of what LiveKit's client says.

A LiveKit server may repeat a refused token in its answer, and older signalling carries it in the query of its
URLs. LiveKit's client puts both into its errors and logs them, as warnings and errors too.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from agenthuman_plugins.client import redaction

_NAME = "livekit"  # of the topmost of its loggers
_USUAL = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime", "taskName"}

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
    _watch_livekit()


def _watch_livekit() -> None:
    """See to it that every record of LiveKit's loggers is redacted before a handler gets it.

    A filter of a logger does not see the records of the loggers below it, whose own handlers come first. So each of
    them has the filter, those that are made later have their records redacted when these are made, and what is added
    to such a record after that (`extra`) is redacted when it reaches the topmost of LiveKit's loggers.
    """
    log = logging.getLogger(_NAME)
    for name, child in list(logging.root.manager.loggerDict.items()):
        if isinstance(child, logging.Logger) and _is_livekit(name):
            child.addFilter(_redacting)
    if _first not in log.handlers:
        # Its warnings are the program's to show: one that has set up no logging does not get them on its terminal.
        log.addHandler(_first)
        log.handlers.insert(0, log.handlers.pop())
    if not _Redacting.makes_records:
        _Redacting.makes_records = True
        logging.setLogRecordFactory(_factory(logging.getLogRecordFactory()))


def _is_livekit(name: object) -> bool:
    return isinstance(name, str) and (name == _NAME or name.startswith(f"{_NAME}."))


def _factory(before: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def make_record(*args: Any, **options: Any) -> logging.LogRecord:
        record = before(*args, **options)
        if _is_livekit(record.name):
            _redact_record(record)
        return record

    return make_record


def _redact_record(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - whatever the arguments do, logging would show them in its own report of it
        message = f"{record.msg} {record.args}"
        record.msg, record.args = redact(message), None
    if (redacted := redact(message)) != message:
        record.msg, record.args = redacted, None
    if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
        told = record.exc_text or logging.Formatter().formatException(record.exc_info)
        if (redacted := redact(told)) != told:
            # A formatter takes this text; the exception itself would be formatted anew by some.
            record.exc_info, record.exc_text = None, redacted
    if record.stack_info:
        record.stack_info = redact(record.stack_info)
    for key in record.__dict__.keys() - _USUAL:
        told = str(record.__dict__[key])
        if (redacted := redact(told)) != told:
            record.__dict__[key] = redacted


class _Redacting(logging.Filter):
    makes_records = False  # whether records are redacted when they are made

    def filter(self, record: logging.LogRecord) -> bool:
        _redact_record(record)
        return True


class _First(logging.Handler):
    """Shows nothing; the handlers after it get the record as it leaves it."""

    def handle(self, record: logging.LogRecord) -> bool:
        _redact_record(record)
        return True


_redacting = _Redacting()
_first = _First()
