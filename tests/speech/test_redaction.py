import io
import json
import logging
import uuid

import pytest

from agenthuman_plugins.client.redaction import MASK
from agenthuman_plugins.speech.redaction import keep_out_of_logs, redact

# In pieces, so that no search for committed tokens stops here.
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiJib3QifQ.c2lnbmF0dXJl-_"


def test_tokens_are_told_by_their_form():
    """A token that we were never told of is redacted too."""
    assert (
        redact(f"401 Unauthorized - invalid token: {JWT}, expired")
        == f"401 Unauthorized - invalid token: {MASK}, expired"
    )


def test_queries_of_urls_are_dropped():
    """Older signalling carries the token in the query."""
    said = "ws://host/rtc?access_token=abc&sdk=python failed"
    assert redact(said) == f"ws://host/rtc?{MASK}&{MASK} failed"


def test_plain_text_stays():
    """What holds no secret is told as it is."""
    assert redact("engine: signal failure: connection refused (os error 111)") == (
        "engine: signal failure: connection refused (os error 111)"
    )


def test_known_tokens_are_kept_out_of_the_logs(caplog):
    """A token of any form, in the arguments of a record too."""
    keep_out_of_logs("an odd token")
    caplog.set_level(logging.DEBUG)
    logging.getLogger("livekit").warning("refused %s and %s", "an odd token", JWT)
    logging.getLogger("livekit").info("%d participants", 2)
    assert caplog.messages == [f"refused {MASK} and {MASK}", "2 participants"]
    assert "odd" not in repr(caplog.records[0].__dict__)


def refuse() -> None:
    raise ConnectionError(f"ws://host/rtc?access_token={JWT}")


def log_everything(logger: logging.Logger, *, extra: dict | None = None) -> None:
    """Log a token in every part that a record has."""
    logger.warning("refused %s", "an odd token")
    logger.error("task exception: %s", 7, exc_info=ValueError("an odd token"))
    try:
        try:
            refuse()
        except ConnectionError as error:
            raise ValueError("no room") from error
    except ValueError:
        logger.exception("failed to emit event", extra=extra)
    options = {"func": "f", "sinfo": "Stack:\n  join('an odd token')"}
    logger.handle(logger.makeRecord(logger.name, logging.INFO, "f.py", 1, "stack", (), None, **options))
    logger.warning("%d participants", "an odd token")  # a message that cannot be made


class Everything(logging.Formatter):
    """Shows all that there is in a record, as formatters for JSON do."""

    def format(self, record: logging.LogRecord) -> str:
        told = super().format(record)
        return told + json.dumps(record.__dict__, default=repr)


@pytest.fixture
def shown():
    """A handler, and what it has shown."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Everything())
    return handler, stream


@pytest.mark.parametrize("made", ["before", "after"])
@pytest.mark.parametrize("below", ["", ".rtc.synchronizer"])
@pytest.mark.parametrize("handler_of", ["root", "livekit", "itself"])
def test_nothing_of_a_record_holds_a_token(made, below, handler_of, shown, capfd):
    """Neither message, exception, stack nor extras, of LiveKit's logger and of those below it, whoever handles it."""
    name = f"livekit.{uuid.uuid4().hex}{below}"
    if made == "before":
        logger = logging.getLogger(name)
    keep_out_of_logs("an odd token")
    logger = logging.getLogger(name)
    handler, stream = shown
    owner = {"root": logging.getLogger(), "livekit": logging.getLogger("livekit"), "itself": logger}[
        handler_of
    ]
    owner.addHandler(handler)
    raising, logging.raiseExceptions = logging.raiseExceptions, True
    try:
        # Between a logger that is made later and a handler of its own there is nobody to see what is added.
        seen = handler_of != "itself" or made == "before"
        extra = {"url": f"ws://h/?a={JWT}", "said": ["an odd token"]}
        log_everything(logger, extra=extra if seen else None)
    finally:
        owner.removeHandler(handler)
        logging.raiseExceptions = raising
    told = stream.getvalue() + capfd.readouterr().err
    assert "refused" in told
    assert "no room" in told
    assert "participants" in told
    assert "join(" in told
    assert "an odd token" not in told
    assert JWT not in told


def test_exception_without_a_secret_stays(caplog):
    """Whoever reports exceptions gets the exception itself."""
    keep_out_of_logs("an odd token")
    logging.getLogger("livekit").error("failed", exc_info=ValueError("no room"))
    assert isinstance(caplog.records[0].exc_info[1], ValueError)


def test_records_of_others_are_left_alone(caplog):
    """Only LiveKit's loggers are watched."""
    keep_out_of_logs("an odd token")
    logging.getLogger("livekitten").warning("an odd token")
    assert caplog.messages == ["an odd token"]


def test_watching_twice_changes_nothing():
    """Each link asks for it."""
    for _ in range(3):
        keep_out_of_logs("an odd token")
    log = logging.getLogger("livekit")
    assert len([handler for handler in log.handlers if type(handler).__name__ == "_First"]) == 1
